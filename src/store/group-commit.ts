// The waiting line before the log. One commit is under way at a time; what arrives meanwhile gathers for the next, so
// that a slow disk means larger groups and not longer lines. Bounded: past the limits an append is refused at once.

import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { AppendReceipt, OutboxEntry } from '../core/outbox.ts';
import type { LevelWrite } from '../platform/level-handle.ts';
import type { CommitBatch } from './commit-batch.ts';
import type { DropContext } from './retention.ts';

export interface CommitJob {
  readonly entries: readonly OutboxEntry[];
  /** Estimated bytes in the log. */
  readonly bytes: number;
  readonly class: 'poll' | 'acknowledged';
  /** Look at the limits though nothing comes in. */
  readonly limits?: boolean;
  /** Changes of the same commit that read the store first. */
  readonly prepare?: (batch: CommitBatch, context: DropContext) => Promise<void>;
  /** Further changes of the same commit: may write to the batch, add messages and change state with an undo. */
  readonly apply?: (batch: CommitBatch) => void;
  /**
   * Written once the commit is durable and before the next begins, into tables of their own: what stands far from the
   * newest messages (README.md, Keys).
   */
  readonly apart?: () => readonly LevelWrite[];
  resolve(receipts: readonly AppendReceipt[]): void;
  reject(error: GatewayError): void;
}

export interface GroupCommitOptions {
  readonly clock: Clock;
  /** Delays, which may change while running. */
  readonly intervals: () => { readonly commitIntervalMs: number; readonly pollCommitIntervalMs: number };
  /** Commits the group and answers each of its jobs; never rejects. */
  readonly commit: (group: readonly CommitJob[]) => Promise<void>;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #waiting: CommitJob[] = [];
  #waitingMessages = 0;
  #waitingBytes = 0;
  #urgent = false;
  #running = false;
  #startScheduled = false;
  #pausedBy: GatewayError | undefined;
  /** Monotonic ms at which the delay of what waits ends. */
  #dueMs = Number.POSITIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;
  #idle: (() => void)[] = [];

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  get waitingMessages(): number {
    return this.#waitingMessages;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get waitingJobs(): number {
    return this.#waiting.length;
  }

  /** Resolves with the receipts when the commit that holds the job is durable. @throws GatewayError as the commit did. */
  submit(
    job: Omit<CommitJob, 'resolve' | 'reject'>,
    options: { readonly urgent?: boolean } = {},
  ): Promise<readonly AppendReceipt[]> {
    if (this.#pausedBy !== undefined) return Promise.reject(this.#pausedBy);
    const messages = job.entries.length;
    if (
      messages > 0 &&
      this.#waiting.length > 0 &&
      (this.#waitingMessages + messages > LIMITS.outbox_waiting_messages ||
        this.#waitingBytes + job.bytes > LIMITS.outbox_waiting_bytes)
    ) {
      return Promise.reject(
        new GatewayError(
          'GW_OUTBOX_BUSY',
          `${this.#waitingMessages} messages (${this.#waitingBytes} bytes) already wait for the disk; send more slowly.`,
          { details: { waitingMessages: this.#waitingMessages, waitingBytes: this.#waitingBytes } },
        ),
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...job, resolve, reject });
      this.#waitingMessages += messages;
      this.#waitingBytes += job.bytes;
      if (options.urgent === true) this.#urgent = true;
      this.#schedule(job.class);
    });
  }

  #schedule(jobClass: CommitJob['class']): void {
    const { commitIntervalMs, pollCommitIntervalMs } = this.#options.intervals();
    const delayMs = jobClass === 'poll' ? Math.max(pollCommitIntervalMs, commitIntervalMs) : commitIntervalMs;
    const nowMs = this.#options.clock.monotonicMs();
    const dueMs = this.#urgent ? nowMs : nowMs + delayMs;
    if (dueMs < this.#dueMs) {
      this.#dueMs = dueMs;
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
    }
    this.#wake();
  }

  #wake(): void {
    if (this.#running || this.#startScheduled || this.#waiting.length === 0 || this.#pausedBy !== undefined) return;
    const full =
      this.#waitingMessages >= LIMITS.chunk_messages || this.#waitingBytes >= LIMITS.chunk_bytes || this.#urgent;
    const delayMs = full ? 0 : this.#dueMs - this.#options.clock.monotonicMs();
    if (delayMs > 0) {
      this.#cancelTimer ??= this.#options.clock.after(delayMs, () => {
        this.#cancelTimer = undefined;
        this.#wake();
      });
      return;
    }
    // After the callbacks of this turn of the event loop: producers that were answered together append together.
    this.#startScheduled = true;
    setImmediate(() => {
      this.#startScheduled = false;
      void this.#run();
    });
  }

  async #run(): Promise<void> {
    if (this.#running || this.#pausedBy !== undefined) return;
    this.#running = true;
    const group = this.#takeGroup();
    if (group.length > 0) await this.#options.commit(group);
    this.#running = false;
    if (this.#waiting.length === 0) {
      const idle = this.#idle;
      this.#idle = [];
      for (const resolve of idle) resolve();
    } else this.#wake();
  }

  /** Whole jobs up to the size of a chunk; at least one. */
  #takeGroup(): CommitJob[] {
    let messages = 0;
    let bytes = 0;
    let end = 0;
    for (const job of this.#waiting) {
      if (
        end > 0 &&
        (messages + job.entries.length > LIMITS.chunk_messages || bytes + job.bytes > LIMITS.chunk_bytes)
      ) {
        break;
      }
      messages += job.entries.length;
      bytes += job.bytes;
      end += 1;
    }
    const group = end === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, end);
    this.#waiting = end === this.#waiting.length ? [] : this.#waiting.slice(end);
    this.#waitingMessages -= messages;
    this.#waitingBytes -= bytes;
    if (this.#waiting.length === 0) {
      this.#urgent = false;
      this.#dueMs = Number.POSITIVE_INFINITY;
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
    }
    return group;
  }

  /** Refuses all that waits and all that comes, until `resume`. */
  pause(error: GatewayError): void {
    this.#pausedBy = error;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingMessages = 0;
    this.#waitingBytes = 0;
    this.#urgent = false;
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    for (const job of waiting) job.reject(error);
  }

  resume(): void {
    this.#pausedBy = undefined;
    this.#wake();
  }

  /** Resolves when nothing waits and no commit is under way. */
  whenIdle(): Promise<void> {
    if (!this.#running && this.#waiting.length === 0) return Promise.resolve();
    this.#urgent = true;
    this.#wake();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }
}
