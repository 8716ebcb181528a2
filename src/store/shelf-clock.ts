// The store's own clock: how long messages have lain on the shelf. It runs with the monotonic clock within a boot; over
// a restart in another boot it moves on by what the wall clock says, but only between two readings that can be trusted
// and never by more than half of the age limit, so that a step of the clock cannot expire the whole buffer at once.

import type { Clock } from '../core/clock.ts';
import type { Timestamp } from '../core/time.ts';

export interface ShelfReading {
  readonly shelfMs: number;
  readonly time: Timestamp;
}

/** Without an age limit there is nothing to protect; time off is still counted only so far. */
const LONGEST_OFF_MS = 365 * 24 * 3600 * 1000;

function trusted(time: Timestamp): boolean {
  return time.clock === 'synced' || time.clock === 'rtc';
}

export class ShelfClock {
  readonly #clock: Clock;
  readonly #startShelfMs: number;
  readonly #startMonotonicMs: number;

  /** Goes on from the newest reading that the store holds; undefined for a new store. */
  constructor(clock: Clock, last: ShelfReading | undefined, maxAgeSecs: number) {
    this.#clock = clock;
    const now = clock.now();
    this.#startMonotonicMs = now.monotonicMs;
    this.#startShelfMs = last === undefined ? 0 : last.shelfMs + offMs(last.time, now, maxAgeSecs);
  }

  nowMs(): number {
    return this.#startShelfMs + (this.#clock.monotonicMs() - this.#startMonotonicMs);
  }
}

function offMs(last: Timestamp, now: Timestamp, maxAgeSecs: number): number {
  if (last.bootId === now.bootId) return Math.max(0, now.monotonicMs - last.monotonicMs);
  // At least the time since this boot has passed.
  const sinceBootMs = Math.max(0, now.monotonicMs);
  if (!trusted(last) || !trusted(now)) return sinceBootMs;
  const longestMs = maxAgeSecs > 0 ? (maxAgeSecs * 1000) / 2 : LONGEST_OFF_MS;
  return Math.min(Math.max(now.wallMs - last.wallMs, sinceBootMs), Math.max(longestMs, sinceBootMs));
}
