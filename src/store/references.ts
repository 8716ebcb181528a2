// The index of a routed queue: which messages of one commit it takes. Written in the commit's batch, keyed by its offset.

import { seal, unseal } from './sealed.ts';

export interface References {
  /** The commit ends before this offset. */
  readonly to: number;
  readonly offsets: readonly number[];
  /** Bytes of the records referred to. */
  readonly bytes: number;
}

export function encodeReferences(first: number, references: References): Buffer {
  return seal({
    n: references.to - first,
    b: references.bytes,
    // Positions in the commit: small numbers.
    at: references.offsets.map((offset) => offset - first),
  });
}

/** Undefined when absent or damaged. */
export function decodeReferences(bytes: Buffer | undefined, first: number): References | undefined {
  const record = unseal(bytes) as { n: number; b: number; at: number[] } | undefined;
  if (record === undefined) return undefined;
  return { to: first + record.n, bytes: record.b, offsets: record.at.map((at) => first + at) };
}
