// A token bucket: so many a second, with a burst of one second's worth.

import type { Clock } from '#sdk';

export class TokenBucket {
  readonly #clock: Clock;
  readonly #perSecond: number;
  #tokens: number;
  #atMs: number;

  /** 0 a second: no limit. */
  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
    this.#atMs = clock.monotonicMs();
  }

  /** Takes that many when they are there. */
  spend(count: number): boolean {
    if (this.#perSecond === 0) return true;
    this.#refill();
    if (this.#tokens < count) return false;
    this.#tokens -= count;
    return true;
  }

  /** How many there are now. */
  get available(): number {
    if (this.#perSecond === 0) return Number.POSITIVE_INFINITY;
    this.#refill();
    return Math.floor(this.#tokens);
  }

  /** The ms until there are that many, at most one second's worth. */
  msUntil(count: number): number {
    if (this.#perSecond === 0) return 0;
    this.#refill();
    return (Math.max(0, Math.min(count, this.#perSecond) - this.#tokens) / this.#perSecond) * 1000;
  }

  #refill(): void {
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = now;
  }
}
