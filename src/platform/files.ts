// Files that survive a power cut: written to a temporary name, synced, renamed, and the directory synced.

import { constants } from 'node:fs';
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../core/errors.ts';

/** Makes entries of a directory durable (fsync(2): a file's own sync does not cover its name). */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a directory and its parents, each durable in its parent. `mode` applies to new ones. */
export async function makeDirectory(path: string, mode = 0o750): Promise<void> {
  // Not `recursive`: where the system answers ENOENT for ever, as /proc does, that loops without end.
  try {
    await mkdir(path, { mode });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    const parent = dirname(path);
    if (code !== 'ENOENT' || parent === path) throw error;
    // Others may make the parent meanwhile, and the directory itself.
    if (!(await isDirectory(parent))) await makeDirectory(parent, mode);
    await mkdir(path, { mode }).catch((late: unknown) => {
      if (systemCode(late) !== 'EEXIST') throw late;
    });
  }
  await syncDirectory(dirname(path));
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
}

export interface AtomicWriteOptions {
  /** Permission bits of the new file. Default 0o640. */
  readonly mode?: number;
}

/** Tells the temporary files of one process apart. */
let temporaries = 0;

/**
 * Replaces a file so that at every instant either the old or the new content is there, whole; durable when it resolves.
 * A failure leaves the old one.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: AtomicWriteOptions = {},
): Promise<void> {
  const { mode = 0o640 } = options;
  temporaries += 1;
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${temporaries}.tmp`);
  const handle = await open(temporary, 'w', mode);
  try {
    try {
      await handle.writeFile(data);
      // The mode of open(2) is subject to the umask.
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
}
