// The mark of an orderly shutdown: a small file beside the store with its tail and the sizes and checksums of its files,
// so that the next open can tell "as we left it" from "damaged since" without reading the whole log.

import { existsSync } from 'node:fs';
import { open, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { systemCode } from '../core/errors.ts';
import { syncDirectory, writeFileAtomic } from '../platform/files.ts';

const TABLES_READ_BYTES = 32 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
/** In place of the checksum of a file that was not read. */
const UNREAD = 0;

interface CleanMark {
  readonly tail: number;
  /** Absent from marks of earlier releases, and of the state store. */
  readonly head?: number;
  readonly files: Readonly<Record<string, readonly [bytes: number, crc: number]>>;
}

/** How the store was left. */
export type Shutdown =
  | { readonly kind: 'clean'; readonly tail: number }
  /** Orderly, but its files are not those that were left; `file` is one of them, a table if any is. */
  | {
      readonly kind: 'changed';
      readonly tail: number;
      /** Everything below was done with. */
      readonly head: number;
      readonly file: string;
      readonly table: boolean;
    }
  | { readonly kind: 'unclean' };

function markPath(directory: string): string {
  return `${directory}.clean`;
}

/**
 * Log, manifest and CURRENT are small and matter most. Tables are read as far as that takes about a second on flash, the
 * newest first; the size of the others is compared, and their chunks are checked when they are read.
 */
async function fingerprint(directory: string): Promise<Record<string, readonly [number, number]>> {
  const files: Record<string, readonly [number, number]> = {};
  let tableBytes = 0;
  // LevelDB numbers its files: the newest table has the highest name.
  for (const name of (await readdir(directory)).toSorted().toReversed()) {
    if (/^(LOCK|LOG(\.old)?|lost)$/.test(name)) continue;
    const path = join(directory, name);
    const { size } = await stat(path);
    if (isTable(name)) tableBytes += size;
    files[name] = [size, isTable(name) && tableBytes > TABLES_READ_BYTES ? UNREAD : await checksum(path)];
  }
  return files;
}

function isTable(name: string): boolean {
  return /\.(ldb|sst)$/.test(name);
}

/** Through one small buffer: a start must not cost the memory of what it reads. */
async function checksum(path: string): Promise<number> {
  const file = await open(path);
  try {
    const buffer = Buffer.alloc(READ_BYTES);
    let sum = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
      if (bytesRead === 0) return sum;
      sum = crc32(buffer.subarray(0, bytesRead), sum);
    }
  } finally {
    await file.close();
  }
}

/** @param head the oldest that anybody still wants; everything below is done with. */
export async function writeCleanMark(directory: string, tail: number, head = 0): Promise<void> {
  const mark: CleanMark = { tail, head, files: await fingerprint(directory) };
  await writeFileAtomic(markPath(directory), JSON.stringify(mark));
}

/** Reads the mark; one that cannot be read counts as none. */
export async function readCleanMark(directory: string): Promise<Shutdown> {
  let mark: CleanMark;
  let files;
  try {
    mark = JSON.parse(await readFile(markPath(directory), 'utf8')) as CleanMark;
    // Removed as a whole: then all of its files are missing.
    files = existsSync(directory) ? await fingerprint(directory) : {};
  } catch {
    return { kind: 'unclean' };
  }
  const changed = [...new Set([...Object.keys(mark.files), ...Object.keys(files)])].filter((name) =>
    differs(mark.files[name], files[name]),
  );
  const file = changed.find(isTable) ?? changed[0];
  if (file === undefined) return { kind: 'clean', tail: mark.tail };
  return { kind: 'changed', tail: mark.tail, head: mark.head ?? 0, file, table: isTable(file) };
}

function differs(left: readonly [number, number] | undefined, found: readonly [number, number] | undefined): boolean {
  if (left === undefined || found === undefined || left[0] !== found[0]) return true;
  return left[1] !== UNREAD && found[1] !== UNREAD && left[1] !== found[1];
}

/** Must be durable before the first write: else a crash would look like an orderly shutdown. */
export async function removeCleanMark(directory: string): Promise<void> {
  try {
    await unlink(markPath(directory));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  await syncDirectory(dirname(directory));
}
