// Keys and values of the state store.
//
//   00 "format" | "tally"                  sealed JSON
//   01 SPACE 00 KEY                        checksum of key and value, then the value
//
// LevelDB checks a table's blocks only when it is told to, hence the checksum; it is over the key too, so that no value
// can pass for another's.

import { crc32 } from 'node:zlib';

const META = 0x00;
const ENTRIES = 0x01;
const CHECKSUM_BYTES = 4;

/** Written in the batch of every commit, so that a store from which LevelDB skipped something shows it. */
export interface Tally {
  /** Commits since the store was made. */
  readonly commits: number;
  /** Entries of all spaces. */
  readonly entries: number;
  /** What each space takes of its limits; kept by large stores, which are not read whole at each open. */
  readonly spaces?: Readonly<Record<string, SpaceUse>>;
}

/** What a space takes of its limits. */
export interface SpaceUse {
  keys: number;
  bytes: number;
}

export function metaKey(name: 'format' | 'tally'): Buffer {
  return Buffer.concat([Buffer.from([META]), Buffer.from(name, 'latin1')]);
}

/** Names of spaces hold no NUL, so that no space's keys begin with another's. */
export function entryKey(space: string, key: string): Buffer {
  return Buffer.concat([Buffer.from([ENTRIES]), Buffer.from(`${space}\0${key}`, 'utf8')]);
}

/** Undefined for bytes that are no entry's key: damage. */
export function parseEntryKey(key: Buffer): { readonly space: string; readonly key: string } | undefined {
  const end = key.indexOf(0, 1);
  if (key[0] !== ENTRIES || end < 0) return undefined;
  return { space: key.toString('utf8', 1, end), key: key.toString('utf8', end + 1) };
}

export function encodeValue(key: Buffer, value: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafeSlow(CHECKSUM_BYTES + value.byteLength);
  bytes.writeUInt32LE(crc32(value, crc32(key)), 0);
  bytes.set(value, CHECKSUM_BYTES);
  return bytes;
}

/** Undefined when the bytes are damaged. */
export function decodeValue(key: Buffer, bytes: Buffer): Buffer | undefined {
  if (bytes.length < CHECKSUM_BYTES) return undefined;
  const value = bytes.subarray(CHECKSUM_BYTES);
  return crc32(value, crc32(key)) === bytes.readUInt32LE(0) ? value : undefined;
}

/** What an entry takes of the limits, its checksum included. */
export function entryBytes(key: Buffer, bytes: Uint8Array): number {
  return key.length + bytes.byteLength;
}

/** The first bytes above all that begin with `prefix`, which does not end in 0xff (it is text). */
export function after(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end.at(-1) ?? 0) + 1;
  return end;
}
