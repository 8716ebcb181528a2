// How far a scan is, and how long it takes yet.

import type { ScanContext } from '#sdk';
import type { DeviceProgress } from './scan-device.ts';

/** How often progress is told at most. */
const PROGRESS_MS = 500;

/**
 * Each unit id is a step. One that nobody answers costs its timeouts; of one that answers, the reads that may be left cost
 * what its reads cost until then. Those that are still to be asked count as silent.
 */
export class ScanProgress {
  readonly #context: ScanContext;
  readonly #stepMs: number;
  readonly #steps: number;
  #done = 0;
  #reads = 0;
  #readsMs = 0;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(context: ScanContext, steps: number, stepMs: number) {
    this.#context = context;
    this.#steps = steps;
    this.#stepMs = stepMs;
  }

  /** So many unit ids are done. */
  step(count: number): void {
    this.#done = Math.min(this.#steps, this.#done + count);
    this.#reads = 0;
    this.#readsMs = 0;
  }

  /** Measures a read of the unit id that is asked now. */
  async timed<Answer>(read: () => Promise<Answer>): Promise<Answer> {
    const { clock } = this.#context;
    const startMs = clock.monotonicMs();
    try {
      return await read();
    } finally {
      this.#reads += 1;
      this.#readsMs += clock.monotonicMs() - startMs;
    }
  }

  /** @param device that answers to the unit id which is asked now */
  tell(text: string, device?: DeviceProgress): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = nowMs;
    const doneShare = (this.#done + (device?.doneShare ?? 0)) / this.#steps;
    this.#context.report({ kind: 'progress', doneShare, remainingMs: this.#remainingMs(device), text });
  }

  #remainingMs(device: DeviceProgress | undefined): number {
    const silentMs = (this.#steps - this.#done) * this.#stepMs;
    if (device === undefined) return silentMs;
    return silentMs - this.#stepMs + device.readsLeft * (this.#readsMs / Math.max(1, this.#reads));
  }
}
