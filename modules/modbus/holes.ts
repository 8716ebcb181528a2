// What a device refuses to read together, learnt by splitting a block that it answered with exception 2.
//
// A hole is a range of addresses: any request that contains the whole range fails. That is exactly what a refusal tells,
// so nothing that may be readable is ever ruled out: a point that fails alone is a hole of its own range, two points that
// can be read apart but not together have a hole from the last register of the one to the first of the other.

import type { RegisterTable } from './address.ts';

/** A range of registers or bits. */
export interface AddressRange {
  readonly address: number;
  readonly quantity: number;
}

export class Holes {
  // None contains another, so their number is bounded by that of the points.
  readonly #ranges: Record<RegisterTable, AddressRange[]> = { coil: [], discrete: [], input: [], holding: [] };

  /** Holes in all tables. */
  get size(): number {
    return Object.values(this.#ranges).reduce((sum, ranges) => sum + ranges.length, 0);
  }

  /** Whether a request for this range would contain a hole, and so fail. */
  isIn(table: RegisterTable, range: AddressRange): boolean {
    return this.#ranges[table].some((hole) => contains(range, hole));
  }

  /** Any request that contains this range fails. */
  add(table: RegisterTable, { address, quantity }: AddressRange): void {
    const range = { address, quantity };
    if (this.isIn(table, range)) return;
    this.#ranges[table] = [...this.#ranges[table].filter((hole) => !contains(hole, range)), range];
  }

  /** Forgets everything: the device may have been exchanged or set up anew. */
  clear(): void {
    for (const table of ['coil', 'discrete', 'input', 'holding'] as const) this.#ranges[table] = [];
  }
}

function contains(outer: AddressRange, inner: AddressRange): boolean {
  return outer.address <= inner.address && inner.address + inner.quantity <= outer.address + outer.quantity;
}
