import { describe } from 'vitest';
import { createMemoryOutbox } from '../../src/store/memory-outbox.ts';
import { openOutbox } from '../../src/store/open.ts';
import type { OutboxOptions } from '../../src/store/options.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { describeOutbox, type OutboxSubject } from './outbox.suite.ts';
import { describeStreams } from './stream.suite.ts';

function memory(): Promise<OutboxSubject> {
  return Promise.resolve({
    name: 'memory',
    create: (options) => Promise.resolve(createMemoryOutbox(options)),
    end: () => Promise.resolve(),
  });
}

function onLevel(): Promise<OutboxSubject> {
  const dir = createTempDir('outbox');
  const open = (options: OutboxOptions) =>
    openOutbox({
      ...options,
      directory: dir.file('log'),
      // Too little for the ballast file.
      freeBytes: () => Promise.resolve(16 * 1024 * 1024),
    });
  return Promise.resolve({
    name: 'LevelDB',
    create: open,
    reopen: open,
    end: () => Promise.resolve(dir.remove()),
  });
}

describe('outbox in memory', () => {
  describeOutbox(memory, false);
});
describe('outbox on LevelDB', () => {
  describeOutbox(onLevel, true);
});
describe('streams in memory', () => {
  describeStreams(memory, false);
});
describe('streams on LevelDB', () => {
  describeStreams(onLevel, true);
});
