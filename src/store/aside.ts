// A copy of the store as it was before it was opened, because opening rewrites it: LevelDB drops what it cannot read from
// its log and deletes the file. Hard links cost nothing; where the file system has none, the files are copied.
//
// Invariants, at every instant and after a power cut
// - `<directory>.found` is whole, and is the store as it was found by an opening that has not ended: nothing has been written
//   for anybody since. It is gone, durably, before an opening resolves. So an opening that a crash interrupted never
//   happened: the next one puts back what was found (`takeBack`) and begins again.
// - `<directory>.repaired` is whole, and the store: what was found is kept as `<directory>.damaged-…` before it takes its
//   place (`endRepair`).
// - `.opening` and `.repairing` are being laid out and hold nothing that does not stand elsewhere as well, and nor does
//   `.undone`, which is being removed.
// - Only the one who holds the store's lock comes here (sole-opener.ts).

import { existsSync } from 'node:fs';
import { copyFile, link, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GatewayError, systemCode } from '../core/errors.ts';
import { makeDirectory, syncDirectory } from '../platform/files.ts';
import { unknownTables } from '../platform/level-manifest.ts';

/** More than a crash in the middle of a compaction leaves. */
const COPY_MAX_TABLES = 16;

/**
 * LevelDB goes on writing to its own LOG only; every other file is never changed after its database was closed, but for
 * those whose numbers it gives out again: they are copied. Resolves with what is wrong when that would be many, so that
 * the database must not be opened. What this process has had open itself needs no copies, which would take the room that a
 * store on a full disk needs to open again.
 */
export async function setAside(directory: string, wasOpen: boolean): Promise<string | undefined> {
  if (wasOpen) {
    await linkAside(directory);
    return undefined;
  }
  const unknown = await unknownTables(directory);
  const many = unknown.length > COPY_MAX_TABLES;
  const manifests = (await filesOf(directory)).filter((name) => name.startsWith('MANIFEST-'));
  // The MANIFEST's number may be given out again as well.
  await linkAside(directory, new Set([...manifests, ...(many ? [] : unknown)]));
  return many ? `the MANIFEST does not know ${unknown.length} of its tables` : undefined;
}

/** Nothing to do where there is no store yet. */
async function linkAside(directory: string, copied?: ReadonlySet<string>): Promise<void> {
  if (!existsSync(directory)) return;
  const fresh = `${directory}.opening`;
  await rm(fresh, { recursive: true, force: true });
  await linkFiles(directory, fresh, copied);
  await rename(fresh, foundPath(directory));
  await syncDirectory(dirname(directory));
}

function foundPath(directory: string): string {
  return `${directory}.found`;
}

/** The store is open and sound: durable before anything is written to it, because `takeBack` would undo that. */
export async function forgetAside(directory: string): Promise<void> {
  if (!existsSync(foundPath(directory))) return;
  await removeUndone(directory);
  await rename(foundPath(directory), undonePath(directory));
  await syncDirectory(dirname(directory));
  await removeUndone(directory);
}

/** Puts back what an opening found that a crash interrupted, or that came to nothing. */
export async function takeBack(directory: string): Promise<void> {
  await removeUndone(directory);
  await rm(repairingPath(directory), { recursive: true, force: true });
  if (!existsSync(foundPath(directory))) return;
  if (existsSync(directory)) await rename(directory, undonePath(directory));
  await rename(foundPath(directory), directory);
  await syncDirectory(dirname(directory));
  await removeUndone(directory);
}

/** An opening failed, and not for damage. What cannot be put back now is put back by the next opening. */
export async function leaveAsFound(directory: string, error: unknown): Promise<void> {
  // An earlier release has it open, and writes to it.
  const inUse = error instanceof GatewayError && error.code === 'GW_DATA_LOCKED';
  await (inUse ? forgetAside(directory) : takeBack(directory)).catch(() => {});
}

function undonePath(directory: string): string {
  return `${directory}.undone`;
}

async function removeUndone(directory: string): Promise<void> {
  await rm(undonePath(directory), { recursive: true, force: true });
}

/**
 * Lays the files as they were found out in a directory of their own for the repair: until that is whole the store stands
 * as it was, and a crash changes nothing. Returns its path.
 */
export async function layOut(directory: string): Promise<string> {
  // There was no store to set aside, though there should have been, or somebody has removed what was: then the store as it
  // stands is the best there is.
  if (!existsSync(foundPath(directory))) await linkAside(directory);
  const copy = repairingPath(directory);
  await rm(copy, { recursive: true, force: true });
  await linkFiles(foundPath(directory), copy);
  return copy;
}

/** Puts the repaired files into the store's place; returns where those are kept that were found. */
export async function endSalvage(directory: string, wallMs: number): Promise<string> {
  const kept = await keptPath(directory, wallMs);
  await syncDirectory(repairingPath(directory));
  await rename(repairingPath(directory), repairedPath(directory));
  await syncDirectory(dirname(directory));
  await putInPlace(directory, kept);
  return kept;
}

/** What a crash interrupted of it. */
export async function endRepair(directory: string, wallMs: number): Promise<void> {
  if (existsSync(repairedPath(directory))) await putInPlace(directory, await keptPath(directory, wallMs));
}

async function putInPlace(directory: string, kept: string): Promise<void> {
  if (existsSync(foundPath(directory))) {
    await rename(foundPath(directory), kept);
    await syncDirectory(dirname(directory));
  }
  await rm(directory, { recursive: true, force: true });
  await rename(repairedPath(directory), directory);
  await syncDirectory(dirname(directory));
}

function repairingPath(directory: string): string {
  return `${directory}.repairing`;
}

function repairedPath(directory: string): string {
  return `${directory}.repaired`;
}

/** `<directory>.damaged-<n>-<date>`, with the next number. */
async function keptPath(directory: string, wallMs: number): Promise<string> {
  const parent = dirname(directory);
  const prefix = `${basename(directory)}.damaged-`;
  let highest = 0;
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix)) highest = Math.max(highest, Number.parseInt(name.slice(prefix.length), 10) || 0);
  }
  const date = new Date(wallMs).toISOString().slice(0, 10);
  return join(parent, `${prefix}${highest + 1}-${date}`);
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
      await syncFile(to);
    }
  }
  await syncDirectory(toDirectory);
}

/** Of a copy; what a link names is as durable as it was. */
async function syncFile(path: string): Promise<void> {
  const handle = await open(path);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** False where there is no room: a full disk must not keep a store closed, for then nothing ever makes room on it. */
async function copies(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to);
    await syncFile(to);
    return true;
  } catch (error) {
    await rm(to, { force: true });
    if (systemCode(error) === 'ENOENT') return true;
    if (systemCode(error) !== 'ENOSPC' && systemCode(error) !== 'EDQUOT') throw error;
    return false;
  }
}
