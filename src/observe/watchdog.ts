// The watchdog ping means real progress, not that a timer fired: commits are answered (with success or error), the
// schedulers of the adapters turn, and the event loop runs, since it is the event loop that pings.

import type { Clock } from '../core/clock.ts';
import type { ServiceManager } from '../platform/systemd.ts';
import type { Telemetry } from './events.ts';

export interface ProgressFacts {
  /** Appends that wait for a commit. None waiting is progress enough: an idle gateway is alive. */
  readonly waitingAppends: number;
  /** Monotonic ms at which the last commit was answered. */
  readonly lastCommitAnsweredMs: number;
  /** Schedulers with the monotonic ms of their last sign of life; undefined: it has none to give. */
  readonly schedulers: readonly { readonly name: string; readonly lastProgressMs: number | undefined }[];
}

export interface WatchdogOptions {
  readonly clock: Clock;
  readonly manager: Pick<ServiceManager, 'watchdogMs' | 'alive'>;
  readonly telemetry: Telemetry;
  readonly facts: () => ProgressFacts;
  /** One line for `systemctl status`. */
  readonly statusLine: () => string;
}

export interface Watchdog {
  start(): void;
  stop(): void;
  /** What makes no progress, in words; empty when all is well. */
  stalled(): readonly string[];
}

/** Longest time without an answered commit while appends wait, and without a sign of life of a scheduler. */
export const STALLED_AFTER_MS = 60_000;
/** How often progress is looked at when systemd asks for no pings. */
const LOOK_PERIOD_MS = 10_000;

export function createWatchdog({ clock, manager, telemetry, facts, statusLine }: WatchdogOptions): Watchdog {
  let waitingSinceMs: number | undefined;
  let cancel: (() => void) | undefined;
  const periodMs = manager.watchdogMs === undefined ? LOOK_PERIOD_MS : manager.watchdogMs / 2;

  function stalled(): readonly string[] {
    const { waitingAppends, lastCommitAnsweredMs, schedulers } = facts();
    const nowMs = clock.monotonicMs();
    const reasons: string[] = [];
    // An append that arrives after a quiet day must not be judged by the commit of the day before.
    waitingSinceMs = waitingAppends === 0 ? undefined : (waitingSinceMs ?? nowMs);
    if (waitingSinceMs !== undefined) {
      const silentMs = nowMs - Math.max(waitingSinceMs, lastCommitAnsweredMs);
      if (silentMs > STALLED_AFTER_MS) {
        reasons.push(
          `No commit was answered for ${Math.round(silentMs / 1000)} s while ${waitingAppends} appends wait.`,
        );
      }
    }
    for (const { name, lastProgressMs } of schedulers) {
      const silentMs = lastProgressMs === undefined ? 0 : nowMs - lastProgressMs;
      if (silentMs > STALLED_AFTER_MS) {
        reasons.push(`The scheduler of ${name} gave no sign of life for ${Math.round(silentMs / 1000)} s.`);
      }
    }
    return reasons;
  }

  function look(): void {
    const reasons = stalled();
    if (reasons.length > 0) telemetry.emit('watchdog_withheld', { reasons });
    else if (manager.watchdogMs !== undefined) manager.alive(statusLine());
    cancel = clock.after(periodMs, look);
  }

  return {
    start() {
      if (cancel === undefined) look();
    },
    stop() {
      cancel?.();
      cancel = undefined;
    },
    stalled,
  };
}
