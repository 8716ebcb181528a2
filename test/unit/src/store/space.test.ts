import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiskSpace } from '../../../../src/store/space.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

let directory: TempDir;

beforeEach(() => {
  directory = createTempDir('space');
});

afterEach(() => directory.remove());

describe('space of the disk', () => {
  it('is never less than nothing, whatever was written since it was measured', async () => {
    const space = new DiskSpace({
      directory: directory.path,
      ballastPath: directory.file('ballast'),
      monotonicMs: () => 0,
      freeBytes: () => Promise.resolve(1000),
    });
    await space.refresh(true);
    space.consume(100);
    expect(space.freeBytes).toBe(800);
    space.consume(1_000_000);
    expect(space.freeBytes).toBe(0);
  });
});
