// The mark of an orderly shutdown: a small file beside the store with its tail and the sizes and checksums of its files,
// so that the next open can tell "as we left it" from "damaged since" without reading the whole log.

import { readdir, readFile, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { systemCode } from '../core/errors.ts';
import { syncDirectory, writeFileAtomic } from '../platform/files.ts';

interface CleanMark {
  readonly tail: number;
  readonly files: Readonly<Record<string, readonly [bytes: number, crc: number]>>;
}

/** How the store was left. */
export type Shutdown =
  | { readonly kind: 'clean'; readonly tail: number }
  /** Orderly, but its files are not those that were left. */
  | { readonly kind: 'changed'; readonly tail: number; readonly file: string }
  | { readonly kind: 'unclean' };

function markPath(directory: string): string {
  return `${directory}.clean`;
}

/** Log, manifest and CURRENT are small and matter most; tables are checked by size, their chunks when they are read. */
async function fingerprint(directory: string): Promise<Record<string, readonly [number, number]>> {
  const files: Record<string, readonly [number, number]> = {};
  for (const name of (await readdir(directory)).toSorted()) {
    if (/^(LOCK|LOG(\.old)?|lost)$/.test(name)) continue;
    const path = join(directory, name);
    const { size } = await stat(path);
    files[name] = [size, /\.(ldb|sst)$/.test(name) ? 0 : crc32(await readFile(path))];
  }
  return files;
}

export async function writeCleanMark(directory: string, tail: number): Promise<void> {
  const mark: CleanMark = { tail, files: await fingerprint(directory) };
  await writeFileAtomic(markPath(directory), JSON.stringify(mark));
}

/** Reads the mark; one that cannot be read counts as none. */
export async function readCleanMark(directory: string): Promise<Shutdown> {
  let mark: CleanMark;
  let files;
  try {
    mark = JSON.parse(await readFile(markPath(directory), 'utf8')) as CleanMark;
    files = await fingerprint(directory);
  } catch {
    return { kind: 'unclean' };
  }
  for (const name of new Set([...Object.keys(mark.files), ...Object.keys(files)])) {
    const left = mark.files[name];
    const found = files[name];
    if (left === undefined || found === undefined || left[0] !== found[0] || left[1] !== found[1]) {
      return { kind: 'changed', tail: mark.tail, file: name };
    }
  }
  return { kind: 'clean', tail: mark.tail };
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
