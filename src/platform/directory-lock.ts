// One process per data directory, from the first file on. LevelDB's own lock guards the store alone and comes later; by
// then a second instance could already have reverted the first one's trial configuration.
//
// The lock is a file that names its owner by process id and start time, so that one that a killed process left behind, or
// whose id another process was given since, is known to be stale. Processes of another container are not seen here: there
// LevelDB's lock is the one that holds.

import { readFileSync } from 'node:fs';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';

const LOCK_FILE = 'lock';
/** Attempts against others that start at the same moment. */
const ATTEMPTS = 5;

export interface DirectoryLock {
  /** Idempotent. */
  release(): Promise<void>;
}

/**
 * Takes the lock of a directory that exists.
 * @throws GatewayError GW_DATA_LOCKED when a living process holds it, GW_DATA_DIRECTORY when it cannot be written.
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, LOCK_FILE);
  const owner = ownerText(process.pid);
  const own = join(directory, `.${LOCK_FILE}.${process.pid}`);
  try {
    await writeFile(own, owner, { mode: 0o644 });
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (await tryLink(own, path)) return { release: () => release(path, owner) };
      await removeStale(directory, path, attempt);
    }
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    const hint = 'Make the directory writable for the user that runs Fieldpost, or name another with --data.';
    throw new GatewayError(
      'GW_DATA_DIRECTORY',
      `The data directory ${directory} cannot be written: ${errorText(error)}. ${hint}`,
      {
        cause: error,
      },
    );
  } finally {
    await unlink(own).catch(() => {});
  }
  throw new GatewayError(
    'GW_DATA_LOCKED',
    `Others start on the data directory ${directory} at the same moment; try again.`,
  );
}

/** link(2) is atomic and fails when the name exists, unlike rename(2). */
async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** @throws GatewayError GW_DATA_LOCKED when it is not stale. */
async function removeStale(directory: string, path: string, attempt: number): Promise<void> {
  refuseLiving(directory, await readOwner(path));
  // Moved aside and looked at again: another starter may have put its own lock there since.
  const aside = join(directory, `.${LOCK_FILE}.stale.${process.pid}.${attempt}`);
  try {
    await rename(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  const moved = await readOwner(aside);
  try {
    if (isLiving(moved)) await tryLink(aside, path);
    refuseLiving(directory, moved);
  } finally {
    await unlink(aside).catch(() => {});
  }
}

function refuseLiving(directory: string, owner: string | undefined): void {
  if (!isLiving(owner)) return;
  const pid = owner?.split(' ')[0] ?? '';
  throw new GatewayError(
    'GW_DATA_LOCKED',
    `The data directory ${directory} is used by another Fieldpost, process ${pid}. Stop that one, or give this one another directory with --data.`,
    { details: { pid: Number(pid) } },
  );
}

async function release(path: string, owner: string): Promise<void> {
  if ((await readOwner(path)) === owner) await unlink(path).catch(() => {});
}

async function readOwner(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function isLiving(owner: string | undefined): boolean {
  if (owner === undefined) return false;
  const pid = Number(owner.split(' ')[0]);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  return ownerText(pid) === owner && startTime(pid) !== undefined;
}

function ownerText(pid: number): string {
  return `${pid} ${bootId()} ${startTime(pid) ?? 'gone'}\n`;
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

/** Start of a living process in clock ticks since boot (proc_pid_stat(5), field 22); undefined when there is none. */
function startTime(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program, in brackets, may hold blanks and brackets itself.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return processExists(pid) ? 'unknown' : undefined;
  }
}

/** Without /proc (not Linux): whether a signal could be sent. */
function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}
