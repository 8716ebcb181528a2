// Lives that end with a power cut.

import { renameSync, rmSync } from 'node:fs';
import type { Life } from '../crash/lives.ts';
import { seededRandom } from '../crash/load-protocol.ts';
import { createDiskShim } from '../support/disk-shim.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { cutPower, readDisk, type Fate } from './power-cut.ts';

// Half of the cuts are the strict ones: what nobody synced is gone.
const CONTENTS: readonly Fate[] = ['lost', 'lost', 'partly', 'partly', 'kept'];
const NAMES: readonly Fate[] = ['lost', 'lost', 'partly', 'kept'];

export interface PowerLifeOptions {
  readonly seed: number;
  /** A disk that does nothing when a directory is synced. */
  readonly ignoreDirectorySyncs?: boolean;
}

/** For `LivesOptions.begin`: each life runs under the shim, and finds next time what the cut has left. */
export function powerLife(directory: TempDir, library: string, options: PowerLifeOptions): (drains: boolean) => Life {
  const root = directory.directory('data');
  const random = seededRandom(options.seed + 1);
  const choose = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  return (drains) => {
    const before = readDisk(root);
    const work = directory.file('work');
    const shim = createDiskShim({ library, root, work, journal: true });
    shim.ignoreSyncs({ directories: options.ignoreDirectorySyncs === true });
    return {
      directory: `${root}/db/log`,
      env: shim.env,
      end() {
        const target = directory.file('after');
        rmSync(target, { recursive: true, force: true });
        // After an orderly end the power goes too, but everything has had its time.
        const contents = drains ? 'lost' : choose(CONTENTS);
        const names = drains ? 'lost' : choose(NAMES);
        cutPower({ root, image: work, before, target, contents, names, random });
        rmSync(root, { recursive: true, force: true });
        renameSync(target, root);
      },
    };
  };
}
