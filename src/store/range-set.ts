// A set of safe integers kept as disjoint, sorted, half-open ranges: small when what it holds lies together.

export class RangeSet {
  readonly #from: number[] = [];
  readonly #to: number[] = [];
  #size = 0;

  /** How many integers. */
  get size(): number {
    return this.#size;
  }

  /** How many ranges. */
  get ranges(): number {
    return this.#from.length;
  }

  /** Index of the first range that ends above `value`. */
  #seek(value: number): number {
    const to = this.#to;
    const last = to.length - 1;
    // Nearly every call is about the newest range or the oldest one.
    if (last < 0 || (to[last] as number) <= value) return last + 1;
    if ((to[0] as number) > value) return 0;
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((to[middle] as number) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  has(value: number): boolean {
    const index = this.#seek(value);
    return index < this.#from.length && (this.#from[index] as number) <= value;
  }

  /** The lowest integer at or above `value` that is not in the set. */
  nextGap(value: number): number {
    const index = this.#seek(value);
    return index < this.#from.length && (this.#from[index] as number) <= value ? (this.#to[index] as number) : value;
  }

  /** The lowest integer at or above `value` that is in the set. */
  next(value: number): number | undefined {
    const index = this.#seek(value);
    return index < this.#from.length ? Math.max(value, this.#from[index] as number) : undefined;
  }

  /** How many integers of [from, to) are in the set. */
  countIn(from: number, to: number): number {
    let count = 0;
    for (let index = this.#seek(from); index < this.#from.length && (this.#from[index] as number) < to; index += 1) {
      count += Math.min(this.#to[index] as number, to) - Math.max(this.#from[index] as number, from);
    }
    return count;
  }

  add(from: number, to: number = from + 1): void {
    if (to <= from) return;
    // Ranges that touch join, so the search is for the first that ends at or above `from`.
    const first = this.#seek(from - 1);
    let last = first;
    let low = from;
    let high = to;
    while (last < this.#from.length && (this.#from[last] as number) <= to) {
      low = Math.min(low, this.#from[last] as number);
      high = Math.max(high, this.#to[last] as number);
      this.#size -= (this.#to[last] as number) - (this.#from[last] as number);
      last += 1;
    }
    this.#size += high - low;
    if (last === first + 1) {
      this.#from[first] = low;
      this.#to[first] = high;
      return;
    }
    this.#from.splice(first, last - first, low);
    this.#to.splice(first, last - first, high);
  }

  remove(from: number, to: number = from + 1): void {
    if (to <= from) return;
    let index = this.#seek(from);
    while (index < this.#from.length && (this.#from[index] as number) < to) {
      const low = this.#from[index] as number;
      const high = this.#to[index] as number;
      this.#size -= Math.min(high, to) - Math.max(low, from);
      if (low < from && high > to) {
        this.#to[index] = from;
        this.#from.splice(index + 1, 0, to);
        this.#to.splice(index + 1, 0, high);
        return;
      }
      if (low < from) {
        this.#to[index] = from;
        index += 1;
      } else if (high > to) {
        this.#from[index] = to;
        return;
      } else {
        this.#from.splice(index, 1);
        this.#to.splice(index, 1);
      }
    }
  }

  clear(): void {
    this.#from.length = 0;
    this.#to.length = 0;
    this.#size = 0;
  }

  *[Symbol.iterator](): Generator<readonly [from: number, to: number]> {
    for (let index = 0; index < this.#from.length; index += 1) {
      yield [this.#from[index] as number, this.#to[index] as number];
    }
  }
}
