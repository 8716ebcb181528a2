import { cpSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LevelHandle, LevelTuning } from '../../../../src/platform/level-handle.ts';
import { openLevel, repairLevel } from '../../../../src/platform/level.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

const TUNING: LevelTuning = { writeBufferBytes: 1024 * 1024, cacheBytes: 64 * 1024, tableBytes: 1024 * 1024 };
const AHEAD_BYTES = 256 * 1024;

let directory: TempDir;
let path: string;
beforeEach(() => {
  directory = createTempDir('log-ahead');
  path = join(directory.path, 'db');
});
afterEach(() => directory.remove());

function newestLog(): string {
  const logs = readdirSync(path).filter((name) => name.endsWith('.log'));
  return logs.toSorted().at(-1) ?? '';
}

/** Length of the newest log. */
function logLength(): number {
  return statSync(join(path, newestLog())).size;
}

let written = 0;
async function put(level: LevelHandle, bytes: number): Promise<void> {
  const key = Buffer.from(String((written += 1)).padStart(8, '0'));
  await level.write([{ key, value: Buffer.alloc(bytes, written) }], { sync: true });
}

async function countEntries(of: string): Promise<number> {
  const level = await openLevel(of, TUNING);
  let count = 0;
  for await (const { key, value } of level.entries({})) {
    count += 1;
    expect(value.every((byte) => byte === Number(key.toString()) % 256)).toBe(true);
  }
  await level.close();
  return count;
}

describe('zeros ahead of the log', () => {
  it('let small commits leave the length of the log as it is', async () => {
    const level = await openLevel(path, TUNING);
    await put(level, 3000);
    expect(logLength()).toBe(AHEAD_BYTES);
    for (let count = 0; count < 80; count += 1) await put(level, 3000);
    expect(logLength()).toBe(AHEAD_BYTES);
    for (let count = 0; count < 10; count += 1) await put(level, 3000);
    expect(logLength()).toBe(2 * AHEAD_BYTES);
    await level.close();
    expect(await countEntries(path)).toBe(91);
  });

  it('are written over a page at a time when commits nearly fill one', async () => {
    const level = await openLevel(path, TUNING);
    const pages = AHEAD_BYTES / 4096;
    for (let count = 0; count < pages; count += 1) await put(level, 3600);
    expect(logLength()).toBe(AHEAD_BYTES);
    await put(level, 3600);
    expect(logLength()).toBe(2 * AHEAD_BYTES);
    await level.close();
    expect(await countEntries(path)).toBe(pages + 1);
  });

  it('are not written for large commits', async () => {
    const level = await openLevel(path, TUNING);
    for (let count = 0; count < 8; count += 1) await put(level, 64 * 1024);
    expect(logLength()).toBeLessThan(8 * 65 * 1024);
    expect(logLength()).toBeGreaterThanOrEqual(8 * 64 * 1024);
    await level.close();
  });

  it('are not needed for a large commit to end with its page', async () => {
    const level = await openLevel(path, TUNING);
    for (let count = 1; count <= 6; count += 1) {
      // With the framing of the record this ends about a kilobyte before a page does.
      await put(level, 68_586);
      expect(logLength()).toBe(count * 17 * 4096);
    }
    await level.close();
    expect(await countEntries(path)).toBe(6);
  });

  it('follow LevelDB to its next log', async () => {
    const level = await openLevel(path, TUNING);
    const count = 150;
    for (let number = 0; number < count; number += 1) await put(level, 20_000);
    // The commit that begins a log is in it before there can be zeros.
    for (let number = 0; number < 2; number += 1) await put(level, 100);
    expect(readdirSync(path).some((name) => name.endsWith('.ldb'))).toBe(true);
    expect(logLength()).toBeGreaterThanOrEqual(AHEAD_BYTES);
    await level.close();
    expect(await countEntries(path)).toBe(count + 2);
  });

  it.each(['open', 'repair'] as const)('are passed over by %s after a crash, and after another one', async (way) => {
    const level = await openLevel(path, TUNING);
    for (let count = 0; count < 20; count += 1) await put(level, 5000);
    const crashed = join(directory.path, 'crashed');
    cpSync(path, crashed, { recursive: true });
    await level.close();
    if (way === 'repair') await repairLevel(crashed);
    expect(await countEntries(crashed)).toBe(20);
    expect(await countEntries(crashed)).toBe(20);
  });

  it('are written again after deletes that went into the log beside them', async () => {
    const level = await openLevel(path, TUNING);
    for (let count = 0; count < 30; count += 1) await put(level, 100);
    const deletes = [];
    for await (const key of level.keys({ limit: 29 })) deletes.push({ key, value: undefined });
    await level.write(deletes, { sync: false });
    await put(level, 100);
    expect(logLength()).toBe(2 * AHEAD_BYTES);
    await level.close();
    expect(await countEntries(path)).toBe(2);
  });

  it('begin with an empty log after a flush', async () => {
    const level = await openLevel(path, TUNING);
    for (let count = 0; count < 30; count += 1) await put(level, 100);
    const before = newestLog();
    await level.flush();
    await put(level, 100);
    expect(newestLog()).not.toBe(before);
    expect(logLength()).toBe(AHEAD_BYTES);
    await level.close();
    expect(await countEntries(path)).toBe(31);
  });
});
