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

  /** Takes that many, into debt if need be; the ms until the debt is paid, 0 when there is none. */
  take(count: number): number {
    if (this.#perSecond === 0) return 0;
    this.#refill();
    this.#tokens -= count;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1000;
  }

  #refill(): void {
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = now;
  }
}
