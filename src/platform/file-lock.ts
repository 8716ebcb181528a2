// A lock that one process at a time holds and that ends with it, kill -9 included. Node has no call for fcntl(2) locks, but
// its SQLite takes them: an exclusive transaction on an empty database locks the file and writes nothing, so that a full
// disk does not matter and there is nothing in it to be damaged.

import { DatabaseSync } from 'node:sqlite';

/** SQLITE_BUSY; the bits above tell its kinds apart. */
const BUSY = 5;

export interface FileLock {
  /** Idempotent. */
  release(): void;
}

/**
 * Takes the lock of that file, which is created when it is not there and stays empty; undefined while another process, or
 * somebody else in this one, holds it.
 * @throws the error of SQLite when the file cannot be created or opened for writing.
 */
export function lockFile(path: string): FileLock | undefined {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    // Else it would make a journal beside the file.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if ((((error as { errcode?: number }).errcode ?? 0) & 0xff) === BUSY) return undefined;
    throw error;
  }
  return {
    release() {
      if (database.isOpen) database.close();
    },
  };
}
