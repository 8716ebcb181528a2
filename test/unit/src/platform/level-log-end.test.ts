import { appendFileSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { expect, it } from 'vitest';
import { endsWithinRecord } from '../../../../src/platform/level-log-end.ts';
import { createTempDir } from '../../../support/temp-dir.ts';

it('tells a log that was cut from one that ends, wherever', async () => {
  using directory = createTempDir('log-end');
  const path = directory.file('db');
  // Itself: nothing is written ahead of its records.
  const level = new ClassicLevel<string, Buffer>(path, { valueEncoding: 'buffer' });
  await level.open();
  const log = join(path, readdirSync(path).find((name) => name.endsWith('.log')) ?? '');
  const ends = [0];
  // One that ends a few bytes before a block does, some of several blocks, and small ones.
  for (const bytes of [10, 32_690, 40_000, 100_000, 1, 500]) {
    await level.put(`key ${bytes}`, Buffer.alloc(bytes, 7));
    ends.push(statSync(log).size);
  }
  const written = ends.at(-1) ?? 0;
  const copied = directory.file('copy');
  mkdirSync(copied);
  const copy = join(copied, '000007.log');
  const lengths = ends.flatMap((end) => [end - 1, end, end + 1, end + 6, end + 7, end + 200]);
  let cuts = 0;
  for (const length of [32_767, 32_768, 32_769, 65_536, ...lengths].filter((at) => at >= 0 && at <= written)) {
    copyFileSync(log, copy);
    truncateSync(copy, length);
    const last = Math.max(...ends.filter((end) => end <= length));
    // Up to six zeros fill a block.
    const isCut = readFileSync(copy)
      .subarray(last)
      .some((byte) => byte !== 0);
    expect(await endsWithinRecord(copied), `${length} of ${written} bytes`).toBe(isCut);
    cuts += isCut ? 1 : 0;
    // As a crash leaves it where zeros were written ahead.
    appendFileSync(copy, Buffer.alloc(50_000));
    expect(await endsWithinRecord(copied), `${length} of ${written} bytes, and zeros`).toBe(false);
  }
  expect(cuts).toBeGreaterThan(20);
  await level.close();
  expect(await endsWithinRecord(directory.file('nowhere'))).toBe(false);
});
