// The engine under the outbox: commits groups, keeps checkpoints, and reopens the store after a failure. Queues and the
// public interface stand on it.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { AppendReceipt, OutboxEvent, OutboxSettings } from '../core/outbox.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { ChunkEncoder } from './chunk-encoder.ts';
import { recordBytes, type Chunk } from './chunk-format.ts';
import { CommitBatch } from './commit-batch.ts';
import { DropLedger } from './drop-ledger.ts';
import { Housekeeping } from './housekeeping.ts';
import { GroupCommit, type CommitJob } from './group-commit.ts';
import { logKey, RECORD } from './keys.ts';
import { Limits } from './limits.ts';
import { LogReader } from './log-reader.ts';
import { checkpointOf, headOffset, keptBytes, liveBytes, snapshotOf, type LogState } from './log-state.ts';
import { encodeReferences } from './references.ts';
import { dropGap, refreshHead, type DropContext } from './retention.ts';
import { applyChunk, replayChunks, type Gap } from './replay.ts';
import { closedError, ReopeningPace, writeError, type Reopened, type Reopening } from './reopening.ts';
import { seal } from './sealed.ts';
import { abortable, Notifier } from '../platform/abort.ts';
import { Refusals } from './refusals.ts';
import type { Space } from './space.ts';
import { encodeStreamBlock, type StreamBlock } from './stream-block.ts';

/** A snapshot of all devices is written after this much log, so that a start replays no more than that. */
const SNAPSHOT_BYTES = 16 * 1024 * 1024;
/** What was settled is in a checkpoint after this long, if no commit takes one along before. */
const CHECKPOINT_MS = 1000;
/** Commits follow each other faster than a checkpoint in each would be worth. */
const CHECKPOINT_WITH_COMMIT_MS = 100;
/** How often a disk that takes no writes is tried. */
const WRITABLE_LOOK_MS = 1000;

export interface LogCoreOptions {
  readonly level: LevelHandle;
  readonly state: LogState;
  readonly clock: Clock;
  readonly gatewayId: DeviceId;
  readonly settings: OutboxSettings;
  readonly onEvent: ((event: OutboxEvent) => void) | undefined;
  readonly log: Logger | undefined;
  readonly space: Space;
  /** Opens the store again after a failure. */
  readonly reopen: (how: Reopening) => Promise<Reopened>;
}

const NO_REFERENCES: ReadonlyMap<number, readonly number[]> = new Map();

/** What a durable commit wrote. */
interface Committed {
  readonly chunk: Chunk | undefined;
  /** In the order of the batch's places. */
  readonly blocks: readonly StreamBlock[];
  readonly syncMs: number;
}

export class LogCore {
  readonly state: LogState;
  readonly reader: LogReader;
  readonly line: GroupCommit;
  readonly space: Space;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly refusals: Refusals;
  settings: OutboxSettings;
  commitsTotal = 0;
  appendedTotal = 0;
  lastCommitAnsweredMs: number;
  readonly #options: LogCoreOptions;
  readonly #encoder = new ChunkEncoder();
  /** Wakes queues and the readers of streams: something was committed, settled or given back. */
  readonly #changed = new Map<number | string, Notifier>();
  #level: LevelHandle;
  #dirty = false;
  #dirtySinceMs = 0;
  /** When the newest one was written. */
  #checkpointMs = Number.NEGATIVE_INFINITY;
  #recovering: Promise<void> | undefined;
  /** While the store is being reopened: settles when it can be read, be it only read. */
  #readable = Promise.withResolvers<void>();
  #committing: Promise<void> = Promise.resolve();
  readonly #house: Housekeeping;
  #cancelCheckpoint: (() => void) | undefined;
  readonly #pace = new ReopeningPace();
  #closing = false;
  #closed = false;
  readonly #stop = new AbortController();

  constructor(options: LogCoreOptions) {
    this.#options = options;
    this.#level = options.level;
    this.state = options.state;
    this.clock = options.clock;
    this.settings = options.settings;
    this.space = options.space;
    this.reader = new LogReader(options.level, () => options.state.queues.size + options.state.streams.size > 1);
    this.lastCommitAnsweredMs = options.clock.monotonicMs();
    this.line = new GroupCommit({
      clock: options.clock,
      intervals: () => this.settings,
      commit: (group) => (this.#committing = this.#commit(group)),
    });
    this.limits = new Limits(this, options.gatewayId);
    this.refusals = new Refusals(this);
    this.#house = new Housekeeping(this, options.log);
    this.#house.start();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The store is being reopened. */
  get recovering(): boolean {
    return this.#recovering !== undefined;
  }

  /** Of a queue by its id, of a stream by a name of its own. */
  changes(key: number | string): Notifier {
    let notifier = this.#changed.get(key);
    if (notifier === undefined) {
      notifier = new Notifier();
      this.#changed.set(key, notifier);
    }
    return notifier;
  }

  /** A queue settled something: the next commit carries a checkpoint; when none comes it is written alone. */
  touch(): void {
    if (!this.#dirty) this.#dirtySinceMs = this.clock.monotonicMs();
    this.#dirty = true;
    if (this.#cancelCheckpoint === undefined) this.#scheduleCheckpoint();
  }

  #scheduleCheckpoint(): void {
    if (this.#closed) return;
    const waitMs = this.#dirtySinceMs + CHECKPOINT_MS - this.clock.monotonicMs();
    this.#cancelCheckpoint = this.clock.after(Math.max(0, waitMs), () => {
      this.#cancelCheckpoint = undefined;
      // It rides with whatever waits for a commit; a store that is being reopened writes one afterwards.
      if (!this.#dirty || this.line.waitingJobs > 0 || this.#recovering !== undefined || this.#closed) return;
      // A commit took one along, and more was settled since: that waits as long again.
      if (this.clock.monotonicMs() < this.#dirtySinceMs + CHECKPOINT_MS) this.#scheduleCheckpoint();
      else this.checkpoint(false).catch(() => {});
    });
  }

  /** Runs work on the store that reads; a failure reopens the store and runs it again. @throws GatewayError GW_STORE_CLOSED. */
  async read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#recovering !== undefined) await this.#readable.promise;
      if (this.#closed) throw closedError();
      const level = this.#level;
      try {
        return await work(level);
      } catch (error) {
        if (error instanceof GatewayError || this.#closed) throw error;
        // Another caller may have recovered meanwhile.
        if (level === this.#level) await this.#recover(error, attempt > 1);
      }
    }
  }

  /** Commits changes that are not an append. */
  change(change: Pick<CommitJob, 'prepare' | 'apply' | 'limits' | 'apart'>): Promise<readonly AppendReceipt[]> {
    if (this.#closed) return Promise.reject(closedError());
    return this.line.submit({ entries: [], bytes: 0, class: 'acknowledged', ...change }, { urgent: true });
  }

  /** A durable checkpoint, with the numbers of all devices when `snapshot`. */
  checkpoint(snapshot: boolean): Promise<unknown> {
    return this.change({
      apply: (batch) => {
        batch.checkpoint = true;
        batch.snapshot ||= snapshot;
      },
    });
  }

  emit(event: OutboxEvent): void {
    this.#options.onEvent?.(event);
  }

  /** Bytes that the log may hold now: the quota, or less when the file system runs short of space. */
  quotaBytes(): number {
    return this.space.quotaBytes(this.settings, keptBytes(this.state), this.#house.reclaimableBytes());
  }

  /** Whether that much more, with what waits, leaves less room than must be left. */
  nearlyFills(bytes: number): boolean {
    return this.space.isCritical(this.line.waitingBytes + bytes);
  }

  /**
   * Whether the disk is nearly full with what is deleted already: appends faster than LevelDB gives it back would fill the
   * disk to the last byte, and then it could not give it back at all.
   */
  async mustReclaim(bytes: number): Promise<boolean> {
    await this.space.refresh(true);
    return this.nearlyFills(bytes) && this.#house.reclaim();
  }

  /** Whether that much more would pass a limit, looked up exactly when it seems so. */
  async isFull(bytes: number): Promise<boolean> {
    const over = (): boolean => {
      const used = liveBytes(this.state) + this.line.waitingBytes;
      return used > 0 && used + bytes > this.quotaBytes();
    };
    if (!over()) return false;
    await this.space.refresh(true);
    await this.read(() => refreshHead(this.state, this.reader));
    return over();
  }

  /**
   * Lets go of chunks that every queue has passed, whose readers come back to none of them: kept until the cache is full,
   * each would outlive its young generation. Readers of streams do come back.
   */
  forgetPassed(): void {
    if (this.state.streams.size === 0) this.reader.forgetBelow(headOffset(this.state));
  }

  // -- commit

  /** Resolves when the commit under way is durable, or undone and the store reopened; at once when there is none. */
  decided(): Promise<void> {
    return this.#committing;
  }

  #releaseQueues(): void {
    for (const queue of this.state.queues.values()) queue.release();
  }

  async #commit(group: readonly CommitJob[]): Promise<void> {
    const batch = new CommitBatch(this.state, this.#encoder, this.clock.now());
    const ledger = new DropLedger();
    const level = this.#level;
    let receipts: AppendReceipt[][];
    let committed: Committed;
    try {
      if (group.some(({ entries, limits }) => entries.length > 0 || limits === true)) {
        await this.limits.enforce(batch, ledger, group);
      }
      for (const job of group) await job.prepare?.(batch, this.limits.context(batch, ledger));
      receipts = group.map((job) => {
        const own = job.entries.map((entry) => batch.add(entry));
        job.apply?.(batch);
        return own;
      });
      this.refusals.write(batch);
      this.limits.tell(batch, ledger);
      committed = await this.#write(level, batch);
    } catch (error) {
      batch.undo();
      this.#releaseQueues();
      await this.#refuse(group, error);
      return;
    }
    this.#accept(batch, committed);
    const apart = group.filter((job) => job.apart !== undefined);
    group.forEach((job, index) => {
      if (job.apart === undefined) job.resolve(receipts[index] ?? []);
    });
    try {
      if (apart.length > 0) await writeApart(level, apart);
    } catch (error) {
      await this.#refuse(apart, error);
      return;
    }
    for (const job of apart) job.resolve([]);
  }

  /** Tells the failure of a write, and resolves when commits may go on or only reading may. */
  async #refuse(jobs: readonly CommitJob[], error: unknown): Promise<void> {
    const failure = writeError(error);
    this.lastCommitAnsweredMs = this.clock.monotonicMs();
    // The line is closed before the first producer hears of it, so that nobody appends into a store that is down.
    const recovering = this.#recover(error, false);
    for (const job of jobs) job.reject(failure);
    await Promise.race([recovering, this.#readable.promise]);
  }

  async #write(level: LevelHandle, batch: CommitBatch): Promise<Committed> {
    const { state } = this;
    const { first } = batch;
    const snapshot = batch.snapshot || state.logBytes - state.snapshotLogBytes >= SNAPSHOT_BYTES;
    if (snapshot) {
      batch.writes.push({ key: logKey(first, RECORD.snapshot), value: seal(snapshotOf(state)) });
    }
    const nowMs = this.clock.monotonicMs();
    const due = this.#dirty && nowMs - this.#checkpointMs >= CHECKPOINT_WITH_COMMIT_MS;
    const checkpoint = batch.checkpoint || snapshot || due;
    if (checkpoint) {
      this.#dirty = false;
      this.#checkpointMs = nowMs;
      batch.writes.push({
        key: logKey(first, RECORD.checkpoint),
        value: seal(checkpointOf(state, this.clock)),
      });
    }
    let chunk: Chunk | undefined;
    const blocks: StreamBlock[] = [];
    if (batch.count > 0) {
      chunk = this.#encoder.finish({ firstOffset: first, logBytesBefore: state.logBytes });
      batch.writes.push({ key: logKey(first, RECORD.chunk), value: chunk.bytes });
      this.#addReferences(batch, chunk);
      blocks.push(...this.#addBlocks(batch, chunk));
    }
    const startedMs = this.clock.monotonicMs();
    try {
      if (batch.writes.length > 0) await level.write(batch.writes, { sync: true });
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
    if (snapshot) state.snapshotLogBytes = state.logBytes;
    return { chunk, blocks, syncMs: this.clock.monotonicMs() - startedMs };
  }

  #addReferences(batch: CommitBatch, chunk: Chunk): void {
    for (const [queueId, offsets] of batch.references) {
      let bytes = 0;
      for (const offset of offsets) bytes += recordBytes(chunk, offset - batch.first);
      batch.writes.push({
        key: logKey(batch.first, RECORD.references, queueId),
        value: encodeReferences(batch.first, { to: batch.first + batch.count, offsets, bytes }),
      });
    }
  }

  #addBlocks(batch: CommitBatch, chunk: Chunk): StreamBlock[] {
    return [...batch.places].map(([stream, positions]) => {
      const places = new Uint8Array(batch.count);
      let bytes = 0;
      positions.forEach((place, index) => {
        places[index] = place;
        bytes += recordBytes(chunk, index);
      });
      const block = stream.block(chunk, places, bytes);
      batch.writes.push({ key: logKey(batch.first, RECORD.stream, stream.id), value: encodeStreamBlock(block) });
      return block;
    });
  }

  /** The commit is durable: takes it over. */
  #accept(batch: CommitBatch, { chunk, blocks, syncMs }: Committed): void {
    this.#releaseQueues();
    this.limits.accepted();
    this.commitsTotal += 1;
    this.lastCommitAnsweredMs = this.clock.monotonicMs();
    if (chunk !== undefined) {
      this.appendedTotal += chunk.count;
      this.space.consume(chunk.bytes.length);
      // A map of its own for each cached chunk, nearly always empty, would be kept for nothing.
      this.reader.remember(chunk, batch.references.size === 0 ? NO_REFERENCES : batch.references);
      applyChunk(this.state, chunk, batch.references, batch.exclusive);
      [...batch.places.keys()].forEach((stream, index) =>
        stream.append(blocks[index] as StreamBlock, chunk.time.wallMs),
      );
      this.emit({ kind: 'committed', messages: chunk.count, bytes: chunk.bytes.length, syncMs });
    }
    for (const event of batch.events) {
      if (event.kind === 'dropped') this.state.droppedTotal += event.count;
      this.emit(event);
    }
    this.wakeAll();
    this.#house.look();
  }

  wakeAll(): void {
    for (const notifier of this.#changed.values()) notifier.notify();
  }

  // -- failure

  /**
   * Closes, reopens and verifies the store; until then producers get GW_STORE_WRITE and readers wait. While the disk takes
   * no writes it stays open: nothing is wrong with what it holds, which is read and delivered meanwhile.
   */
  #recover(cause: unknown, thorough: boolean): Promise<void> {
    if (this.#closing) this.#end();
    else if (this.#recovering === undefined) {
      this.#readable = Promise.withResolvers<void>();
      this.#recovering = this.#reopen(cause, thorough).finally(() => {
        this.#recovering = undefined;
        this.#readable.resolve();
      });
    }
    return this.#recovering ?? Promise.resolve();
  }

  async #reopen(cause: unknown, thorough: boolean): Promise<void> {
    this.line.pause(writeError(cause));
    this.emit({ kind: 'write_failed', reason: errorText(cause) });
    this.#pace.failed(cause, thorough, this.clock.monotonicMs());
    await this.#untilWritable();
    for (;;) {
      const delayMs = this.#pace.nextDelayMs();
      if (delayMs > 0) await this.clock.sleep(delayMs, this.#stop.signal).catch(() => {});
      if (this.#closed) return;
      try {
        await this.#level.close().catch(() => {});
        await this.space.release();
        await this.#takeUp(await this.#options.reopen(this.#pace.next(this.clock.monotonicMs())));
        return;
      } catch (error) {
        this.#pace.notOpened(error, this.clock.monotonicMs());
        this.#options.log?.error({ error: errorText(error) }, 'The outbox could not be reopened; it is tried again.');
      }
    }
  }

  /** Resolves when the disk takes writes, or nothing is left that could be delivered; until then the store can be read. */
  async #untilWritable(): Promise<void> {
    await this.space.release();
    if (await this.space.takesWrites()) return;
    this.#options.log?.error(
      { freeBytes: this.space.freeBytes },
      'The disk of the outbox takes no writes. What is stored is delivered meanwhile, and nothing is acknowledged; make room on it.',
    );
    this.#readable.resolve();
    do {
      await this.clock.sleep(WRITABLE_LOOK_MS, this.#stop.signal).catch(() => {});
      if (this.#closed) return;
      await this.space.release();
    } while (headOffset(this.state) < this.state.tail && !(await this.space.takesWrites()));
    this.#readable = Promise.withResolvers<void>();
  }

  async #takeUp({ level, salvaged, gaps }: Reopened): Promise<void> {
    this.#level = level;
    this.reader.use(level);
    // A commit that failed may be in the log all the same: it keeps its offsets and numbers, and is delivered.
    await replayChunks(level, this.state, { from: this.state.tail, checkpoints: false });
    this.#pace.reopened(salvaged, this.clock.monotonicMs());
    this.line.resume();
    this.touch();
    this.emit({ kind: 'reopened' });
    this.wakeAll();
    // Not awaited: the commit that failed waits for this. What does not get told here is found when it is read.
    if (salvaged) this.change({ prepare: (batch, context) => this.#dropGaps(batch, context, gaps) }).catch(() => {});
  }

  async #dropGaps(batch: CommitBatch, context: DropContext, gaps: readonly Gap[]): Promise<void> {
    batch.checkpoint = true;
    batch.snapshot = true;
    for (const { from, to } of gaps) await dropGap(context, [...this.state.queues.values()], from, to);
  }

  // -- close

  /** Ends within the work under way: a store that fails meanwhile, or was being reopened, is left as it is. */
  async close(beforeClose: () => Promise<void>): Promise<void> {
    this.#closing = true;
    this.#cancelCheckpoint?.();
    if (this.#recovering !== undefined) this.#end();
    await this.#house.stop();
    if (!this.#closed) {
      await abortable(this.line.whenIdle(), this.#stop.signal).catch(() => {});
      await this.checkpoint(true).catch(() => {});
    }
    const clean = !this.#closed;
    this.#end();
    await this.#recovering;
    this.wakeAll();
    await this.#level.close();
    if (clean) await beforeClose();
  }

  #end(): void {
    this.#closed = true;
    this.#stop.abort();
    this.line.pause(closedError());
  }
}

/** Between two flushes, so that the table made of it holds nothing else, and spans no more of the log than it has to. */
async function writeApart(level: LevelHandle, jobs: readonly CommitJob[]): Promise<void> {
  const writes = jobs.flatMap(({ apart }) => apart?.() ?? []);
  await level.flush();
  await level.write(writes, { sync: true });
  await level.flush();
}
