// A twin as it is kept.

import type { IdentityRef } from '../core/hub/identity.ts';
import type { JsonObject } from '../core/json.ts';

export type { Json, JsonObject } from '../core/json.ts';

/** When each member was changed last; mirrors the tree of the values. */
export interface Metadata {
  readonly $lastUpdated: string;
  /** Of desired properties: the version of that change. */
  readonly $lastUpdatedVersion?: number;
  readonly [name: string]: Metadata | string | number | undefined;
}

export interface Section {
  readonly value: JsonObject;
  readonly metadata: Metadata;
  /** From 1; counts the accepted writes. */
  readonly version: number;
}

export interface TwinRecord {
  /** Counts writes of tags and desired properties; its eight bytes are the etag. */
  readonly changes: number;
  /** Counts all writes. */
  readonly version: number;
  readonly tags: JsonObject;
  readonly desired: Section;
  readonly reported: Section;
  /** Of a device of the cloud behind the hub. */
  readonly cloud?: CloudSide;
}

/** What the cloud has of a twin's reported properties, as far as that is known here. */
export interface CloudSide {
  /** 0: it was never asked. */
  readonly version: number;
  /** Absent: the same as here. */
  readonly reported?: JsonObject;
}

const NEVER = '0001-01-01T00:00:00Z';

export function newTwin(): TwinRecord {
  const section: Section = { value: {}, metadata: { $lastUpdated: NEVER }, version: 1 };
  return { changes: 1, version: 2, tags: {}, desired: section, reported: section };
}

/** Base64 of eight bytes, big-endian, as the service writes it: `AAAAAAAAAAE=`. */
export function twinEtag({ changes }: TwinRecord): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(changes));
  return bytes.toString('base64');
}

/** Names an identity in a sentence. */
export function nameOf({ deviceId, moduleId }: IdentityRef): string {
  return moduleId === undefined ? `Device ${deviceId}` : `Module ${moduleId} of device ${deviceId}`;
}
