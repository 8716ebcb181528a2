// The index of a stream: which messages of one commit it keeps, and in which partition. Written in the commit's batch,
// keyed by its offset like everything else, so that a number or a time is found by halving the log and not in a second
// order of keys, which would cost the log its own.
//
// block   0 crc32 of all from 4 on u32 | 4 version u8 | from 5 on varints: bytes from here to the places; messages of the
//         commit; shelf ms; log bytes before; bytes of the stream before; bytes of it in this commit; partitions; the
//         next number of each before this commit | places: for each message 0 (not kept) or its partition plus 1, u8

import { crc32 } from 'node:zlib';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

export interface StreamBlock {
  /** The commit's first offset, and the one behind its last. */
  readonly first: number;
  readonly to: number;
  /** The store's own clock: see shelf-clock.ts. */
  readonly shelfMs: number;
  /** Bytes of all chunks before this one. */
  readonly logBytesBefore: number;
  /** Bytes of the stream's records since it was made, before this commit and in it. */
  readonly bytesBefore: number;
  readonly bytes: number;
  /** By partition, the number of its first message here or behind. */
  readonly bases: readonly number[];
  /** By message: 0, or its partition plus 1. */
  readonly places: Uint8Array;
}

const VERSION = 1;
const HEADER_BYTES = 5;

export function encodeStreamBlock(block: StreamBlock): Buffer {
  const { first, to, shelfMs, logBytesBefore, bytesBefore, bytes, bases, places } = block;
  const head = new ByteWriter(64 + bases.length * 8);
  for (const value of [to - first, Math.max(0, Math.round(shelfMs)), logBytesBefore, bytesBefore, bytes]) {
    head.varint(value);
  }
  head.varint(bases.length);
  for (const base of bases) head.varint(base);
  const writer = new ByteWriter(HEADER_BYTES + head.length + places.length + 4);
  writer.reset(HEADER_BYTES);
  writer.setUint8(4, VERSION);
  writer.varint(head.length);
  writer.bytes(head.view());
  writer.bytes(places);
  writer.setUint32(0, crc32(writer.view().subarray(4)));
  return writer.copy();
}

/** Undefined when absent or damaged. */
export function decodeStreamBlock(bytes: Buffer | undefined, first: number): StreamBlock | undefined {
  if (bytes === undefined || bytes.length <= HEADER_BYTES || bytes.readUInt32LE(0) !== crc32(bytes.subarray(4))) {
    return undefined;
  }
  const reader = new ByteReader(bytes, HEADER_BYTES);
  const headBytes = reader.varint();
  const placesFrom = reader.position + headBytes;
  const count = reader.varint();
  const shelfMs = reader.varint();
  const logBytesBefore = reader.varint();
  const bytesBefore = reader.varint();
  const ownBytes = reader.varint();
  const bases = Array.from({ length: reader.varint() }, () => reader.varint());
  // In a buffer of its own: the index in memory must not keep what it was read from.
  const places = Uint8Array.from(bytes.subarray(placesFrom, placesFrom + count));
  return { first, to: first + count, shelfMs, logBytesBefore, bytesBefore, bytes: ownBytes, bases, places };
}

/** By partition, the number behind its last message of this commit. */
export function numbersAfter({ bases, places }: StreamBlock): number[] {
  const numbers = [...bases];
  for (const place of places) if (place > 0) numbers[place - 1] = (numbers[place - 1] ?? 0) + 1;
  return numbers;
}
