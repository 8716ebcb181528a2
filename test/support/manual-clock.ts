// A clock that stands still until the test moves it.

import type { Clock } from '../../src/core/clock.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { ClockQuality } from '../../src/core/time.ts';

interface Timer {
  readonly dueMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  bootId = 'boot-1';
  #monotonicMs = 1_000_000;
  #wallMs = Date.UTC(2026, 0, 2, 3, 4, 5);
  #quality: ClockQuality = 'synced';
  readonly #timers = new Set<Timer>();

  /** Timers not yet due. */
  get waiting(): number {
    return this.#timers.size;
  }

  /** Monotonic ms of the first of them. */
  get nextDueMs(): number | undefined {
    return this.waiting === 0 ? undefined : Math.min(...Array.from(this.#timers, ({ dueMs }) => dueMs));
  }

  /** Moves both clocks and runs what becomes due, in order. */
  advance(ms: number): void {
    const endMs = this.#monotonicMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ dueMs }) => dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#wallMs += Math.max(0, due.dueMs - this.#monotonicMs);
      this.#monotonicMs = Math.max(this.#monotonicMs, due.dueMs);
      due.callback();
    }
    this.#wallMs += endMs - this.#monotonicMs;
    this.#monotonicMs = endMs;
  }

  /** Moves the wall clock alone, as setting it does. */
  step(ms: number, quality: ClockQuality = this.#quality): void {
    this.#wallMs += ms;
    this.#quality = quality;
  }

  wallMs(): number {
    return this.#wallMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  quality(): ClockQuality {
    return this.#quality;
  }

  now() {
    return { bootId: this.bootId, monotonicMs: this.#monotonicMs, wallMs: this.#wallMs, clock: this.quality() };
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { dueMs: this.#monotonicMs + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = this.after(ms, resolve);
      signal?.addEventListener('abort', () => {
        cancel();
        reject(new GatewayError('GW_ABORTED', 'Stopped on request.'));
      });
    });
  }
}
