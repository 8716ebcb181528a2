// LevelDB behind a small interface: ordered bytes, atomic synced batches, range deletes. The only file that knows
// classic-level, which vendors LevelDB 1.20. What that version leaves open is closed here:
// - a new log file's name is not synced (its data is), so the directory is synced when it has changed;
// - each commit makes the log longer, which costs a transaction of the file system's journal: level-log-ahead.ts;
// - the first MANIFEST and the rename of CURRENT are not synced, so a new database is made under another name, synced
//   and renamed, and every open ends with a sync of all files and of the directory.

import { closeSync, constants, fsyncSync, openSync, statSync } from 'node:fs';
import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { fsync } from 'node:fs';
import { ClassicLevel, type Iterator, type KeyIterator as LevelKeyIterator } from 'classic-level';
import { GatewayError, errorText, systemCode } from '../core/errors.ts';
import { makeDirectory, syncDirectory } from './files.ts';
import type { LevelEntry, LevelHandle, LevelRange, LevelTuning, LevelWrite } from './level-handle.ts';
import { LogAhead } from './level-log-ahead.ts';
import { systemCodes, unusableError } from './unusable.ts';

const syncDescriptor = promisify(fsync);

/** No key of ours begins with it. */
const BEHIND_ALL = Buffer.from([0xff]);

/** Fetched together, within the bytes of `highWaterMarkBytes`. */
const ENTRIES_AT_ONCE = 128;
const ENTRIES_AT_FIRST = 16;
const KEYS_AT_ONCE = 512;

/** So much may stay with an iterator that is closed. */
const HELD_BYTES = 4 * 1024;

/**
 * A directory changed this shortly before it was looked at may change again within the same tick of its clock, which is
 * 10 ms at most (CONFIG_HZ of 100).
 */
const RACY_DIRECTORY_MS = 20;

/** Opens, or creates, the database in `directory`. @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_OPEN. */
export async function openLevel(directory: string, tuning: LevelTuning): Promise<LevelHandle> {
  try {
    if (!(await hasEntries(directory))) await createLevel(directory, tuning);
    const db = await openDatabase(directory, tuning, false);
    await syncFiles(directory);
    return new ClassicHandle(db, directory);
  } catch (error) {
    throw openError(directory, error);
  }
}

/** Rebuilds the database's table of contents from what can be read. @throws GatewayError GW_STORE_OPEN. */
export async function repairLevel(directory: string): Promise<void> {
  try {
    await ClassicLevel.repair(directory);
    await syncFiles(directory);
  } catch (error) {
    throw openError(directory, error);
  }
}

async function hasEntries(directory: string): Promise<boolean> {
  try {
    // LOCK and LOG alone are what a database leaves that was never made.
    return (await readdir(directory)).some((name) => !/^(LOCK|LOG(\.old)?|lost)$/.test(name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

async function createLevel(directory: string, tuning: LevelTuning): Promise<void> {
  const parent = dirname(directory);
  const fresh = `${directory}.creating`;
  await makeDirectory(parent);
  await rm(fresh, { recursive: true, force: true });
  await makeDirectory(fresh);
  const db = await openDatabase(fresh, tuning, true);
  await db.close();
  await syncFiles(fresh);
  await rm(directory, { recursive: true, force: true });
  await rename(fresh, directory);
  await syncDirectory(parent);
}

async function openDatabase(
  directory: string,
  tuning: LevelTuning,
  create: boolean,
): Promise<ClassicLevel<Buffer, Uint8Array>> {
  const db = new ClassicLevel<Buffer, Uint8Array>(directory, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    createIfMissing: create,
    compression: true,
    writeBufferSize: tuning.writeBufferBytes,
    cacheSize: tuning.cacheBytes,
    maxFileSize: tuning.tableBytes,
    // The table cache maps each file; LevelDB takes no less than 64 tables.
    maxOpenFiles: 74,
  });
  await db.open();
  return db;
}

async function syncFiles(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    // Never LOCK: closing any descriptor of it would drop the lock that LevelDB holds on it (fcntl(2), advisory locks).
    if (!entry.isFile() || entry.name === 'LOCK') continue;
    let handle;
    try {
      handle = await open(join(directory, entry.name), constants.O_RDONLY);
    } catch (error) {
      // LevelDB removes obsolete files while we walk.
      if (systemCode(error) === 'ENOENT') continue;
      throw error;
    }
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncDirectory(directory);
}

function openError(directory: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  const code = systemCodes(error);
  if (code.includes('LEVEL_LOCKED')) return lockedError(directory, error);
  const system = code.find((name) => /^E[A-Z]+$/.test(name));
  if (system === 'EACCES' || system === 'EPERM' || system === 'EROFS' || system === 'ENOTDIR') {
    return unusableError(directory, error);
  }
  return new GatewayError('GW_STORE_OPEN', `${directory} could not be opened: ${deepestText(error)}.`, {
    cause: error,
  });
}

/** GW_DATA_LOCKED. */
export function lockedError(directory: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'GW_DATA_LOCKED',
    `${directory} is in use by another Fieldpost. Stop it, or give this one a data directory of its own with --data.`,
    { cause },
  );
}

function deepestText(error: unknown): string {
  let current = error;
  for (let depth = 0; depth < 8 && current instanceof Error && current.cause instanceof Error; depth += 1) {
    current = current.cause;
  }
  return errorText(current);
}

type KeyIterator = LevelKeyIterator<ClassicLevel<Buffer, Uint8Array>, Buffer>;
type EntryIterator = Iterator<ClassicLevel<Buffer, Uint8Array>, Buffer, Uint8Array>;

class ClassicHandle implements LevelHandle {
  readonly #db: ClassicLevel<Buffer, Uint8Array>;
  readonly #directory: string;
  readonly #descriptor: number;
  readonly #ahead: LogAhead;
  #syncedChangeMs: number;
  #writes = 0;
  #closing: Promise<void> | undefined;

  constructor(db: ClassicLevel<Buffer, Uint8Array>, directory: string) {
    this.#db = db;
    this.#directory = directory;
    this.#descriptor = openSync(directory, constants.O_RDONLY);
    this.#ahead = new LogAhead(directory);
    // The directory was synced before; its last change is looked at again by the first write all the same.
    this.#syncedChangeMs = 0;
  }

  async write(writes: readonly LevelWrite[], options: { readonly sync: boolean }): Promise<void> {
    this.#writes += 1;
    const prepared = options.sync ? await this.#ahead.prepare(writes) : writes;
    const batch = prepared.map(({ key, value }) =>
      value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const),
    );
    await this.#db.batch(batch, { sync: options.sync });
    if (options.sync) await this.#syncNames();
    else this.#ahead.forget();
  }

  /** fsync(2): the sync of a file does not cover its name, and LevelDB 1.20 does not sync the name of a new log. */
  async #syncNames(): Promise<void> {
    const changedMs = statSync(this.#directory).mtimeMs;
    if (changedMs === this.#syncedChangeMs) return;
    this.#ahead.lookAgain();
    await syncDescriptor(this.#descriptor);
    this.#syncedChangeMs = Math.abs(Date.now() - changedMs) < RACY_DIRECTORY_MS ? 0 : changedMs;
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    const value = await this.#db.get(key);
    return value === undefined ? undefined : toBuffer(value);
  }

  async *entries(range: LevelRange): AsyncIterable<LevelEntry> {
    const { limit = Number.MAX_SAFE_INTEGER, ...bounds } = range;
    const iterator = this.#db.iterator({ ...bounds, highWaterMarkBytes: 64 * 1024 });
    let held: readonly [Buffer, Uint8Array][] = [];
    try {
      // One promise for many entries, not one for each; few at first, as most ranges are short.
      let atOnce = ENTRIES_AT_FIRST;
      for (let left = limit; left > 0; left -= held.length) {
        const entries = await iterator.nextv(Math.min(left, atOnce));
        if (entries.length === 0) return;
        held = entries;
        for (const [key, value] of entries) yield { key, value: toBuffer(value) };
        atOnce = ENTRIES_AT_ONCE;
      }
    } finally {
      await letGo(iterator, held);
      await iterator.close();
    }
  }

  async *keys(range: LevelRange): AsyncIterable<Buffer> {
    // Most callers look for one key and its neighbours, and LevelDB reads the value's block for each key fetched ahead.
    const highWaterMarkBytes = range.limit === undefined ? 64 : Math.min(range.limit * 16, 16 * 1024);
    const iterator = this.#db.keys({ ...range, highWaterMarkBytes });
    try {
      if (range.limit === undefined) for await (const key of iterator) yield key;
      else yield* pages(iterator, range.limit);
    } finally {
      await iterator.close();
    }
  }

  async flush(): Promise<void> {
    // LevelDB compacts a range by making a table of its memory first, whatever the range (DBImpl::CompactRange).
    await this.compact(BEHIND_ALL, BEHIND_ALL);
  }

  async compact(first: Buffer, last: Buffer): Promise<void> {
    const writes = this.#writes;
    await this.#db.compactRange(first, last);
    // Else a write shows that there is another log.
    if (this.#writes === writes) this.#ahead.begun();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#ahead.close();
      await this.#db.close();
    } finally {
      try {
        fsyncSync(this.#descriptor);
      } finally {
        closeSync(this.#descriptor);
      }
    }
  }
}

/** One promise for many keys, not one for each. */
async function* pages(iterator: KeyIterator, limit: number): AsyncIterable<Buffer> {
  for (let left = limit; left > 0;) {
    const keys = await iterator.nextv(Math.min(left, KEYS_AT_ONCE));
    if (keys.length === 0) return;
    yield* keys;
    left -= keys.length;
  }
}

/**
 * An iterator that is closed holds what it fetched last until the next collection of the old generation, outside the heap and
 * without V8's knowing of it: lists that were asked for again and again took 250 MB. Fetching one more replaces it.
 */
async function letGo(iterator: EntryIterator, held: readonly [Buffer, Uint8Array][]): Promise<void> {
  const last = held.at(-1)?.[0];
  const bytes = held.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (last === undefined || bytes < HELD_BYTES) return;
  try {
    // At its end an iterator fetches nothing more.
    iterator.seek(last);
    await iterator.nextv(1);
  } catch {
    // The database is being closed, or whoever iterates has been told.
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
