// A small file system of its own: ext4 on a loop device, or in memory. Needs root.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { run } from './command.ts';
import { createTempDir } from './temp-dir.ts';

export interface BlockDeviceOptions {
  readonly bytes: number;
  /** `tmpfs` has no device and no sync. Default ext4. */
  readonly type?: 'ext4' | 'tmpfs';
}

export interface BlockDevice extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /**
   * Bytes that reached the device since it was made, metadata and journal included; 0 for tmpfs. All dirty pages are
   * written before this resolves.
   */
  bytesWritten(): Promise<number>;
  remount(mode: 'ro' | 'rw'): Promise<void>;
}

/** Makes and mounts it; `await using` unmounts and removes it. */
export async function createBlockDevice(options: BlockDeviceOptions): Promise<BlockDevice> {
  const directory = createTempDir('device');
  const mountPoint = directory.directory('mount');
  let device: string | undefined;
  try {
    if (options.type === 'tmpfs')
      await run('mount', ['-t', 'tmpfs', '-o', `size=${options.bytes}`, 'tmpfs', mountPoint]);
    else {
      const image = directory.file('image');
      writeFileSync(image, '');
      await run('truncate', ['-s', String(options.bytes), image]);
      // Everything at once: a file system that still initialises itself writes bytes that are nobody's.
      await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0', image]);
      device = (await run('losetup', ['--find', '--show', image])).trim();
      await run('mount', ['-o', 'noatime', device, mountPoint]);
    }
  } catch (error) {
    if (device !== undefined) await run('losetup', ['-d', device]).catch(() => '');
    directory.remove();
    throw error;
  }
  const statistics = device === undefined ? undefined : `/sys/block/${basename(device)}/stat`;
  return {
    path: mountPoint,
    bytesWritten: async () => {
      if (statistics === undefined) return 0;
      await run('sync', ['--file-system', mountPoint]);
      // Documentation/block/stat.rst: the seventh number is sectors written, of 512 bytes whatever the device's own.
      return Number(readFileSync(statistics, 'utf8').trim().split(/\s+/)[6]) * 512;
    },
    remount: async (mode) => {
      await run('mount', ['-o', `remount,${mode}`, mountPoint]);
    },
    async [Symbol.asyncDispose]() {
      await run('umount', [mountPoint]).catch(() => run('umount', ['-l', mountPoint]));
      if (device !== undefined) await run('losetup', ['-d', device]).catch(() => '');
      rmSync(directory.file('image'), { force: true });
      directory.remove();
    },
  };
}
