// What decoding gives.

import type { PointValue } from '#sdk';

/** A value as the device tells it, before scaling; or why there is none. */
export type Decoded = { readonly value: PointValue } | { readonly bad: string };

export type Outcome =
  | { readonly kind: 'values'; readonly values: ReadonlyMap<string, Decoded> }
  /** A sound frame that has nothing of interest. */
  | { readonly kind: 'ignored' }
  /** A frame that should not be; the reason is a stable word. */
  | { readonly kind: 'fault'; readonly reason: string };

export interface Decoder {
  /** What it can find: the names of points, and where each stands, in words. */
  readonly points: ReadonlyMap<string, string>;
  decode(frame: Buffer): Outcome;
}
