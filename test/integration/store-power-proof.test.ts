// The power-cut test must fail when the store is weakened; else its `lost 0` would say nothing.

import { describe, expect, it } from 'vitest';
import type { Ledger } from '../crash/ledger.ts';
import { playLives } from '../crash/lives.ts';
import { powerLife } from '../power/power-life.ts';
import { compileDiskShim } from '../support/disk-shim.ts';
import { createTempDir } from '../support/temp-dir.ts';

async function play(options: { dropSync?: boolean; ignoreDirectorySyncs?: boolean; rounds: number }): Promise<Ledger> {
  using directory = createTempDir('power-proof');
  const library = await compileDiskShim(directory.path);
  const seed = 7;
  const { rounds, dropSync = false, ignoreDirectorySyncs = false } = options;
  return await playLives({
    rounds,
    seed,
    dropSync,
    begin: powerLife(directory, library, { seed, ignoreDirectorySyncs }),
  });
}

describe('power-cut test of the outbox', () => {
  it('reports losses when sync is switched off', async () => {
    const { totals, faults } = await play({ dropSync: true, rounds: 5 });
    expect(totals.lost).toBeGreaterThan(0);
    expect(faults).not.toEqual([]);
  });

  it('reports losses when names are never synced', async () => {
    const { totals } = await play({ ignoreDirectorySyncs: true, rounds: 5 });
    expect(totals.lost).toBeGreaterThan(0);
  });
});
