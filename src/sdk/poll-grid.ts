// When polls are due: start + n * period, whatever the polls take, so that periods do not drift. Polls that could not
// start in their period are counted, never queued up.

export interface DuePoll {
  /** Monotonic ms. */
  readonly dueMs: number;
  /** Periods that passed without a poll since the previous one. */
  readonly missed: number;
}

/** Where the first two polls of a group lie. */
export interface PollGridOptions {
  readonly periodMs: number;
  /** Monotonic ms of the first poll. */
  readonly firstMs: number;
  /** At least 0, below 1: the group's place in the period, so that devices are spread over it. */
  readonly phase: number;
}

export class PollGrid {
  readonly periodMs: number;
  readonly #firstMs: number;
  readonly #originMs: number;
  /** Index of the newest poll on the grid; undefined before the first one, which lies beside the grid. */
  #index: number | undefined;
  #started = false;

  constructor({ periodMs, firstMs, phase }: PollGridOptions) {
    this.periodMs = periodMs;
    this.#firstMs = firstMs;
    // The first poll comes at once, the second half a period to one and a half later, the others by the grid.
    this.#originMs = firstMs + (phase < 0.5 ? phase + 1 : phase) * periodMs;
  }

  /** The poll to make next: in the future, or the newest one that is overdue. */
  next(nowMs: number): DuePoll {
    if (!this.#started) {
      this.#started = true;
      return { dueMs: this.#firstMs, missed: 0 };
    }
    const following = this.#index === undefined ? 0 : this.#index + 1;
    const newest = Math.floor((nowMs - this.#originMs) / this.periodMs);
    const index = Math.max(following, newest);
    this.#index = index;
    return { dueMs: this.#originMs + index * this.periodMs, missed: index - following };
  }
}

/** A number of at least 0 and below 1 that is always the same for a text and well spread over texts (FNV-1a). */
export function spread(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  // The low bits are the better mixed ones; names that differ in the last digit only have to come apart too.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
}
