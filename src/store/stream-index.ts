// Finds the blocks of a stream: in memory those of the newest commits, on disk by halving the range of offsets.

import { LIMITS } from '../core/limits.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { logFrom, logKey, parseLogKey, RECORD } from './keys.ts';
import { decodeStreamBlock, type StreamBlock } from './stream-block.ts';
import type { StreamState } from './stream-state.ts';

export class StreamIndex {
  readonly #state: StreamState;
  /** Runs work on the store, again when that had to be reopened. */
  readonly #read: <T>(work: (level: LevelHandle) => Promise<T>) => Promise<T>;
  /** Offsets of the blocks in which readers go on, by partition and number: whoever reads on finds it at once. */
  readonly #places = new Map<string, number>();

  constructor(state: StreamState, read: <T>(work: (level: LevelHandle) => Promise<T>) => Promise<T>) {
    this.#state = state;
    this.#read = read;
  }

  /** The block that holds a number of a partition, or the last one before it; undefined when there is none of the two. */
  async find(partition: number, sequence: number, tail: number): Promise<StreamBlock | undefined> {
    const { recent, oldest } = this.#state;
    const before = (block: StreamBlock): boolean => (block.bases[partition] ?? 0) <= sequence;
    const [eldest] = recent;
    if (eldest !== undefined && before(eldest)) return recent[lastIndex(recent, before)];
    const place = this.#places.get(`${partition}:${sequence}`);
    const known = place === undefined ? undefined : await this.at(place, tail);
    if (known !== undefined && before(known)) return known;
    return oldest === undefined ? undefined : this.lastWhere(before, oldest.first, eldest?.first ?? tail);
  }

  /** The last block that begins in [from, to) for which `holds`, which must not hold again once it does not. */
  async lastWhere(
    holds: (block: StreamBlock) => boolean | Promise<boolean>,
    from: number,
    to: number,
  ): Promise<StreamBlock | undefined> {
    let found: StreamBlock | undefined;
    let low = from;
    let high = to;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const block = await this.at(middle, high);
      if (block === undefined) high = middle;
      else if (await holds(block)) {
        found = block;
        low = block.to;
      } else high = Math.min(middle, block.first);
    }
    return found;
  }

  /** The block that `offset` stands in, or the first one behind it that begins below `to`. */
  async at(offset: number, to: number): Promise<StreamBlock | undefined> {
    const { recent } = this.#state;
    const [eldest] = recent;
    if (eldest !== undefined && offset >= eldest.first) {
      const index = lastIndex(recent, ({ first }) => first <= offset);
      const found = recent[offset < (recent[index]?.to ?? 0) ? index : index + 1];
      return found !== undefined && found.first < to ? found : undefined;
    }
    return this.#read((level) => this.#onDisk(level, offset, to));
  }

  async #onDisk(level: LevelHandle, offset: number, to: number): Promise<StreamBlock | undefined> {
    const { id } = this.#state;
    // Whoever goes on behind a block asks for the next commit: nearly always it is there.
    const next = decodeStreamBlock(await level.get(logKey(offset, RECORD.stream, id)), offset);
    if (next !== undefined) return next;
    let from = offset;
    for await (const key of level.keys({ gte: logFrom(0), lt: logFrom(offset + 1), reverse: true })) {
      const parsed = parseLogKey(key);
      if (parsed?.kind !== RECORD.chunk) continue;
      from = parsed.offset;
      break;
    }
    for await (const key of level.keys({ gte: logFrom(from), lt: logFrom(to) })) {
      const parsed = parseLogKey(key);
      if (parsed?.kind !== RECORD.stream || parsed.ownerId !== id) continue;
      const block = decodeStreamBlock(await level.get(key), parsed.offset);
      if (block !== undefined && block.to > offset) return block;
    }
    return undefined;
  }

  /** A reader will go on with that number, which stands at that offset or behind it. */
  notePlace(partition: number, sequence: number, offset: number): void {
    const key = `${partition}:${sequence}`;
    this.#places.delete(key);
    this.#places.set(key, offset);
    for (const oldest of this.#places.keys()) {
      if (this.#places.size <= LIMITS.stream_reader_places) return;
      this.#places.delete(oldest);
    }
  }
}

/** Where the last of sorted blocks stands for which `holds`; the first one is known to be such. */
function lastIndex(blocks: readonly StreamBlock[], holds: (block: StreamBlock) => boolean): number {
  let low = 0;
  let high = blocks.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(blocks[middle] as StreamBlock)) low = middle;
    else high = middle - 1;
  }
  return low;
}
