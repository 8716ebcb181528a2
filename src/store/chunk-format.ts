// The value of one group commit, as bytes. Little-endian; a varint has seven bits a byte, lowest first; a signed one is
// zigzag (0, -1, 1, -2 …). Version 2; version 1 is read as well (chunk-version-1.ts).
//
// chunk   0 magic u32 | 4 crc32 of all from 8 on u32 | 8 version u8 | 9 clock u8 | 10 header bytes u16 | 12 messages u32
//        16 first offset f64 | 24 log bytes before this chunk f64 | 32 shelf ms f64 | 40 wall ms f64 | 48 monotonic ms f64
//        56 fields (epoch, boot id) | records
// record  flags u8 (RECORD_FLAG), then what they announce, in this order:
//         new device: how many characters it shares with the new device before, varint; the rest of its id, text; its
//         seq, varint | else: number of the device in order of appearance, varint; and only where it is not one more
//         than the device's last in this chunk, seq, varint
//         monotonic us since the chunk's, signed varint | where that is not the difference of the wall clocks in ms:
//         the rest, signed varint | position of `time` in the body, varint | position of the fields (of their length) of
//         the record with the same system properties, counted from the first record, varint | bytes of fields, varint;
//         fields, system properties first | bytes of body, varint; body
//
// Additive: the header names its length, and a field is tag, length (varint) and bytes, so that a reader skips what it
// does not know.

import type { DeviceId } from '../core/device.ts';
import type { HubStamps, StoredMessage, SystemProperties } from '../core/message.ts';
import type { ClockQuality, Timestamp } from '../core/time.ts';

export const MAGIC = 0x48_43_50_46;
export const CHUNK_VERSION = 2;
export const HEADER_FIXED_BYTES = 56;

export const HEADER_FIELD = { epoch: 1, bootId: 2 } as const;

/** The two lowest bits are the code of the clock's quality. */
export const RECORD_FLAG = {
  clock: 0x03,
  newDevice: 0x04,
  seq: 0x08,
  wall: 0x10,
  timeAt: 0x20,
  sameSystemProperties: 0x40,
  fields: 0x80,
} as const;

/** Tags of a record's fields: never reused, never renumbered. */
export const FIELD = {
  /** Version 1 only, as `sameSystemProperties` and `body`: version 2 has them in the record itself. */
  deviceId: 1,
  /** When it is not the chunk's. */
  bootId: 2,
  hubId: 3,
  moduleId: 4,
  /** An application property: its name, then its value. */
  propertyName: 5,
  propertyValue: 6,
  /** Ids (u16 each) of the only queues that take the message. */
  onlyQueues: 7,
  /** Position in the chunk of an earlier record's system properties, which are the same. */
  sameSystemProperties: 8,
  /** Of a message that left the quarantine: it stands here again, with the epoch and the `seq` that it had. */
  againOfEpoch: 9,
  /** What a hub stamped: fields of its own (`STAMP`). */
  stamps: 10,
  /** Number in the chunk of an earlier record that has the same stamps, ids of hub and module among them, varint. */
  sameStamps: 11,
  /** Plus the code of the system property. */
  systemProperty: 32,
  body: 127,
} as const;

/**
 * Fields of `stamps`, in pairs: a text, and with the tag one higher the number in the chunk of an earlier record whose
 * stamps have that text, varint. The devices of a chunk share most of them.
 */
export const STAMP_CODES = [
  'authMethod',
  'generationId',
  'source',
  'interfaceId',
  'dataSchema',
  'outputName',
  'hubId',
  'moduleId',
] as const;
export type StampCode = (typeof STAMP_CODES)[number];

/** What a hub stamps, and where the message belongs: stored together. */
export type Stamps = Partial<Record<StampCode, string>>;

/** The stamps alone; undefined for a message without. */
export function hubStampsOf(stamps: Stamps): HubStamps | undefined {
  const { hubId: _, moduleId: __, authMethod, generationId, source, ...rest } = stamps;
  if (authMethod === undefined || generationId === undefined || source === undefined) return undefined;
  return { authMethod, generationId, source, ...rest };
}

/** Tags from `systemProperty` up to here are system properties, of this release or a later one. */
export const SYSTEM_PROPERTY_END = 96;

/** Codes on disk: never reused, never renumbered. */
const CLOCK_CODES: readonly ClockQuality[] = ['unknown', 'restored', 'rtc', 'synced'];
export const SYSTEM_PROPERTY_CODES: readonly (keyof SystemProperties)[] = [
  'messageId',
  'correlationId',
  'userId',
  'to',
  'absoluteExpiryTime',
  'contentType',
  'contentEncoding',
  'creationTimeUtc',
  'messageSchema',
  'componentName',
  'diagnosticId',
  'correlationContext',
];

export function clockCode(clock: ClockQuality): number {
  return Math.max(0, CLOCK_CODES.indexOf(clock));
}

export function clockOfCode(code: number | undefined): ClockQuality {
  return CLOCK_CODES[code ?? 0] ?? 'unknown';
}

export interface ChunkHeader {
  readonly firstOffset: number;
  readonly count: number;
  readonly epoch: string;
  /** Bytes of all chunks before this one since the log began. */
  readonly logBytesBefore: number;
  /** The store's own clock when `time` was read: see shelf-clock.ts. */
  readonly shelfMs: number;
  /** When the commit began; the times of its messages are kept as differences from it. */
  readonly time: Timestamp;
}

/** A chunk whose checksum held, with what it takes to read any of its records by itself. */
export interface Chunk extends ChunkHeader {
  readonly version: number;
  readonly bytes: Buffer;
  /** Position of each record, and of the end. */
  readonly positions: Uint32Array;
  /** In order of appearance. */
  readonly devices: readonly DeviceId[];
  /** Of each record, its place in `devices`. */
  readonly deviceIndexes: Uint32Array;
  readonly seqs: Float64Array;
  /** Those decoded so far, by position; undefined before the first, as most chunks are small and have none. */
  systemProperties: Map<number, SystemProperties> | undefined;
  /** Of records decoded so far, by place; undefined before the first. */
  stamps: Map<number, Stamps> | undefined;
  /** By place: messages that several queues want, once one of them has decoded it. */
  readonly messages: (StoredMessage | undefined)[];
  /** Of gateway ids, by place in `devices`; those made so far. */
  readonly idPrefixes: string[];
  /** The time decoded last. */
  readonly last: LastTime;
}

interface LastTime {
  sinceUs: number;
  rest: number;
  code: number;
  time: Timestamp | undefined;
}

/** The records of a chunk: where they are and whose. */
export type RecordIndex = Pick<Chunk, 'positions' | 'devices' | 'deviceIndexes' | 'seqs'>;

/** What a record says of itself beside its fields. */
export interface RecordFrame {
  /** With the boot id of the chunk. */
  time: Timestamp;
  timeAt: number | undefined;
  /** Where the first of the system properties stands that it shares with an earlier record, and a position behind them. */
  sharedFrom: number;
  sharedTo: number;
  fieldsFrom: number;
  fieldsTo: number;
  bodyFrom: number;
  bodyTo: number;
}

const MAX_UINT48 = 2 ** 48 - 1;

/** Times as records keep them: whole milliseconds or microseconds in 48 bits. */
export function toWhole(value: number): number {
  return Math.min(Math.max(0, Math.round(value)), MAX_UINT48);
}

/** Bytes of records: what queues count. */
export function chunkRecordBytes(chunk: Chunk): number {
  return chunk.bytes.length - (chunk.positions[0] ?? chunk.bytes.length);
}

export function recordBytes(chunk: Chunk, index: number): number {
  return (chunk.positions[index + 1] ?? 0) - (chunk.positions[index] ?? 0);
}

/** A decoded message without its body, which is the chunk's: objects and texts, rounded up. */
const DECODED_MESSAGE_BYTES = 512;

/** Bytes that a chunk keeps in memory: its value, what was found in it, and its messages when they are `shared`. */
export function chunkMemoryBytes(chunk: Chunk, shared: boolean): number {
  const { bytes, positions, deviceIndexes, seqs, count } = chunk;
  const found = positions.byteLength + deviceIndexes.byteLength + seqs.byteLength;
  return bytes.length + found + (shared ? count * DECODED_MESSAGE_BYTES : 0);
}
