// Ranges of LevelDB: read as asked for, and nothing stays behind outside the heap, where no measure of V8's shows it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openLevel } from '../../../../src/platform/level.ts';
import type { LevelRange } from '../../../../src/platform/level-handle.ts';
import { startChild } from '../../../support/child.ts';

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'fieldpost-level-'))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

it('reads ranges of any length, to a limit, and in reverse', async () => {
  const level = await openLevel(directory, { writeBufferBytes: 65_536, cacheBytes: 65_536, tableBytes: 65_536 });
  const keys = Array.from({ length: 1000 }, (_, n) => `k${String(n).padStart(4, '0')}`);
  await level.write(
    keys.map((key) => ({ key: Buffer.from(key), value: Buffer.alloc(200, key) })),
    { sync: false },
  );
  const read = async (range: LevelRange): Promise<string[]> => {
    const found: string[] = [];
    for await (const { key, value } of level.entries(range)) {
      expect(value.equals(Buffer.alloc(200, key.toString()))).toBe(true);
      found.push(key.toString());
    }
    return found;
  };
  expect(await read({})).toEqual(keys);
  expect(await read({ reverse: true })).toEqual(keys.toReversed());
  for (const limit of [0, 1, 16, 17, 144, 145, 999, 1000, 1001])
    expect(await read({ limit })).toEqual(keys.slice(0, limit));
  expect(await read({ gte: Buffer.from('k0100'), lt: Buffer.from('k0130') })).toEqual(keys.slice(100, 130));
  expect(await read({ lt: Buffer.from('k0500'), reverse: true, limit: 20 })).toEqual(keys.slice(480, 500).toReversed());
  await level.close();
});

it('leaves nothing of a range behind once it was read', { timeout: 60_000 }, async () => {
  const child = startChild(join(import.meta.dirname, 'level-entries-child.ts'), { args: [directory, '400'] });
  const isGrown = (told: unknown): told is { readonly grownBytes: number } =>
    typeof told === 'object' && told !== null && 'grownBytes' in told;
  const { grownBytes } = await child.next(isGrown, 60_000);
  await child.exited;
  // 1200 ranges of 60 KB each: with what they fetched last it grows by 85 MB, without by 25 MB.
  expect(grownBytes / 1e6).toBeLessThan(50);
});
