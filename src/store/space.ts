// Free space of the file system: the floor that the user set, and a ballast file that is given up when even deleting
// finds no room (LevelDB writes before it frees).

import { open, readdir, stat, statfs, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { OutboxSettings } from '../core/outbox.ts';
import { systemCode } from '../core/errors.ts';

export interface Space {
  /** As of the last refresh. */
  readonly freeBytes: number;
  /** Bytes that the store takes on disk, as of the last refresh. */
  readonly diskBytes: number;
  /** Looks again when the last look is old; with `now`, at the free bytes at once. */
  refresh(now?: boolean): Promise<void>;
  /** That many bytes went into the log: the estimate of what is free follows, until the next look. */
  consume(bytes: number): void;
  /** The floor is reached, as far as known. */
  isShort(settings: OutboxSettings): boolean;
  /** So little is left, once `waitingBytes` of the log are written, that compaction may find no room. */
  isCritical(waitingBytes?: number): boolean;
  /** Bytes that the log may hold: the quota, less as far as the floor is passed. `reclaimableBytes` will come back. */
  quotaBytes(settings: OutboxSettings, liveBytes: number, reclaimableBytes: number): number;
  /** Gives the ballast up, when the disk is full. */
  release(): Promise<void>;
  /** Whether the file system takes what LevelDB writes when it opens: a table of what its log holds, and a manifest. */
  takesWrites(): Promise<boolean>;
}

/** The log may hold this much even below the floor, so that a gateway that is online goes on. */
const ALLOWANCE_BYTES = 1024 * 1024;
/** A table of LevelDB, its new log and its manifest fit in. */
export const BALLAST_BYTES = 8 * 1024 * 1024;
/** What LevelDB writes when it opens, beside a table of what its log holds. */
const OPENING_BYTES = 512 * 1024;
/** Shows a file system that is read-only, out of inodes, or over the user's quota. */
const PROBE_BYTES = 64 * 1024;
const REFRESH_MS = 5000;
/** Log and table. */
const WRITES_PER_BYTE = 2;
/**
 * Whatever the settings say, this much (or an eighth of a small file system) is left free, so that compaction finds room
 * and the disk is never filled by us.
 */
const HARD_FLOOR_BYTES = 16 * 1024 * 1024;
const HARD_FLOOR_FRACTION = 1 / 8;

export class DiskSpace implements Space {
  readonly #directory: string;
  readonly #ballastPath: string;
  readonly #measure: () => Promise<number>;
  #hardFloorBytes = 0;
  readonly #monotonicMs: () => number;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #hasBallast = false;
  freeBytes = Number.POSITIVE_INFINITY;
  diskBytes = 0;

  constructor(options: {
    readonly directory: string;
    readonly ballastPath: string;
    readonly monotonicMs: () => number;
    readonly freeBytes: (() => Promise<number>) | undefined;
  }) {
    this.#directory = options.directory;
    this.#ballastPath = options.ballastPath;
    this.#monotonicMs = options.monotonicMs;
    this.#measure = options.freeBytes ?? (() => measureFree(options.directory));
  }

  async refresh(now = false): Promise<void> {
    const old = this.#monotonicMs() - this.#refreshedMs >= REFRESH_MS;
    if (!now && !old) return;
    this.freeBytes = await this.#measure();
    if (!old) return;
    this.#refreshedMs = this.#monotonicMs();
    this.#hardFloorBytes = Math.min(HARD_FLOOR_BYTES, (await totalBytes(this.#directory)) * HARD_FLOOR_FRACTION);
    this.diskBytes = await directoryBytes(this.#directory);
    // Made (again) only where it takes no more than a quarter of what is free.
    if (!this.#hasBallast && this.freeBytes > 4 * BALLAST_BYTES) await this.#makeBallast();
  }

  /** Of the file system, also before the directory is made. */
  async totalBytes(): Promise<number> {
    for (let path = this.#directory; ; path = dirname(path)) {
      try {
        return await totalBytes(path);
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') return Number.POSITIVE_INFINITY;
      }
    }
  }

  /** No room for what LevelDB writes when it opens. */
  async isFull(): Promise<boolean> {
    return (await this.#measure().catch(() => Number.POSITIVE_INFINITY)) < BALLAST_BYTES;
  }

  async takesWrites(): Promise<boolean> {
    if ((await this.#measure().catch(() => 0)) < (await logFileBytes(this.#directory)) + OPENING_BYTES) return false;
    const path = `${this.#directory}.probe`;
    try {
      const handle = await open(path, 'w', 0o600);
      try {
        await handle.write(Buffer.alloc(PROBE_BYTES, 1));
        await handle.sync();
      } finally {
        await handle.close();
      }
      return true;
    } catch {
      return false;
    } finally {
      await unlink(path).catch(() => {});
    }
  }

  consume(bytes: number): void {
    // An estimate until it is measured again; a file system never has less than nothing free.
    this.freeBytes = Math.max(0, this.freeBytes - bytes * WRITES_PER_BYTE);
  }

  isShort(settings: OutboxSettings): boolean {
    return this.freeBytes < this.#floorBytes(settings);
  }

  isCritical(waitingBytes = 0): boolean {
    return this.freeBytes - waitingBytes * WRITES_PER_BYTE < this.#hardFloorBytes;
  }

  #floorBytes(settings: OutboxSettings): number {
    return Math.max(settings.minFreeBytes, this.#hardFloorBytes);
  }

  quotaBytes(settings: OutboxSettings, liveBytes: number, reclaimableBytes: number): number {
    const missing = this.#floorBytes(settings) - this.freeBytes - reclaimableBytes;
    if (missing <= 0) return settings.maxBytes;
    return Math.min(settings.maxBytes, Math.max(ALLOWANCE_BYTES, liveBytes - missing));
  }

  async release(): Promise<void> {
    this.freeBytes = await this.#measure().catch(() => 0);
    if (this.freeBytes > BALLAST_BYTES) return;
    await unlink(this.#ballastPath).catch(() => {});
    this.#hasBallast = false;
    this.#refreshedMs = Number.NEGATIVE_INFINITY;
  }

  /** Real blocks, not a hole: written once in the life of a store. */
  async #makeBallast(): Promise<void> {
    try {
      if ((await stat(this.#ballastPath).catch(() => undefined))?.size === BALLAST_BYTES) {
        this.#hasBallast = true;
        return;
      }
      const handle = await open(this.#ballastPath, 'w', 0o600);
      try {
        const block = Buffer.alloc(1024 * 1024);
        for (let written = 0; written < BALLAST_BYTES; written += block.length) await handle.write(block);
        await handle.sync();
      } finally {
        await handle.close();
      }
      this.#hasBallast = true;
    } catch {
      // No room for it: tried again with a later refresh.
      await unlink(this.#ballastPath).catch(() => {});
    }
  }
}

async function measureFree(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

async function totalBytes(directory: string): Promise<number> {
  const { blocks, bsize } = await statfs(directory);
  return blocks * bsize;
}

/** Bytes of LevelDB's logs. */
async function logFileBytes(directory: string): Promise<number> {
  return directoryBytes(directory, (name) => name.endsWith('.log'));
}

async function directoryBytes(directory: string, counts = (_name: string): boolean => true): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    if (!counts(name)) continue;
    try {
      bytes += (await stat(join(directory, name))).size;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
  return bytes;
}

/** For the outbox in memory: no floor. */
export const memorySpace: Space = {
  freeBytes: Number.POSITIVE_INFINITY,
  diskBytes: 0,
  refresh: () => Promise.resolve(),
  consume: () => {},
  isShort: () => false,
  isCritical: () => false,
  quotaBytes: (settings) => settings.maxBytes,
  release: () => Promise.resolve(),
  takesWrites: () => Promise.resolve(true),
};
