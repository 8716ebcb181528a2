// One opener of a store at a time, from before its files are set aside until it is closed. LevelDB's own lock comes too late
// for that: what stands beside the directory (aside.ts) is changed before LevelDB opens it.

import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeDirectory } from '../platform/files.ts';
import { lockFile } from '../platform/file-lock.ts';
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
  const lock = await lockStore(directory);
  try {
    const opened = await open();
    const { level } = opened;
    const held: LevelHandle = {
      write: (writes, options) => level.write(writes, options),
      get: (key) => level.get(key),
      entries: (range) => level.entries(range),
      keys: (range) => level.keys(range),
      clear: (gte, lt) => level.clear(gte, lt),
      compact: (gte, lt) => level.compact(gte, lt),
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

async function lockStore(directory: string): Promise<{ release(): void }> {
  let lock;
  try {
    await makeDirectory(dirname(directory));
    await access(dirname(directory), constants.W_OK);
    lock = lockFile(`${directory}.lock`);
  } catch (error) {
    throw unusableError(directory, error);
  }
  if (lock === undefined) throw lockedError(directory);
  return lock;
}
