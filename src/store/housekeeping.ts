// What the outbox does between commits: expires what is too old, looks at the free space, deletes what every queue has
// passed, and has LevelDB give the space back.

import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { OutboxEvent, OutboxSettings } from '../core/outbox.ts';
import type { LevelHandle, LevelWrite } from '../platform/level-handle.ts';
import { logFrom, metaKey } from './keys.ts';
import type { CommitBatch } from './commit-batch.ts';
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
/**
 * Dead chunks are deleted in steps between these, a 16th of the quota otherwise: each writes the table anew in which the
 * dead end, for what is alive in it.
 */
const STEP_MIN_BYTES = 2 * 1024 * 1024;
const STEP_MAX_BYTES = 64 * 1024 * 1024;
const STEP_FRACTION = 1 / 16;
/** No more of what is free than this is dead. */
const STEP_FREE_FRACTION = 1 / 4;
/** Where the disk is nearly full. */
const CRITICAL_STEP_BYTES = 1024 * 1024;
/** When the log ran empty for a while. */
const IDLE_STEP_BYTES = 256 * 1024;
const IDLE_MS = 5000;
/** With no more than this alive, and no more than that share of the quota, a table may span it all. */
const NEAR_MAX_BYTES = 8 * 1024 * 1024;
const NEAR_FRACTION = 1 / 32;
/** Deletes of one commit: they stay in LevelDB's memory together, and delay what comes in. */
const DELETES_APART = 16_384;
/** Those that go along with messages: about a millisecond. */
const DELETES_ALONG = 512;

type Apply = (batch: CommitBatch) => void;

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
  change(change: Pick<CommitJob, 'apply' | 'limits' | 'apart'>): Promise<unknown>;
  read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T>;
}

export class Housekeeping {
  readonly #core: HousekeepingHost;
  readonly #log: Logger | undefined;
  #running: Promise<void> | undefined;
  /** Deleted, and not given back yet. */
  #uncompactedBytes = 0;
  #lastDeleted: Buffer | undefined;
  /** Somebody waits for space. */
  #isPressed = false;
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
    if (this.#deadBytes() >= this.#stepBytes()) void this.#run();
    // What queues lose is left to commits and ticks: streams must not make it come sooner.
    else if (streamsAreOver(this.#core)) void this.#run(false);
  }

  /** Begins to give space back where the disk is nearly full; false: next to nothing would come back. */
  reclaim(): boolean {
    if (this.reclaimableBytes() < CRITICAL_STEP_BYTES) return false;
    this.#isPressed = true;
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
    const due = overQuota || core.refusals.owed() || core.limits.headIsTooOld() || core.limits.owed();
    if (limits && due) await core.change({ limits: true });
    await retainStreams(core);
    await this.#reclaim();
  }

  #stepBytes(): number {
    const { space, settings } = this.#core;
    if (space.isCritical()) return CRITICAL_STEP_BYTES;
    const bytes = Math.min(settings.maxBytes * STEP_FRACTION, space.freeBytes * STEP_FREE_FRACTION, STEP_MAX_BYTES);
    return Math.max(bytes, STEP_MIN_BYTES);
  }

  /** Everything was delivered and nothing new came for a while. */
  #isIdle(): boolean {
    const { state, clock } = this.#core;
    const nowMs = clock.monotonicMs();
    if (headOffset(state) < state.tail || this.#idle?.tail !== state.tail) {
      this.#idle = { tail: state.tail, sinceMs: nowMs };
    }
    return nowMs - this.#idle.sinceMs >= IDLE_MS;
  }

  /** Deletes what nobody wants any more, when it is much, and has LevelDB give the space back. */
  async #reclaim(): Promise<void> {
    const dead = this.#deadBytes();
    const stepBytes = this.#isPressed ? CRITICAL_STEP_BYTES : this.#stepBytes();
    this.#isPressed = false;
    if (dead >= (this.#isIdle() ? IDLE_STEP_BYTES : stepBytes)) {
      await this.#delete();
      this.#uncompactedBytes += dead;
    }
    const last = this.#lastDeleted;
    if (last === undefined) return;
    const { space } = this.#core;
    await this.#core.read((level) => level.compact(logFrom(0), last));
    await space.refresh(true);
    this.#lastDeleted = undefined;
    this.#uncompactedBytes = 0;
  }

  /** Everything below the kept head; what a failure leaves of it is deleted by the next step. */
  async #delete(): Promise<void> {
    const { state, settings } = this.#core;
    const { first, logBytes } = keptHead(state);
    const isNear = state.logBytes - logBytes <= Math.min(settings.maxBytes * NEAR_FRACTION, NEAR_MAX_BYTES);
    const limit = isNear ? DELETES_ALONG : DELETES_APART;
    const cleared: LevelWrite = { key: metaKey('cleared'), value: seal({ to: first, logBytes }) };
    let from = logFrom(state.clearedTo);
    for (let page = 0; ; page += 1) {
      const deletes = await this.#keys(from, logFrom(first), limit);
      const writes = page === 0 ? [cleared, ...deletes] : deletes;
      const apply = page === 0 ? giveUp : () => {};
      await (isNear ? this.#removeAlong(writes, apply) : this.#removeApart(writes, apply));
      from = deletes.at(-1)?.key ?? from;
      this.#lastDeleted = from;
      if (deletes.length < limit) break;
    }
    state.clearedTo = first;
    state.clearedLogBytes = logBytes;
    this.#core.reader.forgetBelow(first);
  }

  /** Their deletes. */
  #keys(gte: Buffer, lt: Buffer, limit: number): Promise<LevelWrite[]> {
    return this.#core.read(async (level) => {
      const deletes: LevelWrite[] = [];
      for await (const key of level.keys({ gte, lt, limit })) deletes.push({ key, value: undefined });
      return deletes;
    });
  }

  /**
   * With the commit of what comes in meanwhile, which waits for nothing: next to nothing lies between the dead and the
   * newest, so that a table that spans both is merged with next to nothing.
   */
  async #removeAlong(writes: readonly LevelWrite[], apply: Apply): Promise<void> {
    await this.#core.change({
      apply: (batch) => {
        apply(batch);
        batch.writes.push(...writes);
      },
    });
  }

  /**
   * In tables of their own. LevelDB makes one table of what comes in together, and a table that spans the log from the dead
   * to the newest would be merged with all that lies between: it would take as much room as the backlog, and write all of
   * it anew.
   */
  async #removeApart(writes: readonly LevelWrite[], apply: Apply): Promise<void> {
    // Most of what is in memory becomes a table before the line of commits waits for the rest.
    await this.#core.read((level) => level.flush());
    await this.#core.change({ apply, apart: () => writes });
  }
}

/** What is deleted must have been given up by a durable checkpoint, and its devices' numbers be in a snapshot. */
function giveUp(batch: CommitBatch): void {
  batch.checkpoint = true;
  batch.snapshot = true;
}
