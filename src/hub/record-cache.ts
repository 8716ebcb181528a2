// Records of a hub that were read lately, by key: the most recently used stay. It never shows a record that was written over
// since: a read that began before a write of the same key leaves nothing behind.

export class RecordCache<T> {
  readonly #entries = new Map<string, T>();
  /** Reads under way; a write of the key takes its mark away. */
  readonly #loading = new Map<string, Promise<T | undefined>>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  async get(key: string, load: () => Promise<T | undefined>): Promise<T | undefined> {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      this.#put(key, known);
      return known;
    }
    const underWay = this.#loading.get(key);
    if (underWay !== undefined) return underWay;
    const loading = load();
    this.#loading.set(key, loading);
    try {
      const loaded = await loading;
      if (loaded !== undefined && this.#loading.get(key) === loading) this.#put(key, loaded);
      return loaded;
    } finally {
      if (this.#loading.get(key) === loading) this.#loading.delete(key);
    }
  }

  /** Before a write and after it: with what is there now, or nothing when that is not known. */
  replace(key: string, record: T | undefined): void {
    this.#loading.delete(key);
    if (record === undefined) this.#entries.delete(key);
    else this.#put(key, record);
  }

  #put(key: string, record: T): void {
    this.#entries.delete(key);
    this.#entries.set(key, record);
    if (this.#entries.size <= this.#most) return;
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.#entries.delete(oldest.value);
  }

  get size(): number {
    return this.#entries.size;
  }
}
