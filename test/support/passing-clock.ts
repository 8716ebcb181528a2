// The real clock, with time that passes when a test says so.

import { SystemClock } from '../../src/platform/clock.ts';

export class PassingClock extends SystemClock {
  #passedMs = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.#passedMs;
  }

  /** From one moment to the next; timers go on as they did. */
  pass(ms: number): void {
    this.#passedMs += ms;
  }
}
