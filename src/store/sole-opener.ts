// One opener of a store at a time, from before its files are set aside until it is closed. LevelDB's own lock comes too late
// for that: what stands beside the directory (aside.ts) is changed before LevelDB opens it.
//
// Processes of this machine are kept apart by the lock of the data directory (platform/directory-lock.ts). It does not see
// those of other containers: in one a lock of the system's is taken besides, whose library costs 2 MB of memory.

import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeDirectory } from '../platform/files.ts';
import { GatewayError } from '../core/errors.ts';
import type { FileLock } from '../platform/file-lock.ts';
import { isInContainer } from '../platform/host.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { lockedError } from '../platform/level.ts';
import { unusableError } from '../platform/unusable.ts';

/**
 * Opens a store while nobody else opens it or has it open: until the handle that `open` resolves with is closed.
 * @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY; what `open` throws.
 */
export async function openAlone<T extends { readonly level: LevelHandle }>(
  directory: string,
  open: () => Promise<T>,
): Promise<T> {
  const lock = await lockStore(directory, isInContainer());
  try {
    const opened = await open();
    const { level } = opened;
    const held: LevelHandle = {
      write: (writes, options) => level.write(writes, options),
      get: (key) => level.get(key),
      entries: (range) => level.entries(range),
      keys: (range) => level.keys(range),
      flush: () => level.flush(),
      compact: (first, last) => level.compact(first, last),
      async close() {
        try {
          await level.close();
        } finally {
          lock.release();
        }
      },
    };
    return { ...opened, level: held };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Stores that this process has open. */
const openHere = new Set<string>();

/** @param system whether to lock against processes that cannot be seen. */
export async function lockStore(directory: string, system: boolean): Promise<FileLock> {
  if (openHere.has(directory)) throw lockedError(directory);
  openHere.add(directory);
  let lock: FileLock | undefined;
  try {
    await makeDirectory(dirname(directory));
    await access(dirname(directory), constants.W_OK);
    if (system) {
      const { lockFile } = await import('../platform/file-lock.ts');
      lock = lockFile(`${directory}.lock`);
      if (lock === undefined) throw lockedError(directory);
    }
  } catch (error) {
    openHere.delete(directory);
    throw error instanceof GatewayError ? error : unusableError(directory, error);
  }
  return {
    release() {
      openHere.delete(directory);
      lock?.release();
    },
  };
}
