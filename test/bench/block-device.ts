// A block device of the bench's own: ext4 on a loop device over a file, so that bytes written are counted by the kernel for
// this file system alone, and a sync goes through a journal as it does on an appliance.

import {
  closeSync,
  mkdirSync,
  fdatasyncSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { run } from '../support/command.ts';
import { quantile } from './bench.ts';

const SECTOR_BYTES = 512;
const PROBE_SYNCS = 200;
const PROBE_BYTES = 4096;
/** A device that answers sooner than this does not sync to anything. */
const TRUSTED_SYNC_MS = 0.1;

export interface BlockDevice extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** Bytes that reached the device so far: all dirty pages are written before this resolves. */
  bytesWritten(): Promise<number>;
}

/** Makes and mounts one of `sizeBytes` below `directory`. Needs root. */
export async function createBlockDevice(directory: string, sizeBytes: number): Promise<BlockDevice> {
  const image = join(directory, 'disk.img');
  const path = join(directory, 'disk');
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  mkdirSync(path, { recursive: true });
  // Tables of inodes are made at once: written later in the background they would be counted as ours.
  await run('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image]);
  const device = (await run('losetup', ['--find', '--show', image])).trim();
  const detach = async (): Promise<void> => {
    await run('losetup', ['--detach', device]);
    rmSync(image, { force: true });
  };
  try {
    await run('mount', ['-t', 'ext4', '-o', 'noatime', device, path]);
  } catch (error) {
    await detach();
    throw error;
  }
  return {
    path,
    async bytesWritten() {
      await run('sync', ['--file-system', path]);
      // Documentation/block/stat.rst: the seventh number is sectors written, of 512 bytes whatever the device's own.
      const fields = readFileSync(`/sys/block/${basename(device)}/stat`, 'utf8')
        .trim()
        .split(/\s+/);
      return Number(fields[6]) * SECTOR_BYTES;
    },
    async [Symbol.asyncDispose]() {
      // A bench that failed may have left files open; the device then goes with the process.
      await run('umount', [path]).catch(() => run('umount', ['--lazy', path]));
      await detach();
    },
  };
}

export interface SyncProbe {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** "bare sync p50 … p99 …" */
  readonly text: string;
  /** Why figures from this disk do not count, if they do not. */
  readonly doesNotCount: string | undefined;
}

/** Appends 4 KB and syncs, again and again, to a file below `directory`. */
export function probeSync(directory: string): SyncProbe {
  const file = join(directory, 'sync-probe');
  const bytes = Buffer.alloc(PROBE_BYTES, 0x5a);
  const descriptor = openSync(file, 'w');
  const elapsedMs: number[] = [];
  try {
    for (let index = 0; index < PROBE_SYNCS; index += 1) {
      const startedMs = performance.now();
      writeSync(descriptor, bytes);
      fdatasyncSync(descriptor);
      elapsedMs.push(performance.now() - startedMs);
    }
  } finally {
    closeSync(descriptor);
    rmSync(file);
  }
  const p50Ms = quantile(elapsedMs, 0.5);
  const p99Ms = quantile(elapsedMs, 0.99);
  return {
    p50Ms,
    p99Ms,
    text: `bare sync p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms`,
    doesNotCount:
      p50Ms < TRUSTED_SYNC_MS ? `a bare sync takes ${p50Ms.toFixed(3)} ms: this disk does not sync` : undefined,
  };
}
