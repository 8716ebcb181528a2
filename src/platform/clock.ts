// The system's clocks. Wall time is never trusted more than what systemd's time services say of it.

import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { ClockQuality, Timestamp } from '../core/time.ts';
import { abortError } from './abort.ts';

/** Touched by systemd-timesyncd at each synchronisation; not removed when it is lost later (systemd-timesyncd.service). */
const TIMESYNC_FILE = '/run/systemd/timesync/synchronized';
const RTC_FOLDER = '/sys/class/rtc/rtc0';
/** Quality is looked up at most this often. */
const QUALITY_AGE_MS = 1000;
/** The time service is asked after so long, twice as long each time that it is not synchronised, … */
const PROBE_FIRST_MS = 5000;
const PROBE_LAST_MS = 300_000;
/** … and so seldom once it is. */
const PROBE_SYNCED_MS = 3_600_000;
/** A wall clock before this was never set: 2025-01-01. */
const NEVER_SET_BEFORE_MS = 1_735_689_600_000;

/**
 * What hrtime (CLOCK_MONOTONIC, the same for all processes of a boot) said when performance.now() began. The latter runs by
 * the same clock and makes no objects.
 */
const PROCESS_START_MS = ((): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6 - performance.now();
})();

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

/** FIELDPOST_CLOCK_QUALITY lets a container, which sees no time service, say what its host knows. */
function toldQuality(): ClockQuality | undefined {
  const told = process.env['FIELDPOST_CLOCK_QUALITY'];
  return told === 'synced' || told === 'rtc' || told === 'restored' || told === 'unknown' ? told : undefined;
}

function detectQuality(isSynchronised: boolean): ClockQuality {
  const told = toldQuality();
  if (told !== undefined) return told;
  if (isSynchronised || exists(TIMESYNC_FILE)) return 'synced';
  if (Date.now() < NEVER_SET_BEFORE_MS) return 'unknown';
  if (exists(RTC_FOLDER)) return 'rtc';
  return 'restored';
}

export interface SystemClockOptions {
  /** Asks the time service where no mark tells (`probeSynchronised`); without it only the mark counts. */
  readonly probe?: () => Promise<boolean | undefined>;
}

export class SystemClock implements Clock {
  readonly bootId = readBootId();
  #quality: ClockQuality = 'unknown';
  #qualityAtMs = Number.NEGATIVE_INFINITY;
  readonly #probe: SystemClockOptions['probe'];
  #probing: Promise<void> | undefined;
  #isProbed = false;
  #isSynchronised = false;
  #nextProbeMs = Number.NEGATIVE_INFINITY;
  #probeDelayMs = PROBE_FIRST_MS;

  constructor(options: SystemClockOptions = {}) {
    this.#probe = options.probe;
  }

  wallMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return PROCESS_START_MS + performance.now();
  }

  quality(): ClockQuality {
    const now = this.monotonicMs();
    if (now - this.#qualityAtMs >= QUALITY_AGE_MS) {
      this.#askService(now);
      this.#quality = detectQuality(this.#isSynchronised);
      this.#qualityAtMs = now;
    }
    return this.#quality;
  }

  settling(): Promise<void> | undefined {
    if (this.#isProbed) return undefined;
    this.quality();
    return this.#probing;
  }

  /** In the background: the answer counts from the next look on. */
  #askService(nowMs: number): void {
    if (this.#probe === undefined || this.#probing !== undefined || nowMs < this.#nextProbeMs) return;
    if (toldQuality() !== undefined || exists(TIMESYNC_FILE)) return;
    this.#probing = this.#probe().then((isSynchronised) => {
      this.#probing = undefined;
      this.#isProbed = true;
      this.#qualityAtMs = Number.NEGATIVE_INFINITY;
      this.#isSynchronised = isSynchronised === true;
      const delayMs = this.#isSynchronised ? PROBE_SYNCED_MS : this.#probeDelayMs;
      this.#probeDelayMs = this.#isSynchronised ? PROBE_FIRST_MS : Math.min(this.#probeDelayMs * 2, PROBE_LAST_MS);
      this.#nextProbeMs = this.monotonicMs() + delayMs;
    });
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
