// Free space of the file system: the floor that the user set, and a ballast file that is given up when even deleting
// finds no room (LevelDB writes before it frees).

import { open, readdir, stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { OutboxSettings } from '../core/outbox.ts';
import { systemCode } from '../core/errors.ts';

export interface Space {
  /** As of the last refresh. */
  readonly freeBytes: number;
  /** Bytes that the store takes on disk, as of the last refresh. */
  readonly diskBytes: number;
  /** Looks again when the last look is old, or at once. */
  refresh(now?: boolean): Promise<void>;
  /** The floor is reached. */
  isShort(settings: OutboxSettings): boolean;
  /** Bytes that the log may hold: the quota, less as far as the floor is passed. `reclaimableBytes` will come back. */
  quotaBytes(settings: OutboxSettings, liveBytes: number, reclaimableBytes: number): number;
  /** Gives the ballast up, when the disk is full. */
  release(): Promise<void>;
}

/** The log may hold this much even below the floor, so that a gateway that is online goes on. */
const ALLOWANCE_BYTES = 1024 * 1024;
/** A table of LevelDB, its new log and its manifest fit in. */
export const BALLAST_BYTES = 8 * 1024 * 1024;
const REFRESH_MS = 5000;

export class DiskSpace implements Space {
  readonly #directory: string;
  readonly #ballastPath: string;
  readonly #measure: () => Promise<number>;
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
    if (!now && this.#monotonicMs() - this.#refreshedMs < REFRESH_MS) return;
    this.#refreshedMs = this.#monotonicMs();
    this.freeBytes = await this.#measure();
    this.diskBytes = await directoryBytes(this.#directory);
    // Made (again) only where it takes no more than a quarter of what is free.
    if (!this.#hasBallast && this.freeBytes > 4 * BALLAST_BYTES) await this.#makeBallast();
  }

  /** No room for what LevelDB writes when it opens. */
  async isFull(): Promise<boolean> {
    return (await this.#measure().catch(() => Number.POSITIVE_INFINITY)) < BALLAST_BYTES;
  }

  isShort(settings: OutboxSettings): boolean {
    return this.freeBytes < settings.minFreeBytes;
  }

  quotaBytes(settings: OutboxSettings, liveBytes: number, reclaimableBytes: number): number {
    const missing = settings.minFreeBytes - this.freeBytes - reclaimableBytes;
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

async function directoryBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
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
  isShort: () => false,
  quotaBytes: (settings) => settings.maxBytes,
  release: () => Promise.resolve(),
};
