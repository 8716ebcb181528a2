// The circuit breaker of one device: after some silence in a row the device is no longer polled, only probed, so that a
// dead one costs its bus little time. Any answer, an exception included, closes it.

import { jitter, type Random } from '../platform/random.ts';

export interface BreakerOptions {
  /** Requests without an answer in a row that open it. */
  readonly failures: number;
  /** Time to the first probe; doubles with each probe that fails. */
  readonly probeMinMs: number;
  readonly probeMaxMs: number;
  readonly random: Random;
}

/** Spread of probes, so that devices that died together are not probed together. */
const PROBE_SPREAD = 0.2;

export class Breaker {
  readonly #options: BreakerOptions;
  #silences = 0;
  #intervalMs = 0;
  #nextProbeMs = 0;
  #open = false;

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Monotonic ms from which a probe is due; meaningful while open. */
  get nextProbeMs(): number {
    return this.#nextProbeMs;
  }

  answered(): void {
    this.#silences = 0;
    this.#open = false;
    this.#intervalMs = 0;
  }

  /** A request had no answer. */
  silent(nowMs: number): void {
    this.#silences += 1;
    if (!this.#open && this.#silences < this.#options.failures) return;
    this.#intervalMs = this.#open ? Math.min(this.#intervalMs * 2, this.#options.probeMaxMs) : this.#options.probeMinMs;
    this.#open = true;
    this.#nextProbeMs = nowMs + jitter(this.#intervalMs, PROBE_SPREAD, this.#options.random);
  }

  /** The connection is new: whoever was dead may be back, so it is probed at once, with the shortest interval again. */
  reconnected(nowMs: number): void {
    if (!this.#open) return;
    this.#intervalMs = this.#options.probeMinMs / 2;
    this.#nextProbeMs = nowMs;
  }
}
