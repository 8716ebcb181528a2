// The brake on guessing: whoever gave wrong credentials hears the next "no" later and later, by address and by identity. A
// right credential always passes at once, so that nobody can lock others out by failing in their name or behind their router.

import type { Clock } from '../core/clock.ts';
import { LIMITS } from '../core/limits.ts';

/** Failures that cost nothing; several devices may share an address. */
const FREE = { identity: 4, address: 16 };
const FIRST_MS = 250;
const LONGEST_MS = 10_000;
/** Failures are forgotten one by one. */
const FORGET_MS = 30_000;

interface Guesses {
  count: number;
  atMs: number;
}

export interface Brake {
  /** Takes a failure down and waits as long as the answer has to. False: too many wait already, answer that instead. */
  refused(address: string, identity: string): Promise<boolean>;
  /** The identity proved itself from that address. */
  passed(address: string, identity: string): void;
  readonly remembered: number;
  readonly waiting: number;
}

export function createBrake(clock: Clock): Brake {
  /** The one that failed longest ago first. */
  const guesses = new Map<string, Guesses>();
  let waiting = 0;

  /** Failures of a key that are not forgotten yet, this one included. */
  function add(key: string): number {
    const now = clock.monotonicMs();
    const known = guesses.get(key);
    const forgotten = known === undefined ? 0 : Math.floor((now - known.atMs) / FORGET_MS);
    const count = Math.max(0, (known?.count ?? 0) - forgotten) + 1;
    guesses.delete(key);
    guesses.set(key, { count, atMs: now });
    if (guesses.size > LIMITS.hub_remembered_guesses) {
      const oldest = guesses.keys().next();
      if (oldest.done !== true) guesses.delete(oldest.value);
    }
    return count;
  }

  function delayMs(count: number, free: number): number {
    return count <= free ? 0 : Math.min(FIRST_MS * 2 ** Math.min(count - free - 1, 16), LONGEST_MS);
  }

  return {
    get remembered() {
      return guesses.size;
    },
    get waiting() {
      return waiting;
    },
    async refused(address, identity) {
      const ms = Math.max(
        delayMs(add(`identity ${identity}`), FREE.identity),
        delayMs(add(`address ${address}`), FREE.address),
      );
      if (ms === 0) return true;
      if (waiting >= LIMITS.hub_delayed_refusals) return false;
      waiting += 1;
      try {
        await clock.sleep(ms);
      } finally {
        waiting -= 1;
      }
      return true;
    },
    passed(_address, identity) {
      guesses.delete(`identity ${identity}`);
    },
  };
}
