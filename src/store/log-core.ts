// The engine under the outbox: commits groups, keeps checkpoints, enforces limits, gives space back, and reopens the
// store after a failure. Queues and the public interface stand on it.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { Logger } from '../core/log.ts';
import type { AppendReceipt, OutboxEntry, OutboxEvent, OutboxSettings } from '../core/outbox.ts';
import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { LevelHandle } from '../platform/level.ts';
import { ChunkEncoder, decodeChunk, recordBytes, type Chunk } from './chunk-codec.ts';
import { CommitBatch } from './commit-batch.ts';
import { DropLedger, eventMessage, type DropEvent, type QuarantineEvent } from './drop-ledger.ts';
import { GroupCommit, type CommitJob } from './group-commit.ts';
import { logFrom, logKey, RECORD } from './keys.ts';
import { LogReader } from './log-reader.ts';
import { checkpointOf, headOffset, liveBytes, snapshotOf, type LogState } from './log-state.ts';
import type { QueueState } from './queue-state.ts';
import { encodeReferences } from './references.ts';
import { dropFromHead, dropFromQueue, dropStepBytes, dropToQuota, refreshHead, type DropContext } from './retention.ts';
import { applyChunk, replayChunks } from './replay.ts';
import { seal } from './sealed.ts';
import { Notifier } from '../platform/abort.ts';
import type { Space } from './space.ts';

/** A snapshot of all devices is written after this much log, so that a start replays no more than that. */
const SNAPSHOT_BYTES = 16 * 1024 * 1024;
/** Dead chunks are deleted in steps between these, an eighth of a percent of the quota otherwise. */
const RECLAIM_MIN_BYTES = 256 * 1024;
const RECLAIM_MAX_BYTES = 16 * 1024 * 1024;
/** LevelDB is told to give space back after this much was deleted, or when the log ran empty for a while. */
const COMPACT_BYTES = 64 * 1024 * 1024;
const COMPACT_IDLE_MS = 5000;
/** Housekeeping runs this often; a checkpoint alone is written at most this often. */
export const TICK_MS = 1000;
const REOPEN_FIRST_MS = 100;
const REOPEN_LONGEST_MS = 30_000;

export interface LogCoreOptions {
  readonly level: LevelHandle;
  readonly state: LogState;
  readonly clock: Clock;
  readonly gatewayId: DeviceId;
  readonly settings: OutboxSettings;
  readonly onEvent: ((event: OutboxEvent) => void) | undefined;
  readonly log: Logger | undefined;
  readonly space: Space;
  /** Opens the store again after a failure; `thorough` when what was read was damaged. */
  readonly reopen: (thorough: boolean) => Promise<LevelHandle>;
}

export class LogCore {
  readonly state: LogState;
  readonly reader: LogReader;
  readonly line: GroupCommit;
  readonly space: Space;
  readonly clock: Clock;
  settings: OutboxSettings;
  commitsTotal = 0;
  appendedTotal = 0;
  lastCommitAnsweredMs: number;
  readonly #options: LogCoreOptions;
  readonly #encoder = new ChunkEncoder();
  /** Wakes queues: something was committed, settled or given back. */
  readonly #changed = new Map<number, Notifier>();
  #level: LevelHandle;
  #dirty = false;
  #checkpointMs = Number.NEGATIVE_INFINITY;
  /** Messages refused by `drop_newest` that no event has told yet, by device. */
  readonly #refused = new Map<DeviceId, { untold: number; unwritten: number }>();
  #recovering: Promise<void> | undefined;
  #housekeeping: Promise<void> | undefined;
  #uncompactedBytes = 0;
  #emptySinceMs: number | undefined;
  #cancelTick: (() => void) | undefined;
  #closed = false;
  readonly #stop = new AbortController();

  constructor(options: LogCoreOptions) {
    this.#options = options;
    this.#level = options.level;
    this.state = options.state;
    this.clock = options.clock;
    this.settings = options.settings;
    this.space = options.space;
    this.reader = new LogReader(options.level);
    this.lastCommitAnsweredMs = options.clock.monotonicMs();
    this.line = new GroupCommit({
      clock: options.clock,
      intervals: () => this.settings,
      commit: (group) => this.#commit(group),
    });
    this.#scheduleTick();
  }

  get closed(): boolean {
    return this.#closed;
  }

  changes(queueId: number): Notifier {
    let notifier = this.#changed.get(queueId);
    if (notifier === undefined) {
      notifier = new Notifier();
      this.#changed.set(queueId, notifier);
    }
    return notifier;
  }

  /** A queue settled something: the next commit carries a checkpoint. */
  touch(): void {
    this.#dirty = true;
  }

  /** Runs work on the store that reads; a failure reopens the store and runs it again. @throws GatewayError GW_STORE_CLOSED. */
  async read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#recovering !== undefined) await this.#recovering;
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
  change(change: Pick<CommitJob, 'prepare' | 'apply'>): Promise<readonly AppendReceipt[]> {
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

  /**
   * Messages that `drop_newest` refused: the listener hears of them within a tick; the log when there is room again,
   * summed up by device.
   */
  oweRefused(entries: readonly OutboxEntry[]): void {
    for (const { message } of entries) {
      const { deviceId } = message;
      if (this.#refused.size >= LIMITS.outbox_devices && !this.#refused.has(deviceId)) continue;
      const counts = this.#refused.get(deviceId) ?? { untold: 0, unwritten: 0 };
      this.#refused.set(deviceId, { untold: counts.untold + 1, unwritten: counts.unwritten + 1 });
    }
  }

  #refusedEvent(deviceId: DeviceId, count: number): DropEvent {
    return { kind: 'dropped', reason: 'outbox_full', deviceId, epoch: this.state.epoch, count };
  }

  #tellRefused(): void {
    for (const [deviceId, counts] of this.#refused) {
      if (counts.untold === 0) continue;
      this.state.droppedTotal += counts.untold;
      this.emit(this.#refusedEvent(deviceId, counts.untold));
      counts.untold = 0;
    }
  }

  /** Writes the sums into the log, when it is not full any more. */
  #writeRefused(batch: CommitBatch): void {
    if (this.#refused.size === 0 || liveBytes(this.state) >= this.quotaBytes()) return;
    this.#tellRefused();
    const written = [...this.#refused];
    for (const [deviceId, { unwritten }] of written) {
      batch.add(this.eventEntry(this.#refusedEvent(deviceId, unwritten)));
      this.#refused.delete(deviceId);
    }
    batch.onUndo(() => {
      for (const [deviceId, { unwritten }] of written) {
        const since = this.#refused.get(deviceId) ?? { untold: 0, unwritten: 0 };
        this.#refused.set(deviceId, { untold: since.untold, unwritten: since.unwritten + unwritten });
      }
    });
  }

  emit(event: OutboxEvent): void {
    this.#options.onEvent?.(event);
  }

  /** Bytes that the log may hold now: the quota, or less when the file system runs short of space. */
  quotaBytes(): number {
    return this.space.quotaBytes(this.settings, liveBytes(this.state), this.#uncompactedBytes + this.#deadBytes());
  }

  #deadBytes(): number {
    return this.state.head.logBytes - this.state.clearedLogBytes;
  }

  /** Whether that much more would pass a limit, looked up exactly when it seems so. */
  async isFull(bytes: number): Promise<boolean> {
    const over = (): boolean => {
      const used = liveBytes(this.state) + this.line.waitingBytes;
      return used > 0 && used + bytes > this.quotaBytes();
    };
    if (!over()) return false;
    await this.read(() => refreshHead(this.state, this.reader));
    return over();
  }

  // -- commit

  async #commit(group: readonly CommitJob[]): Promise<void> {
    const batch = new CommitBatch(this.state, this.#encoder, this.clock.bootId);
    const ledger = new DropLedger();
    const level = this.#level;
    let receipts: AppendReceipt[][];
    let committed: { chunk: Chunk | undefined; syncMs: number };
    try {
      await this.#enforce(batch, ledger, group);
      for (const job of group) await job.prepare?.(batch, this.#dropContext(ledger, batch));
      receipts = group.map((job) => {
        const own = job.entries.map((entry) => batch.add(entry));
        job.apply?.(batch);
        return own;
      });
      this.#writeRefused(batch);
      this.#addEvents(batch, ledger.events());
      committed = await this.#write(level, batch);
    } catch (error) {
      batch.undo();
      const failure = writeError(error);
      this.lastCommitAnsweredMs = this.clock.monotonicMs();
      // The line is closed before the first producer hears of it, so that nobody appends into a store that is down.
      const recovered = this.#recover(error, false);
      for (const job of group) job.reject(failure);
      await recovered;
      return;
    }
    this.#accept(batch, committed);
    group.forEach((job, index) => job.resolve(receipts[index] ?? []));
  }

  async #write(level: LevelHandle, batch: CommitBatch): Promise<{ chunk: Chunk | undefined; syncMs: number }> {
    const { state } = this;
    const { first } = batch;
    const snapshot = batch.snapshot || state.logBytes - state.snapshotLogBytes >= SNAPSHOT_BYTES;
    if (snapshot) {
      batch.writes.push({ key: logKey(first, RECORD.snapshot), value: seal(snapshotOf(state)) });
    }
    const checkpoint = batch.checkpoint || snapshot || this.#dirty;
    this.#dirty = false;
    if (checkpoint) {
      batch.writes.push({
        key: logKey(first, RECORD.checkpoint),
        value: seal(checkpointOf(state, this.clock)),
      });
    }
    let chunk: Chunk | undefined;
    if (batch.count > 0) {
      const bytes = this.#encoder.finish({
        firstOffset: first,
        logBytesBefore: state.logBytes,
        shelfMs: state.shelf.nowMs(),
        time: this.clock.now(),
      });
      chunk = decodeChunk(bytes, first);
      batch.writes.push({ key: logKey(first, RECORD.chunk), value: bytes });
      this.#addReferences(batch, chunk as Chunk);
    }
    const startedMs = this.clock.monotonicMs();
    try {
      if (batch.writes.length > 0) await level.write(batch.writes, { sync: true });
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
    if (checkpoint) this.#checkpointMs = this.clock.monotonicMs();
    if (snapshot) state.snapshotLogBytes = state.logBytes;
    return { chunk, syncMs: this.clock.monotonicMs() - startedMs };
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

  /** The commit is durable: takes it over. */
  #accept(batch: CommitBatch, { chunk, syncMs }: { chunk: Chunk | undefined; syncMs: number }): void {
    this.commitsTotal += 1;
    this.lastCommitAnsweredMs = this.clock.monotonicMs();
    if (chunk !== undefined) {
      this.appendedTotal += chunk.count;
      this.reader.remember(chunk, batch.references);
      applyChunk(this.state, chunk, batch.references, batch.exclusive);
      this.emit({ kind: 'committed', messages: chunk.count, bytes: chunk.bytes.length, syncMs });
    }
    for (const event of batch.events) {
      if (event.kind === 'dropped') this.state.droppedTotal += event.count;
      this.emit(event);
    }
    this.wakeAll();
    if (this.#deadBytes() >= this.#reclaimStep()) void this.#keepHouse();
  }

  wakeAll(): void {
    for (const notifier of this.#changed.values()) notifier.notify();
  }

  #addEvents(batch: CommitBatch, events: readonly (DropEvent | QuarantineEvent)[]): void {
    const { gatewayId } = this.#options;
    batch.events.push(...events);
    // The loss of nothing but such events (they expire too) is told, but makes no new message: else it would never end.
    if (events.every((event) => event.kind === 'dropped' && event.deviceId === gatewayId && event.from !== undefined))
      return;
    for (const event of events) batch.add(this.eventEntry(event));
  }

  eventEntry(event: DropEvent | QuarantineEvent): OutboxEntry {
    const queues = event.queue === undefined ? [UPSTREAM_ENDPOINT] : [UPSTREAM_ENDPOINT, event.queue];
    return { message: eventMessage(event, this.#options.gatewayId, this.clock.now()), queues };
  }

  // -- limits

  #dropContext(ledger: DropLedger, batch: CommitBatch): DropContext {
    return {
      state: this.state,
      reader: this.reader,
      ledger,
      onUndo: (undo) => batch.onUndo(undo),
      unreadable: (queue, _from, _to, messages) => {
        const event = this.damageEvent(queue, messages);
        batch.events.push(event);
        batch.add(this.eventEntry(event));
      },
    };
  }

  damageEvent(queue: QueueState, messages: number): DropEvent {
    return {
      kind: 'dropped',
      reason: 'damaged',
      deviceId: this.#options.gatewayId,
      epoch: this.state.epoch,
      count: messages,
      queue: queue.name,
    };
  }

  async #enforce(batch: CommitBatch, ledger: DropLedger, group: readonly CommitJob[]): Promise<void> {
    const { state, settings } = this;
    const context = this.#dropContext(ledger, batch);
    if (this.#headIsTooOld()) {
      const oldestMs = state.shelf.nowMs() - settings.maxAgeSecs * 1000;
      await dropFromHead(context, 'max_age', (head) => head.shelfMs >= oldestMs);
    }
    let incoming = 0;
    for (const job of group) incoming += job.bytes;
    if (settings.whenFull === 'drop_oldest' && liveBytes(state) + incoming > this.quotaBytes()) {
      await refreshHead(state, this.reader);
      const quota = this.quotaBytes();
      const reason = quota < settings.maxBytes ? 'min_free_bytes' : 'max_bytes';
      if (liveBytes(state) + incoming > quota) await dropToQuota(context, quota, incoming, reason);
    }
    for (const queue of state.queues.values()) {
      if (queue.maxBytes === undefined || queue.bytes + incoming <= queue.maxBytes) continue;
      const target = Math.max(0, queue.maxBytes - incoming - dropStepBytes(queue.maxBytes));
      await dropFromQueue(context, queue, target);
    }
    if (batch.events.length > 0 || ledger.size > 0) batch.checkpoint = true;
  }

  #headIsTooOld(): boolean {
    const { shelfMs } = this.state.head;
    const { maxAgeSecs } = this.settings;
    if (maxAgeSecs <= 0 || shelfMs === undefined || headOffset(this.state) === this.state.tail) return false;
    return this.state.shelf.nowMs() - shelfMs > maxAgeSecs * 1000;
  }

  // -- housekeeping

  #scheduleTick(): void {
    this.#cancelTick = this.clock.after(TICK_MS, () => {
      void this.#keepHouse().finally(() => {
        if (!this.#closed) this.#scheduleTick();
      });
    });
  }

  /** Checkpoint, expiry, space. One run at a time; never rejects. */
  #keepHouse(): Promise<void> {
    this.#housekeeping ??= this.#keepHouseOnce()
      .catch((error: unknown) => {
        if (this.#closed || error instanceof GatewayError) return;
        this.#options.log?.warn({ error: errorText(error) }, 'Housekeeping of the outbox failed; it is tried again.');
      })
      .finally(() => {
        this.#housekeeping = undefined;
      });
    return this.#housekeeping;
  }

  async #keepHouseOnce(): Promise<void> {
    if (this.#recovering !== undefined || this.#closed) return;
    await this.space.refresh();
    await this.read(() => refreshHead(this.state, this.reader));
    const checkpointDue = this.#dirty && this.clock.monotonicMs() - this.#checkpointMs >= TICK_MS;
    const overQuota = this.settings.whenFull === 'drop_oldest' && liveBytes(this.state) > this.quotaBytes();
    this.#tellRefused();
    const owesEvents = this.#refused.size > 0 && liveBytes(this.state) < this.quotaBytes();
    if (checkpointDue || overQuota || owesEvents || this.#headIsTooOld()) {
      await this.checkpoint(false);
    }
    await this.#reclaim();
  }

  #reclaimStep(): number {
    if (this.space.isShort(this.settings)) return 1;
    return Math.min(Math.max(this.settings.maxBytes / 64, RECLAIM_MIN_BYTES), RECLAIM_MAX_BYTES);
  }

  /** Deletes what every queue has passed and, when it is much, has LevelDB give the space back. */
  async #reclaim(): Promise<void> {
    const { state } = this;
    const nowMs = this.clock.monotonicMs();
    const empty = headOffset(state) === state.tail;
    this.#emptySinceMs = empty ? (this.#emptySinceMs ?? nowMs) : undefined;
    const idle = this.#emptySinceMs !== undefined && nowMs - this.#emptySinceMs >= COMPACT_IDLE_MS;
    const dead = this.#deadBytes();
    if (dead >= this.#reclaimStep() || (idle && dead >= RECLAIM_MIN_BYTES)) {
      const { first, logBytes } = state.head;
      // What is deleted must have been given up by a durable checkpoint, and its devices' numbers be in a snapshot.
      await this.checkpoint(true);
      await this.read((level) => level.clear(logFrom(state.clearedTo), logFrom(first)));
      state.clearedTo = first;
      state.clearedLogBytes = logBytes;
      this.reader.forgetBelow(first);
      this.#uncompactedBytes += dead;
    }
    const short = this.space.isShort(this.settings);
    const due = this.#uncompactedBytes >= COMPACT_BYTES || ((idle || short) && this.#uncompactedBytes > 0);
    if (!due) return;
    this.#uncompactedBytes = 0;
    await this.read((level) => level.compact(logFrom(0), logFrom(state.clearedTo)));
    await this.space.refresh(true);
  }

  // -- failure

  /** Closes, reopens and verifies the store; until then producers get GW_STORE_WRITE and readers wait. */
  #recover(cause: unknown, thorough: boolean): Promise<void> {
    this.#recovering ??= this.#reopen(cause, thorough).finally(() => {
      this.#recovering = undefined;
    });
    return this.#recovering;
  }

  async #reopen(cause: unknown, thorough: boolean): Promise<void> {
    this.line.pause(writeError(cause));
    this.emit({ kind: 'write_failed', reason: errorText(cause) });
    let delayMs = REOPEN_FIRST_MS;
    let damaged = thorough;
    while (!this.#closed) {
      try {
        await this.#level.close().catch(() => {});
        await this.space.release();
        this.#level = await this.#options.reopen(damaged);
        this.reader.use(this.#level);
        // A commit that failed may be in the log all the same: it keeps its offsets and numbers, and is delivered.
        await replayChunks(this.#level, this.state, this.state.tail);
        this.#dirty = true;
        this.line.resume();
        this.emit({ kind: 'reopened' });
        this.wakeAll();
        return;
      } catch (error) {
        this.#options.log?.error({ error: errorText(error), retryMs: delayMs }, 'The outbox could not be reopened.');
        damaged = damaged || !(error instanceof GatewayError);
        await this.clock.sleep(delayMs, this.#stop.signal).catch(() => {});
        delayMs = Math.min(delayMs * 2, REOPEN_LONGEST_MS);
      }
    }
  }

  // -- close

  async close(beforeClose: () => Promise<void>): Promise<void> {
    this.#cancelTick?.();
    await this.#housekeeping;
    if (this.#recovering === undefined) {
      await this.line.whenIdle();
      await this.checkpoint(true).catch(() => {});
    }
    const clean = this.#recovering === undefined;
    this.#closed = true;
    this.#stop.abort();
    this.line.pause(closedError());
    await this.#recovering;
    this.wakeAll();
    await this.#level.close();
    if (clean) await beforeClose();
  }
}

function closedError(): GatewayError {
  return new GatewayError('GW_STORE_CLOSED', 'The outbox is closed.');
}

function writeError(cause: unknown): GatewayError {
  return new GatewayError(
    'GW_STORE_WRITE',
    `The outbox could not write (${errorText(cause)}). It is being reopened and verified; check the disk if this goes on.`,
    { cause },
  );
}
