// What one stream knows: its numbers, what is kept, and the newest of its index. No I/O.
//
// Invariants
// - `next` of a partition never goes back: where damage hides how many numbers were given, at least as many are skipped.
// - Nothing below `oldest` is kept, and everything from it on is; undefined: nothing is.
// - `recent` are the newest blocks, without a block missing between them.

import { LIMITS } from '../core/limits.ts';
import type { StreamDefinition, StreamName, StreamPartition, StreamStats } from '../core/outbox.ts';
import type { Chunk } from './chunk-format.ts';
import { numbersAfter, type StreamBlock } from './stream-block.ts';

/** What never changes. It stands apart from the checkpoints too, and so survives the loss of them all. */
export interface StreamIdentity {
  readonly id: number;
  readonly name: StreamName;
  readonly partitions: number;
  /** Wall clock. */
  readonly createdAtMs: number;
}

/** Where the oldest block stands, and what the limits need of it. */
export type StreamOldest = Pick<StreamBlock, 'first' | 'shelfMs' | 'logBytesBefore' | 'bytesBefore' | 'bases'>;

/** What a checkpoint keeps of a stream. */
export interface StreamRecord extends StreamIdentity {
  readonly next: readonly number[];
  readonly lastOffsets: readonly number[];
  readonly lastMs: readonly number[];
  readonly bytes: number;
  readonly oldest: StreamOldest | null;
  readonly retentionSecs: number;
  readonly maxBytes: number;
}

export class StreamState implements StreamIdentity {
  readonly id: number;
  readonly name: StreamName;
  readonly partitions: number;
  readonly createdAtMs: number;
  /** Unbounded until the configuration or a checkpoint says more: where none can be read, nothing is given up before. */
  retentionSecs = Number.MAX_SAFE_INTEGER;
  maxBytes = Number.MAX_SAFE_INTEGER;
  detached = true;
  shortened = 0;
  #next: number[];
  #lastOffsets: number[];
  #lastMs: number[];
  /** Of all its records since it was made. */
  #bytes = 0;
  #oldest: StreamOldest | undefined;
  #newestFirst = -1;
  readonly #recent: StreamBlock[] = [];
  #recentBytes = 0;
  /** Up to this offset a checkpoint or a block says which numbers were given; -1: none was read yet. */
  #knownTo = -1;

  constructor({ id, name, partitions, createdAtMs }: StreamIdentity) {
    this.id = id;
    this.name = name;
    this.partitions = partitions;
    this.createdAtMs = createdAtMs;
    this.#next = Array<number>(partitions).fill(0);
    this.#lastOffsets = Array<number>(partitions).fill(-1);
    this.#lastMs = Array<number>(partitions).fill(-1);
  }

  static create(identity: StreamIdentity): StreamState {
    const state = new StreamState(identity);
    state.#knownTo = 0;
    return state;
  }

  identity(): StreamIdentity {
    const { id, name, partitions, createdAtMs } = this;
    return { id, name, partitions, createdAtMs };
  }

  record(): StreamRecord {
    return {
      ...this.identity(),
      next: this.#next,
      lastOffsets: this.#lastOffsets,
      lastMs: this.#lastMs,
      bytes: this.#bytes,
      oldest: this.#oldest ?? null,
      retentionSecs: this.retentionSecs,
      maxBytes: this.maxBytes,
    };
  }

  /** Takes over what a checkpoint says, which was written at that tail. */
  restore(record: StreamRecord, tail: number): void {
    this.#next = [...record.next];
    this.#lastOffsets = [...record.lastOffsets];
    this.#lastMs = [...record.lastMs];
    this.#bytes = record.bytes;
    this.#oldest = record.oldest ?? undefined;
    this.retentionSecs = record.retentionSecs;
    this.maxBytes = record.maxBytes;
    this.#knownTo = tail;
  }

  configure(definition: StreamDefinition): void {
    this.detached = false;
    this.retentionSecs = definition.retentionSecs;
    this.maxBytes = definition.maxBytes;
  }

  // -- what comes in

  /** The block of a commit: `places` by message, with the bytes of its records. */
  block(
    chunk: Pick<Chunk, 'firstOffset' | 'shelfMs' | 'logBytesBefore'>,
    places: Uint8Array,
    bytes: number,
  ): StreamBlock {
    return {
      first: chunk.firstOffset,
      to: chunk.firstOffset + places.length,
      shelfMs: chunk.shelfMs,
      logBytesBefore: chunk.logBytesBefore,
      bytesBefore: this.#bytes,
      bytes,
      bases: [...this.#next],
      places,
    };
  }

  /** A commit is durable. */
  append(block: StreamBlock, wallMs: number): void {
    this.#knownTo = block.to;
    // What the block says is so, whatever was skipped for a hole before it.
    const before = this.#next;
    this.#next = numbersAfter(block);
    for (let partition = 0; partition < this.partitions; partition += 1) {
      // An index that was lost with the messages of a partition alone leaves its numbers unused.
      this.#next[partition] ??= before[partition] ?? 0;
    }
    block.places.forEach((place, index) => {
      if (place === 0) return;
      this.#lastOffsets[place - 1] = block.first + index;
      this.#lastMs[place - 1] = wallMs;
    });
    this.#bytes = block.bytesBefore + block.bytes;
    if (this.#oldest === undefined) this.keepFrom(block);
    this.#newestFirst = block.first;
    this.#remember(block);
  }

  /** So many messages of the log are missing, and nobody knows which of them were the stream's. */
  skip(messages: number): void {
    this.#next = this.#next.map((next) => next + messages);
    this.#recent.length = 0;
    this.#recentBytes = 0;
  }

  /** All that is left of it was read. A stream of which nothing was: its numbers cannot have passed the log's offsets. */
  settleNumbers(tail: number): void {
    if (this.#knownTo < 0) {
      this.#next.fill(tail);
      this.#knownTo = tail;
    }
  }

  /** The store was salvaged, and where a block is missing nobody can tell whether there was one: skips what it may have given. */
  skipUnknown(tail: number): void {
    if (this.#knownTo < tail) this.skip(tail - this.#knownTo);
    this.#knownTo = tail;
  }

  #remember(block: StreamBlock): void {
    this.#recent.push(block);
    this.#recentBytes += memoryBytes(block);
    let drop = 0;
    while (this.#recentBytes > LIMITS.stream_index_bytes && drop < this.#recent.length - 1) {
      this.#recentBytes -= memoryBytes(this.#recent[drop] as StreamBlock);
      drop += 1;
    }
    if (drop > 0) this.#recent.splice(0, drop);
  }

  // -- what is kept

  get oldest(): StreamOldest | undefined {
    return this.#oldest;
  }

  /** Bytes of records that are kept. */
  get bytes(): number {
    return this.#oldest === undefined ? 0 : this.#bytes - this.#oldest.bytesBefore;
  }

  get messages(): number {
    let messages = 0;
    for (let partition = 0; partition < this.partitions; partition += 1) {
      messages += this.next(partition) - this.first(partition);
    }
    return messages;
  }

  /** First offset of the newest block that was ever seen; -1 when none was. */
  get newestFirst(): number {
    return this.#newestFirst;
  }

  get recent(): readonly StreamBlock[] {
    return this.#recent;
  }

  next(partition: number): number {
    return this.#next[partition] ?? 0;
  }

  first(partition: number): number {
    return this.#oldest?.bases[partition] ?? this.next(partition);
  }

  /** Gives up what stands before a block; all that it has without one. */
  keepFrom(block: StreamOldest | undefined): void {
    if (block === undefined) this.#oldest = undefined;
    else {
      const { first, shelfMs, logBytesBefore, bytesBefore, bases } = block;
      this.#oldest = { first, shelfMs, logBytesBefore, bytesBefore, bases };
    }
  }

  partition(partition: number): StreamPartition {
    return {
      firstSequence: this.first(partition),
      lastSequence: this.next(partition) - 1,
      lastOffset: this.#lastOffsets[partition] ?? -1,
      lastEnqueuedMs: this.#lastMs[partition] ?? -1,
    };
  }

  stats(nowMs: number): StreamStats {
    return {
      name: this.name,
      messages: this.messages,
      bytes: this.bytes,
      oldestAgeMs: this.#oldest === undefined ? undefined : Math.max(0, nowMs - this.#oldest.shelfMs),
      shortenedTotal: this.shortened,
      detached: this.detached,
    };
  }
}

function memoryBytes({ places, bases }: StreamBlock): number {
  return places.length + bases.length * 8 + 256;
}
