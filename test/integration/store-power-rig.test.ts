// Proves the power-cut rig on plain LevelDB: with sync and synced names nothing is lost, and every weakening is noticed.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cutPower, readDisk, type Fate } from '../power/power-cut.ts';
import { startChild } from '../support/child.ts';
import { compileDiskShim, createDiskShim } from '../support/disk-shim.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const CHILD = join(import.meta.dirname, '../power/plain-level-child.ts');
let directory: TempDir;
let library: string;

beforeAll(async () => {
  directory = createTempDir('power-rig');
  library = await compileDiskShim(directory.path);
});
afterAll(() => directory.remove());

interface Trial {
  readonly sync: boolean;
  readonly contents: Fate;
  readonly names: Fate;
  readonly puts: number;
  /** A disk that does nothing when a directory is synced. */
  readonly ignoreDirectorySyncs?: boolean;
}

/** How many puts that were called durable are not there after the cut; all of them when the store does not open. */
async function trial(name: string, options: Trial): Promise<{ durable: number; lost: number }> {
  const { sync, contents, names, puts } = options;
  const root = directory.directory(name, 'data');
  const db = new ClassicLevel(join(root, 'db'));
  await db.open();
  await db.close();
  const before = readDisk(root);
  const work = directory.directory(name, 'work');
  const shim = createDiskShim({ library, root, work, journal: true });
  shim.ignoreSyncs({ directories: options.ignoreDirectorySyncs === true });
  let durable = 0;
  const child = startChild(CHILD, {
    args: [join(root, 'db'), sync ? 'sync' : 'no-sync'],
    env: shim.env,
    onReport: (report) => {
      if ((report as { durable?: number }).durable !== undefined) durable += 1;
    },
  });
  await waitFor(() => durable >= puts || !child.running);
  await child.kill();
  expect(durable, child.errorOutput()).toBeGreaterThanOrEqual(puts);
  const target = directory.file(name, 'after');
  cutPower({ root, image: work, before, target, contents, names, random: Math.random });
  mkdirSync(join(target, 'db'), { recursive: true });
  const after = new ClassicLevel(join(target, 'db'), { createIfMissing: false });
  let found = 0;
  try {
    await after.open();
    found = (await after.keys().all()).filter((key) => Number(key) < durable).length;
    await after.close();
  } catch {
    // A store that does not open has lost all.
  }
  return { durable, lost: durable - found };
}

// 100 puts stay in the first log file; 2000 roll it over several times.
describe('power-cut rig', () => {
  it('keeps what was synced, whatever happens to the rest of the bytes', async () => {
    for (const contents of ['lost', 'partly', 'kept'] as const) {
      expect(await trial(`sync-${contents}`, { sync: true, contents, names: 'kept', puts: 100 })).toMatchObject({
        lost: 0,
      });
    }
  });

  it('loses what was not synced', async () => {
    const { lost } = await trial('no-sync', { sync: false, contents: 'lost', names: 'kept', puts: 100 });
    expect(lost).toBeGreaterThan(0);
  });

  it('loses files whose names were not synced', async () => {
    const { lost } = await trial('names', {
      sync: true,
      contents: 'lost',
      names: 'lost',
      puts: 2000,
      ignoreDirectorySyncs: true,
    });
    expect(lost).toBeGreaterThan(0);
  });

  it('keeps all over several log files when names survive', async () => {
    expect(await trial('rolled', { sync: true, contents: 'lost', names: 'kept', puts: 2000 })).toMatchObject({
      lost: 0,
    });
  });
});
