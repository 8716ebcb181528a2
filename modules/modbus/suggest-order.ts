// A guess at the byte order of a device from what its registers hold: in the right order neighbouring registers make
// floats of ordinary size, in the wrong ones they make numbers like 1e-39.

import { numberFormat } from './values-raw.ts';

const ORDERS = ['ABCD', 'CDAB', 'BADC', 'DCBA'] as const;
export type WordOrder = (typeof ORDERS)[number];

/** What is measured lies about here. */
const SMALLEST = 1e-3;
const LARGEST = 1e8;
/** Fewer floats than this prove nothing: any bytes make one now and then. */
const LEAST_FLOATS = 3;
/** So many times more ordinary floats than in the next best order. */
const MARGIN = 2;

export interface OrderSuggestion {
  readonly order: WordOrder;
  /** Pairs of registers that are ordinary floats in this order, and pairs that hold anything. */
  readonly floats: number;
  readonly pairs: number;
}

/**
 * The order in which most pairs of registers are ordinary floats; undefined when no order stands out. Tables are judged
 * together and each by itself: floats in one are not fewer because another one holds settings.
 * @param tables of each its blocks: bytes of registers that were read together, from the first address of a range on
 */
export function suggestByteOrder(tables: readonly (readonly Uint8Array[])[]): OrderSuggestion | undefined {
  const [most] = [tables.flat(), ...tables]
    .flatMap((blocks) => suggestFor(blocks) ?? [])
    .sort((a, b) => b.floats - a.floats || a.pairs - b.pairs);
  return most;
}

function suggestFor(blocks: readonly Uint8Array[]): OrderSuggestion | undefined {
  const counts = ORDERS.map((order) => {
    const { read } = numberFormat('float32', order, 'low');
    let floats = 0;
    let pairs = 0;
    for (const block of blocks) {
      for (let at = 0; at + 4 <= block.length; at += 4) {
        if (block.subarray(at, at + 4).every((byte) => byte === 0)) continue;
        pairs += 1;
        const size = Math.abs(Number(read(block, at)));
        if (size >= SMALLEST && size <= LARGEST) floats += 1;
      }
    }
    return { order, floats, pairs };
  }).sort((a, b) => b.floats - a.floats);
  const [best, next] = counts;
  if (best === undefined || next === undefined || best.floats < LEAST_FLOATS) return undefined;
  return best.floats >= MARGIN * next.floats && best.floats * 2 >= best.pairs ? best : undefined;
}
