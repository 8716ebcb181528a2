// `npm run test:power -- --rounds N [--seed N] [--no-sync]`: the same load as test/crash, but at each kill everything is
// lost that was not synced, or a random part of it. `--no-sync` switches the store's syncs off and must report losses.

import { renameSync } from 'node:fs';
import { playLives, printResult, readArguments, type LivesOptions } from '../crash/lives.ts';
import { compileDiskShim } from '../support/disk-shim.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { powerLife } from './power-life.ts';

using directory = createTempDir('power');
const { rounds, seed } = readArguments(20);
const options: LivesOptions = {
  rounds,
  seed,
  dropSync: process.argv.includes('--no-sync'),
  begin: powerLife(directory, await compileDiskShim(directory.path), { seed }),
  onProgress: (line) => process.stdout.write(`${line}\n`),
};
try {
  process.exitCode = printResult('power', options, await playLives(options));
} finally {
  // For a look at what was left: FIELDPOST_KEEP names a place.
  const keep = process.env['FIELDPOST_KEEP'];
  if (keep !== undefined) renameSync(directory.path, keep);
}
