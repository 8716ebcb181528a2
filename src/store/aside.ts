// A copy of the store as it was before it was opened, because opening rewrites it: LevelDB drops what it cannot read from
// its log and deletes the file. Hard links cost nothing; where the file system has none, the files are copied.

import { existsSync } from 'node:fs';
import { copyFile, link, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../core/errors.ts';
import { makeDirectory, syncDirectory } from '../platform/files.ts';
import { unknownTables } from '../platform/level-manifest.ts';

function openingPath(directory: string): string {
  return `${directory}.opening`;
}

/** More than a crash in the middle of a compaction leaves. */
const COPY_MAX_TABLES = 16;

/**
 * LevelDB goes on writing to its own LOG only; every other file is never changed after its database was closed, but for
 * those whose numbers it gives out again: they are copied. Resolves with what is wrong when that would be many, so that
 * the database must not be opened. What this process has had open itself needs no copies, which would take the room that a
 * store on a full disk needs to open again.
 */
export async function setAside(directory: string, wasOpen: boolean): Promise<string | undefined> {
  const aside = openingPath(directory);
  await rm(aside, { recursive: true, force: true });
  if (wasOpen) {
    await linkFiles(directory, aside);
    return undefined;
  }
  const unknown = await unknownTables(directory);
  const many = unknown.length > COPY_MAX_TABLES;
  const manifests = (await filesOf(directory)).filter((name) => name.startsWith('MANIFEST-'));
  // The MANIFEST's number may be given out again as well.
  await linkFiles(directory, aside, new Set([...manifests, ...(many ? [] : unknown)]));
  return many ? `the MANIFEST does not know ${unknown.length} of its tables` : undefined;
}

/**
 * Lays the files as they were found out in a directory of their own for the repair: until that is whole the store stands
 * as it was, and a crash changes nothing. Returns its path.
 */
export async function layOut(directory: string, kept: string): Promise<string> {
  const copy = `${directory}.repairing`;
  await rm(copy, { recursive: true, force: true });
  await linkFiles(kept, copy);
  return copy;
}

/** Puts the repaired files into the store's place. */
export async function putInPlace(directory: string): Promise<void> {
  await syncDirectory(`${directory}.repairing`);
  await rename(`${directory}.repairing`, repairedPath(directory));
  await syncDirectory(dirname(directory));
  await endRepair(directory);
}

/** Also what a crash interrupted: a directory that bears this name is whole, and newer than what stands in its place. */
export async function endRepair(directory: string): Promise<void> {
  if (!existsSync(repairedPath(directory))) return;
  await rm(directory, { recursive: true, force: true });
  await rename(repairedPath(directory), directory);
  await syncDirectory(dirname(directory));
}

function repairedPath(directory: string): string {
  return `${directory}.repaired`;
}

/** None where there is no such directory. */
async function filesOf(directory: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

async function linkFiles(
  fromDirectory: string,
  toDirectory: string,
  copied: ReadonlySet<string> = new Set(),
): Promise<void> {
  if (!existsSync(fromDirectory)) return;
  await makeDirectory(toDirectory);
  for (const name of await filesOf(fromDirectory)) {
    if (name === 'LOCK') continue;
    const from = join(fromDirectory, name);
    const to = join(toDirectory, name);
    if (copied.has(name) && (await copies(from, to))) continue;
    try {
      await link(from, to);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') continue;
      await copyFile(from, to);
    }
  }
}

/** False where there is no room: a full disk must not keep a store closed, for then nothing ever makes room on it. */
async function copies(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to);
    return true;
  } catch (error) {
    await rm(to, { force: true });
    if (systemCode(error) === 'ENOENT') return true;
    if (systemCode(error) !== 'ENOSPC' && systemCode(error) !== 'EDQUOT') throw error;
    return false;
  }
}

export async function forgetAside(directory: string): Promise<void> {
  await rm(openingPath(directory), { recursive: true, force: true });
}

/** Gives a copy up again: the salvage came to nothing, and the store stands as it was. */
export async function giveUp(directory: string, kept: string): Promise<void> {
  await rm(kept, { recursive: true, force: true });
  await rm(`${directory}.repairing`, { recursive: true, force: true });
}

/** Keeps the copy for good as `<directory>.damaged-<n>-<date>`; returns its path. */
export async function keepAside(directory: string, wallMs: number): Promise<string> {
  const parent = dirname(directory);
  const prefix = `${basename(directory)}.damaged-`;
  let highest = 0;
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix)) highest = Math.max(highest, Number.parseInt(name.slice(prefix.length), 10) || 0);
  }
  const date = new Date(wallMs).toISOString().slice(0, 10);
  const kept = join(parent, `${prefix}${highest + 1}-${date}`);
  // Somebody may have removed it: then the store as it stands is the best there is.
  if (!existsSync(openingPath(directory))) await setAside(directory, true);
  await rename(openingPath(directory), kept);
  await syncDirectory(kept);
  await syncDirectory(parent);
  return kept;
}
