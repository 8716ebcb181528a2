// How fast history may go, so that a backlog does not fill a link that others need: a bucket of one second.

import type { Clock } from '../core/clock.ts';

export class DrainRate {
  readonly #bytesPerSec: number;
  readonly #clock: Clock;
  /** Below zero after a message that was larger than what there was. */
  #room: number;
  #atMs: number;

  constructor(bytesPerSec: number, clock: Clock) {
    this.#bytesPerSec = bytesPerSec;
    this.#clock = clock;
    this.#room = bytesPerSec;
    this.#atMs = clock.monotonicMs();
  }

  /** Bytes that may go now; 0 while it has to wait. One message may be larger: the next one waits the longer for it. */
  get room(): number {
    const nowMs = this.#clock.monotonicMs();
    const gained = ((nowMs - this.#atMs) / 1000) * this.#bytesPerSec;
    this.#room = Math.min(this.#bytesPerSec, this.#room + gained);
    this.#atMs = nowMs;
    return Math.max(0, Math.floor(this.#room));
  }

  /** How long until there is room, in ms: for a tenth of a second's worth, so that batches do not crumble. */
  get waitMs(): number {
    const wanted = this.#bytesPerSec / 10;
    return Math.max(1, ((wanted - this.#room) / this.#bytesPerSec) * 1000);
  }

  spend(bytes: number): void {
    this.#room -= bytes;
  }
}
