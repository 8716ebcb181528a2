// Entries of the state store as they are read: in pages, each of one moment, and only when their checksums hold.

import type { LevelEntry, LevelHandle, LevelRange } from '../../platform/level-handle.ts';
import { decodeValue } from './records.ts';

/** A page of the identity registry. */
const PAGE_ENTRIES = 1000;
const PAGE_BYTES = 512 * 1024;

/** The first key behind another. */
export function keyBehind(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.from([0])]);
}

/** As much of a range as fits into a page: nothing only when there is nothing more. @throws Error as `sound`. */
export async function readPage(
  level: LevelHandle,
  range: LevelRange & { readonly limit: number },
): Promise<LevelEntry[]> {
  const page: LevelEntry[] = [];
  let bytes = 0;
  for await (const { key, value } of level.entries({ ...range, limit: Math.min(range.limit, PAGE_ENTRIES) })) {
    page.push({ key, value: sound(key, value) });
    bytes += value.length;
    if (bytes >= PAGE_BYTES) break;
  }
  return page;
}

/** The value as it was given. @throws Error for a damaged one: the store is reopened, which salvages it. */
export function sound(key: Buffer, bytes: Buffer): Buffer {
  const value = decodeValue(key, bytes);
  if (value === undefined) throw new Error('an entry is damaged');
  return value;
}
