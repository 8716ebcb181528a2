// Records that lists read lately. The same page is asked for again and again, and a record whose text has not changed is the
// same object then: it is not parsed again, and what was made of it can be kept beside it, in a WeakMap.

export class ListedRecords<T extends object> {
  readonly #entries = new Map<string, { readonly text: string; readonly record: T }>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** @param value JSON, as it stands in the store under that key. */
  parse(key: string, value: Uint8Array): T {
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
    const known = this.#entries.get(key);
    if (known?.text === text) return known.record;
    const record = JSON.parse(text) as T;
    this.#entries.delete(key);
    this.#entries.set(key, { text, record });
    if (this.#entries.size > this.#most) {
      const oldest = this.#entries.keys().next();
      if (oldest.done !== true) this.#entries.delete(oldest.value);
    }
    return record;
  }
}
