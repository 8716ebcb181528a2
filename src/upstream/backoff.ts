// Waits that double up to a ceiling, with jitter so that a fleet does not come back in step.

import type { Random } from '../platform/random.ts';

export interface BackoffOptions {
  /** Base of the first wait. */
  readonly initialMs: number;
  /** No wait is longer. */
  readonly ceilingMs: number;
  readonly random: Random;
}

/** A growing wait. `next` gives half to the whole of the present base and doubles it; `reset` starts over. */
export class Backoff {
  readonly #options: BackoffOptions;
  #attempts = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** Waits handed out since the last reset. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The next wait in ms; at least `atLeastMs`, where the peer named one. */
  next(atLeastMs = 0): number {
    const { initialMs, ceilingMs, random } = this.#options;
    // The exponent is capped so that a year of attempts does not reach infinity.
    const baseMs = Math.min(ceilingMs, initialMs * 2 ** Math.min(this.#attempts, 30));
    this.#attempts += 1;
    return Math.max(atLeastMs, baseMs * (0.5 + 0.5 * random.fraction()));
  }

  reset(): void {
    this.#attempts = 0;
  }
}
