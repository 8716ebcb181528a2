// What of a queue is given out and not settled, with its bytes. Offsets of one time lie together, so nearly each has a
// place of its own in two flat tables; a map makes an entry for every message, and thousands of them outlive a collection
// of the young.

/** A power of two; as many as the largest usual window. */
const PLACES = 2048;
const FREE = -1;

export class Leases {
  #offsets = new Float64Array(0);
  #bytes = new Float64Array(0);
  /** Those whose place was taken. */
  readonly #others = new Map<number, number>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(offset: number): boolean {
    return this.#offsets[offset % PLACES] === offset || this.#others.has(offset);
  }

  /** Bytes of one that is given out. */
  get(offset: number): number | undefined {
    const place = offset % PLACES;
    return this.#offsets[place] === offset ? this.#bytes[place] : this.#others.get(offset);
  }

  /** Of an offset that is not given out. */
  add(offset: number, bytes: number): void {
    if (this.#offsets.length === 0) {
      this.#offsets = new Float64Array(PLACES).fill(FREE);
      this.#bytes = new Float64Array(PLACES);
    }
    const place = offset % PLACES;
    if (this.#offsets[place] === FREE) {
      this.#offsets[place] = offset;
      this.#bytes[place] = bytes;
    } else this.#others.set(offset, bytes);
    this.#size += 1;
  }

  /** False when it was not given out. */
  delete(offset: number): boolean {
    const place = offset % PLACES;
    if (this.#offsets[place] === offset) this.#offsets[place] = FREE;
    else if (!this.#others.delete(offset)) return false;
    this.#size -= 1;
    return true;
  }
}
