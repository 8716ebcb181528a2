// The durable store-and-forward buffer.
//
// Invariants
// - Log. A chunk is one group commit: checksummed, keyed by its first offset, never changed. Offsets join from chunk to
//   chunk; a hole is damage and is reported. `seq` of a device is gap-free within an epoch, given inside the commit.
// - Acknowledged means durable: `append` resolves after the sync of the one batch that holds chunk, references and events.
// - A queue settles in memory; its checkpoint rides in the next commit, alone at most once a second. After a crash it gives
//   again what was settled since, and never less than what was not.
// - Dead is what every queue has passed, by a durable checkpoint; only that is deleted, in ranges from the head.
// - What a commit evicts is gone when it is durable; until then its queues give nothing, so that what a crash or a failed
//   write brings back cannot come behind what followed it.
// - A message leaves without being accepted by all its endpoints only through a limit, a purge or damage: counted, told
//   to the listener, and told by a message of the gateway's own device, which stands in the same batch, or is owed by the
//   checkpoint in it and follows within about a minute.
// - After a failed write or sync nothing is written until the store was closed, reopened and verified. Memory is rolled
//   back to what is durable; what the failed batch left on disk all the same keeps its offsets and is delivered.
// - Nothing is kept in memory for each message that waits; for each device its last `seq`, for each queue its ranges.
//
// src/store/README.md has the keys, the crash matrix and the sizes.

import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { MESSAGE_MAX_BYTES, messageBytes, type StoredMessage } from '../core/message.ts';
import type {
  AppendOptions,
  AppendReceipt,
  Loss,
  Outbox,
  OutboxEntry,
  OutboxQueue,
  OutboxSettings,
  OutboxStats,
  OutboxStream,
  QuarantinedMessage,
  QueueDefinition,
  QueueName,
  StreamDefinition,
  StreamName,
} from '../core/outbox.ts';
import { abortable, throwIfAborted } from '../platform/abort.ts';
import { decodeIdentity, decodeRecord } from './chunk-decoder.ts';
import type { CommitBatch } from './commit-batch.ts';
import { metaKey } from './keys.ts';
import type { LogCore } from './log-core.ts';
import { headOffset, liveBytes, wantedHead } from './log-state.ts';
import { Quarantine } from './quarantine.ts';
import { QueueState } from './queue-state.ts';
import { configureStreams, LogStream } from './stream.ts';
import type { StreamState } from './stream-state.ts';
import { LogQueue, tellMissing } from './queue.ts';
import { purgeQueue, type DropContext } from './retention.ts';
import { seal } from './sealed.ts';

/** What a record takes in a chunk beside what `messageBytes` counts. */
const RECORD_OVERHEAD_BYTES = 96;

export class LogOutbox implements Outbox {
  readonly #core: LogCore;
  readonly #quarantine: Quarantine;
  readonly #queues = new Map<QueueName, LogQueue>();
  readonly #streams = new Map<StreamName, LogStream>();
  /** The last append found no room. */
  #refuses = false;
  readonly #markClean: (tail: number, head: number) => Promise<void>;
  #closing: Promise<void> | undefined;

  /** `markClean` records an orderly shutdown once the store is closed. */
  constructor(core: LogCore, markClean: (tail: number, head: number) => Promise<void>) {
    this.#core = core;
    this.#quarantine = new Quarantine(core);
    this.#markClean = markClean;
    for (const state of core.state.queues.values()) this.#adopt(state);
    for (const state of core.state.streams.values()) this.#adoptStream(state);
  }

  #adopt(state: QueueState): void {
    this.#queues.set(state.name, new LogQueue(this.#core, this.#quarantine, state));
  }

  #adoptStream(state: StreamState): void {
    this.#streams.set(state.name, new LogStream(this.#core, state));
  }

  get epoch(): string {
    return this.#core.state.epoch;
  }

  async append(entries: readonly OutboxEntry[], options: AppendOptions = {}): Promise<readonly AppendReceipt[]> {
    const { signal } = options;
    throwIfAborted(signal);
    if (this.#core.closed) throw new GatewayError('GW_STORE_CLOSED', 'The outbox is closed.');
    if (entries.length === 0) return [];
    const bytes = this.#measure(entries);
    if (this.#core.nearlyFills(bytes) && (await this.#core.mustReclaim(bytes))) throw reclaimError();
    if (this.#core.settings.whenFull !== 'drop_oldest' && (await this.#core.isFull(bytes))) throw this.#refuse(entries);
    this.#refuses = false;
    const answered = this.#core.line.submit({ entries, bytes, class: options.class ?? 'acknowledged' });
    return signal === undefined ? answered : abortable(answered, signal);
  }

  /** Bytes in the log. @throws GatewayError GW_MESSAGE_INVALID, GW_OUTBOX_FULL for a device too many. */
  #measure(entries: readonly OutboxEntry[]): number {
    const { seqs } = this.#core.state;
    let bytes = 0;
    for (const { message } of entries) {
      const size = messageBytes(message);
      if (size > MESSAGE_MAX_BYTES) {
        throw new GatewayError(
          'GW_MESSAGE_INVALID',
          `A message of ${message.deviceId} has ${size} bytes; the most is ${MESSAGE_MAX_BYTES}.`,
        );
      }
      if (seqs.size >= LIMITS.outbox_devices && !seqs.has(message.deviceId)) {
        throw new GatewayError(
          'GW_OUTBOX_FULL',
          `The outbox already numbers the messages of ${LIMITS.outbox_devices} devices; ${message.deviceId} is one too many.`,
        );
      }
      bytes += size + RECORD_OVERHEAD_BYTES;
    }
    return bytes;
  }

  #refuse(entries: readonly OutboxEntry[]): GatewayError {
    const { whenFull } = this.#core.settings;
    this.#refuses = true;
    // With `reject` the sender keeps the message; with `drop_newest` it is lost here, which is told.
    if (whenFull === 'drop_newest') {
      this.#core.refusals.report(
        entries.map(({ message }) => ({ deviceId: message.deviceId, count: 1, reason: 'outbox_full' })),
      );
    }
    return new GatewayError(
      'GW_OUTBOX_FULL',
      `The outbox is full (${liveBytes(this.#core.state)} of ${this.#core.quotaBytes()} bytes) and its policy is ${whenFull}. Restore the upstream connection, raise outbox.max_bytes or free disk space.`,
      { details: { policy: whenFull } },
    );
  }

  reportLost(losses: readonly Loss[]): void {
    if (!this.#core.closed) this.#core.refusals.report(losses);
  }

  queue(name: QueueName): OutboxQueue {
    const queue = this.#queues.get(name);
    if (queue === undefined) throw noQueue(name);
    return queue;
  }

  async setQueues(definitions: readonly QueueDefinition[]): Promise<void> {
    const { state } = this.#core;
    await this.#core.change({
      apply: (batch) => {
        batch.checkpoint = true;
        const before = [...state.queues];
        batch.onUndo(() => {
          state.queues.clear();
          for (const [name, queue] of before) state.queues.set(name, queue);
        });
        configureQueues(this.#core.state, definitions);
      },
    });
    for (const queue of state.queues.values()) if (!this.#queues.has(queue.name)) this.#adopt(queue);
    this.#core.wakeAll();
  }

  stream(name: StreamName): OutboxStream {
    const stream = this.#streams.get(name);
    if (stream === undefined) throw new GatewayError('GW_NOT_FOUND', `The outbox has no stream "${name}".`);
    return stream;
  }

  async setStreams(definitions: readonly StreamDefinition[]): Promise<void> {
    const { state, clock } = this.#core;
    await this.#core.change({
      apply: (batch) => {
        batch.checkpoint = true;
        const before = [...state.streams];
        batch.onUndo(() => {
          state.streams.clear();
          for (const [name, stream] of before) state.streams.set(name, stream);
        });
        configureStreams(state, definitions, clock.wallMs());
      },
      apart: () => {
        const identities = [...state.streams.values()].map((stream) => stream.identity());
        return [{ key: metaKey('streams'), value: seal(identities) }];
      },
    });
    for (const stream of state.streams.values()) if (!this.#streams.has(stream.name)) this.#adoptStream(stream);
  }

  setSettings(settings: OutboxSettings): void {
    this.#core.settings = settings;
  }

  async recordClockOffset(bootId: string, offsetMs: number): Promise<void> {
    const { clockOffsets } = this.#core.state;
    clockOffsets.delete(bootId);
    clockOffsets.set(bootId, offsetMs);
    for (const oldest of clockOffsets.keys()) {
      if (clockOffsets.size <= LIMITS.clock_boots) break;
      clockOffsets.delete(oldest);
    }
    await this.#core.change({ apart: () => [{ key: metaKey('clock'), value: seal([...clockOffsets]) }] });
  }

  clockOffset(bootId: string): number | undefined {
    return this.#core.state.clockOffsets.get(bootId);
  }

  async browse(options: { queue?: QueueName; fromOffset?: number; limit: number }): Promise<readonly StoredMessage[]> {
    const { state, reader } = this.#core;
    const queue = options.queue === undefined ? undefined : state.queues.get(options.queue);
    if (options.queue !== undefined && queue === undefined) throw noQueue(options.queue);
    const found: StoredMessage[] = [];
    let offset = Math.max(options.fromOffset ?? 0, queue?.cursor ?? headOffset(state));
    while (offset < state.tail && found.length < options.limit) {
      const from = offset;
      const located = await this.#core.read(() => reader.locate(from, state.tail));
      if (!('chunk' in located)) {
        const { to } = located.missing;
        await tellMissing(this.#core, from, to);
        offset = to;
        continue;
      }
      const { chunk } = located;
      const end = chunk.firstOffset + chunk.count;
      const routed = queue !== undefined && queue.segmentAt(offset).takes === 'routed';
      const wanted = routed
        ? new Set((await this.#core.read(() => reader.references(queue.id, from, state.tail))).offsets)
        : undefined;
      for (; offset < end && found.length < options.limit; offset += 1) {
        if (queue?.isDone(offset) === true || wanted?.has(offset) === false) continue;
        const index = offset - chunk.firstOffset;
        if (queue !== undefined && decodeIdentity(chunk, index).onlyQueues?.includes(queue.id) === false) continue;
        found.push(decodeRecord(chunk, index));
      }
    }
    return found;
  }

  quarantined(options: { afterId?: string; limit: number }): Promise<readonly QuarantinedMessage[]> {
    return this.#quarantine.list(options);
  }

  requeue(ids: readonly string[]): Promise<number> {
    return this.#quarantine.requeue(ids);
  }

  discard(ids: readonly string[]): Promise<number> {
    return this.#quarantine.discard(ids);
  }

  async purge(name: QueueName): Promise<number> {
    const { state } = this.#core;
    const queue = state.queues.get(name);
    if (queue === undefined) throw noQueue(name);
    // What comes in meanwhile stays, unless the queue goes with it.
    const to = queue.detached ? Number.MAX_SAFE_INTEGER : state.tail;
    let count = 0;
    const step = {
      prepare: async (batch: CommitBatch, context: DropContext): Promise<void> => {
        batch.checkpoint = true;
        count += await purgeQueue(context, queue, to);
        if (!queue.detached || queue.messages > 0) return;
        state.queues.delete(name);
        batch.onUndo(() => state.queues.set(name, queue));
      },
    };
    do await this.#core.change(step);
    while (queue.messages > 0 && queue.cursor < to);
    if (!state.queues.has(name)) this.#queues.delete(name);
    this.#core.wakeAll();
    return count;
  }

  stats(): OutboxStats {
    const core = this.#core;
    const { state } = core;
    const head = headOffset(state);
    let messages = 0;
    for (const queue of state.queues.values()) messages = Math.max(messages, queue.messages);
    const bytes = liveBytes(state);
    const { shelfMs } = state.head;
    const empty = head === state.tail;
    return {
      epoch: state.epoch,
      messages,
      bytes,
      diskBytes: core.space.diskBytes,
      freeBytes: core.space.freeBytes,
      headOffset: head,
      tailOffset: state.tail,
      oldestAgeMs: empty || shelfMs === undefined ? undefined : Math.max(0, state.shelf.nowMs() - shelfMs),
      quarantined: state.quarantine.messages,
      waitingAppends: core.line.waitingMessages,
      commitsTotal: core.commitsTotal,
      appendedTotal: core.appendedTotal,
      droppedTotal: state.droppedTotal,
      untoldLosses: core.limits.untoldLosses,
      lastCommitAnsweredMs: core.lastCommitAnsweredMs,
      full: core.settings.whenFull !== 'drop_oldest' && (this.#refuses || (bytes > 0 && bytes >= core.quotaBytes())),
      queues: [...this.#queues.values()].map((queue) => queue.stats()),
      streams: [...state.streams.values()].map((stream) => stream.stats(state.shelf.nowMs())),
    };
  }

  close(): Promise<void> {
    const { state } = this.#core;
    this.#closing ??= this.#core.close(() => this.#markClean(state.tail, wantedHead(state)));
    return this.#closing;
  }
}

/** Applies the configured queues to the state: new ones begin at the tail, those not named are detached. */
export function configureQueues(state: LogCore['state'], definitions: readonly QueueDefinition[]): void {
  for (const queue of state.queues.values()) queue.detached = true;
  for (const definition of definitions) {
    const queue = state.queues.get(definition.name);
    if (queue === undefined) {
      state.queues.set(definition.name, QueueState.create(state.nextQueueId, definition, state.tail));
      state.nextQueueId += 1;
    } else queue.configure(definition);
  }
}

function noQueue(name: QueueName): GatewayError {
  return new GatewayError('GW_NOT_FOUND', `The outbox has no queue "${name}".`);
}

function reclaimError(): GatewayError {
  return new GatewayError(
    'GW_OUTBOX_BUSY',
    'The disk of the outbox is nearly full, and room is being made on it. Send more slowly, or make room on the disk.',
  );
}
