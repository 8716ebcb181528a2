// What the outbox does between commits: expires what is too old, looks at the free space, deletes what every queue has
// passed, and has LevelDB give the space back.

import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { OutboxEvent, OutboxSettings } from '../core/outbox.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { logFrom, metaKey } from './keys.ts';
import type { CommitJob } from './group-commit.ts';
import type { Limits } from './limits.ts';
import type { LogReader } from './log-reader.ts';
import { headOffset, keptHead, liveBytes, type LogState } from './log-state.ts';
import type { Refusals } from './refusals.ts';
import { refreshHead } from './retention.ts';
import { seal } from './sealed.ts';
import type { Space } from './space.ts';
import { retainStreams, streamsAreOver } from './stream-retention.ts';

const TICK_MS = 1000;
/** Dead chunks are deleted in steps between these, a 64th of the quota otherwise. */
const RECLAIM_MIN_BYTES = 256 * 1024;
/** With little free space, after every commit that leaves this much. */
const SHORT_STEP_BYTES = 1024 * 1024;
const RECLAIM_MAX_BYTES = 16 * 1024 * 1024;
/** LevelDB is told to give space back after this much was deleted, or when the log ran empty for a while. */
const COMPACT_BYTES = 64 * 1024 * 1024;
const COMPACT_IDLE_MS = 5000;

/** What it needs of the engine. */
export interface HousekeepingHost {
  readonly state: LogState;
  readonly reader: LogReader;
  readonly space: Space;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly refusals: Refusals;
  readonly settings: OutboxSettings;
  readonly closed: boolean;
  readonly recovering: boolean;
  quotaBytes(): number;
  emit(event: OutboxEvent): void;
  change(change: Pick<CommitJob, 'apply' | 'limits'>): Promise<unknown>;
  read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T>;
}

export class Housekeeping {
  readonly #core: HousekeepingHost;
  readonly #log: Logger | undefined;
  #running: Promise<void> | undefined;
  #uncompactedBytes = 0;
  #idle: { readonly tail: number; readonly sinceMs: number } | undefined;
  #cancelTick: (() => void) | undefined;

  constructor(core: HousekeepingHost, log: Logger | undefined) {
    this.#core = core;
    this.#log = log;
  }

  start(): void {
    this.#schedule();
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#cancelTick?.();
    await this.#running;
    this.#cancelTick?.();
  }

  /** After a commit: much may be dead already. */
  look(): void {
    const { space, settings } = this.#core;
    const step = space.isShort(settings) ? SHORT_STEP_BYTES : this.#reclaimStep();
    if (this.#deadBytes() >= step) void this.#run();
    // What queues lose is left to commits and ticks: streams must not make it come sooner.
    else if (streamsAreOver(this.#core)) void this.#run(false);
  }

  /** Begins to give space back if that much would come back; false: it would not. */
  reclaim(bytes: number): boolean {
    if (this.reclaimableBytes() < bytes) return false;
    void this.#run();
    return true;
  }

  /** Bytes on disk that nobody wants any more, and that will come back. */
  reclaimableBytes(): number {
    return this.#uncompactedBytes + this.#deadBytes();
  }

  #deadBytes(): number {
    const { state } = this.#core;
    return keptHead(state).logBytes - state.clearedLogBytes;
  }

  #schedule(): void {
    this.#cancelTick = this.#core.clock.after(TICK_MS, () => {
      void this.#run().finally(() => {
        if (!this.#core.closed) this.#schedule();
      });
    });
  }

  /** Checkpoint, expiry, space. One run at a time; never rejects. */
  #run(limits = true): Promise<void> {
    this.#running ??= this.#work(limits)
      .catch((error: unknown) => {
        if (this.#core.closed || error instanceof GatewayError) return;
        this.#log?.warn({ error: errorText(error) }, 'Housekeeping of the outbox failed; it is tried again.');
      })
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  async #work(limits: boolean): Promise<void> {
    const core = this.#core;
    if (core.recovering || core.closed) return;
    await core.space.refresh();
    await core.read(() => refreshHead(core.state, core.reader));
    core.refusals.tell();
    const overQuota = core.settings.whenFull === 'drop_oldest' && liveBytes(core.state) > core.quotaBytes();
    if (limits && (overQuota || core.refusals.owed() || core.limits.headIsTooOld()))
      await core.change({ limits: true });
    await retainStreams(core);
    await this.#reclaim();
  }

  #reclaimStep(): number {
    return Math.min(Math.max(this.#core.settings.maxBytes / 64, RECLAIM_MIN_BYTES), RECLAIM_MAX_BYTES);
  }

  /** Everything was delivered and nothing new came for a while. */
  #isIdle(): boolean {
    const { state, clock } = this.#core;
    const nowMs = clock.monotonicMs();
    if (headOffset(state) < state.tail || this.#idle?.tail !== state.tail) {
      this.#idle = { tail: state.tail, sinceMs: nowMs };
    }
    return nowMs - this.#idle.sinceMs >= COMPACT_IDLE_MS;
  }

  /** Deletes what every queue has passed and, when it is much, has LevelDB give the space back. */
  async #reclaim(): Promise<void> {
    const { state } = this.#core;
    const idle = this.#isIdle();
    const short = this.#core.space.isShort(this.#core.settings);
    const dead = this.#deadBytes();
    const { clearedTo, clearedLogBytes } = state;
    if (dead >= this.#reclaimStep() || ((idle || short) && dead >= RECLAIM_MIN_BYTES)) {
      const { first, logBytes } = keptHead(state);
      // What is deleted must have been given up by a durable checkpoint, and its devices' numbers be in a snapshot.
      await this.#core.change({
        apply: (batch) => {
          batch.checkpoint = true;
          batch.snapshot = true;
          batch.writes.push({ key: metaKey('cleared'), value: seal({ to: first, logBytes }) });
        },
      });
      await this.#core.read((level) => level.clear(logFrom(state.clearedTo), logFrom(first)));
      state.clearedTo = first;
      state.clearedLogBytes = logBytes;
      this.#core.reader.forgetBelow(first);
      this.#uncompactedBytes += dead;
    }
    const all = (idle || short) && this.#uncompactedBytes > 0;
    if (this.#uncompactedBytes < COMPACT_BYTES && !all) return;
    // Up to the latest step's end, the table that holds it would be written anew for what is alive in it, each time.
    this.#uncompactedBytes = all ? 0 : state.clearedLogBytes - clearedLogBytes;
    const to = all ? state.clearedTo : clearedTo;
    await this.#core.read((level) => level.compact(logFrom(0), logFrom(to)));
    await this.#core.space.refresh(true);
  }
}
