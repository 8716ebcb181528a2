// What LevelDB will take for the next free file number when it opens a database. Its MANIFEST is a log of edits, and a
// damaged length in it reads as the end of the file, without an error (log_reader.cc): the edits behind are forgotten, and
// numbers are given out that tables bear already. LevelDB opens a new table with "w", so that such a table is overwritten.
//
// Only the framing (log_format.h) and the tags of an edit (version_edit.cc) are read. Checksums are left to LevelDB, which
// refuses a MANIFEST whose checksums are wrong before it writes anything.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
/** kFullType, kFirstType, kMiddleType, kLastType. */
const TYPE = { full: 1, first: 2, middle: 3, last: 4 } as const;
/** Of VersionEdit (version_edit.cc). */
const TAG = {
  comparator: 1,
  logNumber: 2,
  nextFileNumber: 3,
  lastSequence: 4,
  compactPointer: 5,
  deletedFile: 6,
  newFile: 7,
  prevLogNumber: 9,
} as const;

/**
 * Names of the tables in `directory` that LevelDB would overwrite, because its MANIFEST as far as it is read does not know
 * their numbers. Of a sound database there is at most the one whose making a crash interrupted: its content is in the log
 * still. None when there is no MANIFEST to read, for then LevelDB does not open the database.
 */
export async function unknownTables(directory: string): Promise<readonly string[]> {
  let next;
  let names;
  try {
    const current = (await readFile(join(directory, 'CURRENT'), 'utf8')).trim();
    if (!/^MANIFEST-\d+$/.test(current)) return [];
    next = nextFileNumber(await readFile(join(directory, current)));
    names = await readdir(directory);
  } catch {
    return [];
  }
  if (next === undefined) return [];
  const first = next;
  return names.filter((name) => BigInt(/^(\d+)\.(?:ldb|sst)$/.exec(name)?.[1] ?? -1) >= first);
}

/** The last one that can be read; undefined when there is none. */
function nextFileNumber(manifest: Buffer): bigint | undefined {
  let next: bigint | undefined;
  for (const record of records(manifest)) {
    const found = nextOfEdit(record);
    if (found === 'garbage') break;
    next = found ?? next;
  }
  return next;
}

/** The records until the first that is not whole. */
function* records(log: Buffer): Generator<Buffer> {
  let parts: Buffer[] = [];
  for (let at = 0; ;) {
    const room = BLOCK_BYTES - (at % BLOCK_BYTES);
    if (room < HEADER_BYTES) {
      at += room;
      continue;
    }
    if (at + HEADER_BYTES > log.length) return;
    const length = log.readUInt16LE(at + 4);
    const type = log[at + 6];
    const from = at + HEADER_BYTES;
    if (length > room - HEADER_BYTES || from + length > log.length) return;
    at = from + length;
    const part = log.subarray(from, at);
    if (type === TYPE.full) yield part;
    else if (type === TYPE.first) parts = [part];
    else if (type === TYPE.middle) parts.push(part);
    else if (type === TYPE.last) {
      yield Buffer.concat([...parts, part]);
      parts = [];
    } else return;
  }
}

/** What one edit says; undefined: nothing of it. */
function nextOfEdit(edit: Buffer): bigint | 'garbage' | undefined {
  let at = 0;
  let next: bigint | undefined;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = edit[at];
      at += 1;
      if (byte === undefined || shift > 63n) throw new RangeError('a number that does not end');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const skipSlice = (): void => {
    const length = Number(varint());
    at += length;
  };
  try {
    while (at < edit.length) {
      switch (Number(varint())) {
        case TAG.nextFileNumber:
          next = varint();
          break;
        case TAG.logNumber:
        case TAG.lastSequence:
        case TAG.prevLogNumber:
          varint();
          break;
        case TAG.comparator:
          skipSlice();
          break;
        case TAG.compactPointer:
          varint();
          skipSlice();
          break;
        case TAG.deletedFile:
          varint();
          varint();
          break;
        case TAG.newFile:
          for (let count = 0; count < 3; count += 1) varint();
          skipSlice();
          skipSlice();
          break;
        default:
          return 'garbage';
      }
    }
  } catch (error) {
    if (error instanceof RangeError) return 'garbage';
    throw error;
  }
  return next;
}
