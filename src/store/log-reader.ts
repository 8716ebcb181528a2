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

export class LogReader {
  #level: LevelHandle;
  /** By first offset, least recently used first. */
  readonly #cache = new Map<number, Cached>();
  /** First offsets of the cached chunks, sorted. */
  readonly #firsts: number[] = [];
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
    if (this.#cache.has(chunk.firstOffset)) return;
    const bytes = chunkMemoryBytes(chunk, this.#isShared()) + CHUNK_OVERHEAD_BYTES;
    this.#cache.set(chunk.firstOffset, { chunk, references, bytes });
    this.#cachedBytes += bytes;
    if (this.#firsts.length === 0 || (this.#firsts.at(-1) as number) < chunk.firstOffset) {
      this.#firsts.push(chunk.firstOffset);
    } else this.#firsts.splice(this.#seek(chunk.firstOffset), 0, chunk.firstOffset);
    for (const first of this.#cache.keys()) {
      // The newest stays even when it alone is larger than the cache: readers at the tail need it next.
      if (this.#cachedBytes <= LIMITS.chunk_cache_bytes || this.#cache.size === 1) break;
      this.#forget(first);
    }
  }

  /** Drops cached chunks that end at or below an offset. */
  forgetBelow(offset: number): void {
    while (this.#firsts.length > 0) {
      const first = this.#firsts[0] as number;
      if (first + (this.#cache.get(first)?.chunk.count ?? 0) > offset) return;
      this.#forget(first);
    }
  }

  #forget(first: number): void {
    this.#cachedBytes -= this.#cache.get(first)?.bytes ?? 0;
    this.#cache.delete(first);
    this.#firsts.splice(this.#seek(first), 1);
  }

  /** Index of the first cached chunk that begins at or above `offset`. */
  #seek(offset: number): number {
    let low = 0;
    let high = this.#firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#firsts[middle] as number) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #lookUp(offset: number): Cached | undefined {
    const first = this.#firsts[this.#seek(offset + 1) - 1];
    if (first === undefined) return undefined;
    const cached = this.#cache.get(first);
    return cached !== undefined && offset < first + cached.chunk.count ? cached : undefined;
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
      this.#cache.delete(cached.chunk.firstOffset);
      this.#cache.set(cached.chunk.firstOffset, cached);
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
