// `npm run test:crash -- --rounds N [--seed N]`: kills a real process at random moments and compares what was acknowledged
// with what comes out. The page cache survives a kill; test/power takes that away too.

import { createTempDir } from '../support/temp-dir.ts';
import { playLives, printResult, readArguments, type LivesOptions } from './lives.ts';

using directory = createTempDir('crash');
const path = directory.file('db', 'log');
const options: LivesOptions = {
  ...readArguments(20),
  begin: () => ({ directory: path, env: {}, end: () => {} }),
  onProgress: (line) => process.stdout.write(`${line}\n`),
};
process.exitCode = printResult('crash', options, await playLives(options));
