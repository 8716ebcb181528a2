// Ordered bytes in memory, with the interface of LevelDB: what the in-memory outbox stands on.

import type { LevelEntry, LevelHandle, LevelRange, LevelWrite } from '../platform/level-handle.ts';

export class MemoryLevel implements LevelHandle {
  /** Sorted by key. Nearly every write is at the end and nearly every delete at the beginning. */
  readonly #entries: LevelEntry[] = [];

  /** Index of the first entry at or above `key`. */
  #seek(key: Buffer): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (Buffer.compare((this.#entries[middle] as LevelEntry).key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  write(writes: readonly LevelWrite[]): Promise<void> {
    for (const { key, value } of writes) {
      const index = this.#seek(key);
      const found = this.#entries[index]?.key.equals(key) === true ? 1 : 0;
      if (value === undefined) this.#entries.splice(index, found);
      else this.#entries.splice(index, found, { key, value: Buffer.from(value) });
    }
    return Promise.resolve();
  }

  get(key: Buffer): Promise<Buffer | undefined> {
    const entry = this.#entries[this.#seek(key)];
    return Promise.resolve(entry?.key.equals(key) === true ? entry.value : undefined);
  }

  #slice(range: LevelRange): LevelEntry[] {
    const from = range.gte === undefined ? 0 : this.#seek(range.gte);
    const to = range.lt === undefined ? this.#entries.length : this.#seek(range.lt);
    const limit = range.limit ?? to - from;
    if (range.reverse === true) return this.#entries.slice(Math.max(from, to - limit), to).reverse();
    return this.#entries.slice(from, Math.min(to, from + limit));
  }

  async *entries(range: LevelRange): AsyncIterable<LevelEntry> {
    yield* this.#slice(range);
  }

  async *keys(range: LevelRange): AsyncIterable<Buffer> {
    for (const entry of this.#slice(range)) yield entry.key;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  compact(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
