// Reads chunks and references, through one bounded cache of chunks for all queues. Queues at the tail are served from
// the chunks just committed and read nothing from LevelDB.

import { LIMITS } from '../core/limits.ts';
import type { StoredMessage } from '../core/message.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { decodeChunk, decodeRecord } from './chunk-decoder.ts';
import { chunkMemoryBytes, type Chunk } from './chunk-format.ts';
import { LOG_END, logFrom, logKey, parseLogKey, RECORD } from './keys.ts';
import type { SnapshotRecord } from './log-state.ts';
import { decodeReferences, type References } from './references.ts';
import { unseal } from './sealed.ts';

/** Memory of a cached chunk beside its bytes: objects and device ids. */
const CHUNK_OVERHEAD_BYTES = 512;

/** What stands at an offset: a chunk, or a gap up to the next chunk that can be read (or to the tail). */
export type Located = { readonly chunk: Chunk } | { readonly missing: { readonly from: number; readonly to: number } };

/** References of one queue in [from, to): all that there are. */
export interface ReferenceBlock {
  readonly from: number;
  readonly to: number;
  readonly offsets: readonly number[];
}

interface Cached {
  readonly chunk: Chunk;
  /** By queue id; undefined when the chunk was read back, its references not. */
  readonly references: ReadonlyMap<number, readonly number[]> | undefined;
  readonly bytes: number;
}

/**
 * The cache stands in arrays. The tables of a map are chained as it outgrows them: once one is in the old generation, every
 * collection of the young keeps those after it, with all chunks that they had.
 */
export class LogReader {
  #level: LevelHandle;
  /** By first offset. */
  readonly #cache: Cached[] = [];
  /** The same, least recently used first. */
  readonly #byUse: Cached[] = [];
  #cachedBytes = 0;
  readonly #isShared: () => boolean;

  /** `isShared`: several queues read, so that it is worth keeping what one of them has decoded. */
  constructor(level: LevelHandle, isShared: () => boolean) {
    this.#level = level;
    this.#isShared = isShared;
  }

  /** After a reopening. */
  use(level: LevelHandle): void {
    this.#level = level;
  }

  get cachedBytes(): number {
    return this.#cachedBytes;
  }

  /** Remembers a chunk; `references` when it was just committed. */
  remember(chunk: Chunk, references?: ReadonlyMap<number, readonly number[]>): void {
    const place = this.#seek(chunk.firstOffset);
    if (this.#cache[place]?.chunk.firstOffset === chunk.firstOffset) return;
    const bytes = chunkMemoryBytes(chunk, this.#isShared()) + CHUNK_OVERHEAD_BYTES;
    const cached = { chunk, references, bytes };
    this.#cache.splice(place, 0, cached);
    this.#byUse.push(cached);
    this.#cachedBytes += bytes;
    // The newest stays even when it alone is larger than the cache: readers at the tail need it next.
    while (this.#cachedBytes > LIMITS.chunk_cache_bytes && this.#byUse.length > 1)
      this.#forget(this.#byUse[0] as Cached);
  }

  /** Drops cached chunks that end at or below an offset. */
  forgetBelow(offset: number): void {
    for (let [oldest] = this.#cache; oldest !== undefined; [oldest] = this.#cache) {
      if (oldest.chunk.firstOffset + oldest.chunk.count > offset) return;
      this.#forget(oldest);
    }
  }

  #forget(cached: Cached): void {
    this.#cachedBytes -= cached.bytes;
    this.#cache.splice(this.#seek(cached.chunk.firstOffset), 1);
    this.#byUse.splice(this.#byUse.indexOf(cached), 1);
  }

  /** Place of the first cached chunk that begins at or above `offset`. */
  #seek(offset: number): number {
    let low = 0;
    let high = this.#cache.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#cache[middle] as Cached).chunk.firstOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #lookUp(offset: number): Cached | undefined {
    const cached = this.#cache[this.#seek(offset + 1) - 1];
    return cached !== undefined && offset < cached.chunk.firstOffset + cached.chunk.count ? cached : undefined;
  }

  /** The message of a record. Its body is a view of the chunk. */
  message(chunk: Chunk, index: number): StoredMessage {
    if (!this.#isShared()) return decodeRecord(chunk, index);
    return (chunk.messages[index] ??= decodeRecord(chunk, index));
  }

  /** The chunk that holds an offset, when it is cached. */
  cached(offset: number): Chunk | undefined {
    return this.#lookUp(offset)?.chunk;
  }

  /** The chunk that holds `offset` (below `tail`), or the gap that it lies in. */
  async locate(offset: number, tail: number): Promise<Located> {
    const cached = this.#lookUp(offset);
    if (cached !== undefined) {
      // Used: to the end of the order of removal.
      this.#byUse.splice(this.#byUse.indexOf(cached), 1);
      this.#byUse.push(cached);
      return { chunk: cached.chunk };
    }
    const first = await this.#firstAtOrBelow(offset);
    if (first !== undefined) {
      const chunk = await this.#read(first);
      if (chunk !== undefined && offset < first + chunk.count) {
        this.remember(chunk);
        return { chunk };
      }
    }
    return { missing: { from: offset, to: await this.#nextReadable(offset, tail) } };
  }

  /**
   * The whole chunks that begin in [from, to), in order or backwards. They stay out of the cache: a walk must not push out
   * what queues read.
   */
  async *chunks(from: number, to: number, options: { readonly reverse?: boolean } = {}): AsyncIterable<Chunk> {
    const { reverse = false } = options;
    for await (const key of this.#level.keys({ gte: logFrom(from), lt: logFrom(to), reverse })) {
      const parsed = parseLogKey(key);
      const chunk = parsed?.kind === RECORD.chunk ? await this.#read(parsed.offset) : undefined;
      if (chunk !== undefined) yield chunk;
    }
  }

  /** The newest readable snapshot at or below an offset. */
  async snapshotAt(
    offset: number,
  ): Promise<{ readonly offset: number; readonly seqs: SnapshotRecord['seqs'] } | undefined> {
    for await (const key of this.#level.keys({ gte: logFrom(0), lt: logFrom(offset + 1), reverse: true })) {
      const parsed = parseLogKey(key);
      if (parsed?.kind !== RECORD.snapshot) continue;
      const record = unseal(await this.#level.get(key)) as SnapshotRecord | undefined;
      if (record !== undefined) return { offset: parsed.offset, seqs: record.seqs };
    }
    return undefined;
  }

  async #firstAtOrBelow(offset: number): Promise<number | undefined> {
    for await (const key of this.#level.keys({ gte: logFrom(0), lt: logFrom(offset + 1), reverse: true })) {
      const parsed = parseLogKey(key);
      if (parsed?.kind === RECORD.chunk) return parsed.offset;
    }
    return undefined;
  }

  async #read(first: number): Promise<Chunk | undefined> {
    const bytes = await this.#level.get(logKey(first, RECORD.chunk));
    return bytes === undefined ? undefined : decodeChunk(bytes, first);
  }

  /** The first offset above `offset` at which a whole chunk begins, else the tail. */
  async #nextReadable(offset: number, tail: number): Promise<number> {
    for await (const key of this.#level.keys({ gte: logFrom(offset + 1), lt: LOG_END })) {
      const parsed = parseLogKey(key);
      if (parsed === undefined || parsed.kind !== RECORD.chunk || parsed.offset >= tail) continue;
      if ((await this.#read(parsed.offset)) !== undefined) return parsed.offset;
    }
    return tail;
  }

  /**
   * The references of a queue in the commit that holds `offset` or in the first later one that has any; `to` is the tail
   * when there are no more.
   */
  async references(queueId: number, offset: number, tail: number): Promise<ReferenceBlock> {
    const cached = this.#lookUp(offset);
    if (cached?.references !== undefined) {
      const { firstOffset, count } = cached.chunk;
      return { from: firstOffset, to: firstOffset + count, offsets: cached.references.get(queueId) ?? [] };
    }
    const first = cached?.chunk.firstOffset ?? (await this.#firstAtOrBelow(offset)) ?? offset;
    for await (const key of this.#level.keys({ gte: logFrom(first), lt: LOG_END })) {
      const parsed = parseLogKey(key);
      if (parsed?.kind !== RECORD.references || parsed.ownerId !== queueId) continue;
      const found: References | undefined = decodeReferences(await this.#level.get(key), parsed.offset);
      if (found !== undefined && found.to > offset) return { from: first, to: found.to, offsets: found.offsets };
    }
    return { from: first, to: tail, offsets: [] };
  }
}
