// A poll that is made again and again on its grid: one at a time, and what falls due meanwhile is counted, never queued.

import type { PollTiming } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import { type DuePoll, PollGrid, type PollGridOptions } from './poll-grid.ts';

export interface PollLoopOptions {
  readonly clock: Clock;
  /** Once it is aborted no other poll starts. */
  readonly stop: AbortSignal;
  /** Must not reject. @param dueMs monotonic ms at which it was due; now for a poll out of turn. */
  readonly poll: (dueMs: number) => Promise<void>;
  /** When to poll in place of `dueMs`: sooner for a device that failed, later for a dead one. All monotonic ms. */
  readonly atMs: (dueMs: number, nowMs: number) => number;
}

/** Timers count in whole ms and may fire a fraction early. */
const TIMER_TOLERANCE_MS = 2;

export class PollLoop {
  readonly #options: PollLoopOptions;
  #grid: PollGrid | undefined;
  #due: DuePoll = { dueMs: 0, missed: 0 };
  #missed = 0;
  #cancel = (): void => {};
  #running: Promise<void> | undefined;

  constructor(options: PollLoopOptions) {
    this.#options = options;
  }

  get isStarted(): boolean {
    return this.#grid !== undefined;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  start(grid: PollGridOptions): void {
    this.#grid = new PollGrid(grid);
    this.#due = this.#grid.next(this.#options.clock.monotonicMs());
    this.#schedule();
  }

  /** Polls now, out of turn unless a poll is due; nothing before `start` or while one is under way. */
  pollNow(): void {
    const { clock, stop, poll } = this.#options;
    if (stop.aborted || this.#running !== undefined || this.#grid === undefined) return;
    const nowMs = clock.monotonicMs();
    const isDue = this.#due.dueMs - nowMs < TIMER_TOLERANCE_MS;
    if (isDue) this.#missed += this.#due.missed;
    this.#running = poll(isDue ? this.#due.dueMs : nowMs).then(() => {
      this.#running = undefined;
      if (isDue && this.#grid !== undefined) this.#due = this.#grid.next(clock.monotonicMs());
      this.#schedule();
    });
  }

  /** Ends the timer; resolves when the poll under way has ended. */
  async settled(): Promise<void> {
    this.#cancel();
    await this.#running;
  }

  /**
   * What `reportPoll` wants of a poll that has just been made; the polls that were missed are counted once.
   * @param sentMs monotonic ms at which its first request went out.
   */
  timing(dueMs: number, sentMs: number): Omit<PollTiming, 'deviceId'> {
    const missedPolls = this.#missed;
    this.#missed = 0;
    return {
      periodMs: this.#grid?.periodMs ?? 0,
      latenessMs: Math.max(0, sentMs - dueMs),
      durationMs: this.#options.clock.monotonicMs() - sentMs,
      missedPolls,
    };
  }

  #schedule(): void {
    const { clock, stop, atMs } = this.#options;
    this.#cancel();
    if (stop.aborted) return;
    const nowMs = clock.monotonicMs();
    this.#cancel = clock.after(Math.max(0, Math.ceil(atMs(this.#due.dueMs, nowMs) - nowMs)), () => this.pollNow());
  }
}
