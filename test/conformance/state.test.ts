import { describe } from 'vitest';
import { SystemClock } from '../../src/platform/clock.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { memoryStateStore } from '../support/state.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { describeState } from './state.suite.ts';

describe('state in memory', () => {
  describeState(() => Promise.resolve({ create: memoryStateStore, end: () => Promise.resolve() }));
});

describe('state on LevelDB', () => {
  describeState(() => {
    const dir = createTempDir('state');
    const open = () =>
      openStateStore({ directory: dir.file('state'), clock: new SystemClock(), telemetry: { emit: () => {} } });
    return Promise.resolve({ create: open, reopen: open, end: () => Promise.resolve(dir.remove()) });
  });
});
