// The system's clocks. Wall time is never trusted more than what systemd's time services say of it.

import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { ClockQuality, Timestamp } from '../core/time.ts';
import { abortError } from './abort.ts';

/** Touched by systemd-timesyncd at each synchronisation; not removed when it is lost later (systemd-timesyncd.service). */
const TIMESYNC_FILE = '/run/systemd/timesync/synchronized';
/** Written by chronyd; a box that runs chrony is taken to be synchronised by it. */
const CHRONY_PID_FILE = '/run/chrony/chronyd.pid';
const RTC_FOLDER = '/sys/class/rtc/rtc0';
/** Quality is looked up at most this often. */
const QUALITY_AGE_MS = 1000;

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}

function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    // Not Linux: an id of this process start keeps timestamps of different runs apart.
    return `start-${Date.now().toString(36)}-${process.pid}`;
  }
}

function detectQuality(): ClockQuality {
  // FIELDPOST_CLOCK_QUALITY lets a container, which sees neither service, say what its host knows.
  const told = process.env['FIELDPOST_CLOCK_QUALITY'];
  if (told === 'synced' || told === 'rtc' || told === 'restored' || told === 'unknown') return told;
  if (exists(TIMESYNC_FILE) || exists(CHRONY_PID_FILE)) return 'synced';
  if (exists(RTC_FOLDER)) return 'rtc';
  return 'restored';
}

export class SystemClock implements Clock {
  readonly bootId = readBootId();
  #quality: ClockQuality = 'unknown';
  #qualityAtMs = Number.NEGATIVE_INFINITY;

  wallMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    // hrtime is CLOCK_MONOTONIC, the same for all processes of a boot; performance.now() counts from the process start.
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1000 + nanoseconds / 1e6;
  }

  quality(): ClockQuality {
    const now = this.monotonicMs();
    if (now - this.#qualityAtMs >= QUALITY_AGE_MS) {
      this.#quality = detectQuality();
      this.#qualityAtMs = now;
    }
    return this.#quality;
  }

  now(): Timestamp {
    return { bootId: this.bootId, monotonicMs: this.monotonicMs(), wallMs: Date.now(), clock: this.quality() };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError(signal));
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(new GatewayError('GW_ABORTED', 'Stopped on request.', { cause: signal?.reason }));
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  after(ms: number, callback: () => void): () => void {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  }
}
