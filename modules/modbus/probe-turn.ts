// Whose turn it is to be probed on a bus. Each probe of a dead device costs the bus a timeout, so dead devices share
// one allowance, however many they are.

/** Part of the bus time that fruitless probes may take. */
const PROBE_SHARE = 0.1;

export class ProbeTurn {
  readonly #intervalMs: number;
  #holder: object | undefined;
  #takenMs = 0;
  #nextMs = 0;

  /** At most one fruitless probe in `intervalMs`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Monotonic ms when it is worth asking for the turn; undefined while another has it. */
  freeMs(): number | undefined {
    return this.#holder === undefined ? this.#nextMs : undefined;
  }

  /** Takes the turn; false while another has it, or the allowance is spent. */
  take(holder: object, nowMs: number): boolean {
    if (this.#holder !== undefined || nowMs < this.#nextMs) return false;
    this.#holder = holder;
    this.#takenMs = nowMs;
    return true;
  }

  /** Gives the turn back. A device that answered costs nothing of the allowance. */
  give(holder: object, nowMs: number, answered: boolean): void {
    if (this.#holder !== holder) return;
    this.#holder = undefined;
    const costMs = nowMs - this.#takenMs;
    this.#nextMs = answered ? nowMs : this.#takenMs + Math.max(this.#intervalMs, costMs / PROBE_SHARE);
  }
}
