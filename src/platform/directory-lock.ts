// One process per data directory, from the first file on. LevelDB's own lock guards the store alone and comes later; by
// then a second instance could already have reverted the first one's trial configuration.
//
// The lock is a symbolic link whose text names its owner by process id and start time, so that one that a killed process left
// behind, or whose id another process was given since, is known to be stale. A link of that length takes no block, so that
// it can be made on a full disk. Processes of another container are not seen here: there LevelDB's lock is the one that holds.

import { readFileSync } from 'node:fs';
import { readFile, readlink, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError, systemCode } from '../core/errors.ts';
import { unusableError } from './unusable.ts';

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
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (await take(owner, path)) return { release: () => release(path, owner) };
      await removeStale(directory, path, owner);
    }
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw unusableError(`The data directory ${directory}`, error);
  }
  throw new GatewayError(
    'GW_DATA_LOCKED',
    `Others start on the data directory ${directory} at the same moment; try again.`,
  );
}

/** symlink(2) is atomic and fails when the name exists. */
async function take(owner: string, path: string): Promise<boolean> {
  try {
    await symlink(owner, path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Only who holds the turn removes a lock: of two that found the same one stale, the slower would else remove what the faster
 * has taken meanwhile. @throws GatewayError GW_DATA_LOCKED when it is not stale.
 */
async function removeStale(directory: string, path: string, owner: string): Promise<void> {
  refuseLiving(directory, await readOwner(path));
  const turn = join(directory, `.${LOCK_FILE}.turn`);
  if (!(await take(owner, turn))) {
    // Of one that was killed within these lines.
    const holder = await readOwner(turn);
    if (holder !== undefined && !isLiving(holder)) await unlink(turn).catch(ignoreAbsent);
    return;
  }
  try {
    refuseLiving(directory, await readOwner(path));
    await unlink(path).catch(ignoreAbsent);
  } finally {
    await unlink(turn).catch(ignoreAbsent);
  }
}

function ignoreAbsent(error: unknown): void {
  if (systemCode(error) !== 'ENOENT') throw error;
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
    return await readlink(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    if (systemCode(error) !== 'EINVAL') throw error;
  }
  // Earlier releases made a file; it may be gone meanwhile, or a link in its place.
  try {
    return (await readFile(path, 'utf8')).trimEnd();
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
  return `${pid} ${bootId()} ${startTime(pid) ?? 'gone'}`;
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
