// One named value of a leaf device, with time and quality.

import type { DeviceId } from './device.ts';
import type { Timestamp } from './time.ts';

/** Integers beyond 2^53-1 are bigint here and strings in JSON; NaN and infinity never occur (they are bad). */
export type PointValue = number | bigint | boolean | string | Uint8Array;

/** A value as JSON has it: integers beyond 2^53-1 and bytes (hexadecimal) are strings, as in messages. */
export type JsonValue = number | boolean | string;

/** Stable words behind a quality that is not good: `bad:timeout`, `bad:exception_2`, `uncertain:stale`, … */
export type QualityReason = string;

export type Quality =
  { readonly level: 'good' } | { readonly level: 'uncertain' | 'bad'; readonly reason: QualityReason };

export const GOOD: Quality = Object.freeze({ level: 'good' });

/** `good`, `uncertain:REASON` or `bad:REASON`: the form used in messages and on the screen. */
export function qualityText(quality: Quality): string {
  return quality.level === 'good' ? 'good' : `${quality.level}:${quality.reason}`;
}

export interface Reading {
  readonly point: string;
  /** Absent when the quality is bad. */
  readonly value?: PointValue;
  readonly quality: Quality;
  readonly unit?: string;
}

/** What one poll (or one streamed frame) of one device gave, at one time. Becomes one message. */
export interface ReadingBatch {
  readonly deviceId: DeviceId;
  readonly time: Timestamp;
  readonly readings: readonly Reading[];
  /** From before what was told already: stored as it is, scaled and renamed, and no point's present value. */
  readonly isHistorical?: true;
}
