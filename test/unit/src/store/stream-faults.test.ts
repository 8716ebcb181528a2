// Streams whose writes fail and whose store is damaged: a number is never given twice.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Outbox, OutboxEntry } from '../../../../src/core/outbox.ts';
import { openLevel } from '../../../../src/platform/level.ts';
import { logKey, RECORD } from '../../../../src/store/keys.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';
import { entry, faultyLevel, openTestOutbox } from './harness.ts';

const STREAM = { name: 'events', partitions: 2, retentionSecs: 3600, maxBytes: 1e8 };
const ALL = { maxMessages: 1000, maxBytes: 1e9 };
const TUNING = { writeBufferBytes: 1 << 20, cacheBytes: 1 << 18, tableBytes: 1 << 20 };

function kept(text: string, partition = 0): OutboxEntry {
  return { ...entry(text), stream: { name: 'events', partition } };
}

/** Number and text of everything in a partition. */
async function read(outbox: Outbox, partition = 0): Promise<(readonly [number, string])[]> {
  const found = await outbox.stream('events').read(partition, 0, ALL);
  return found.map(({ sequence, stored }) => [sequence, Buffer.from(stored.message.body).toString()] as const);
}

let dir: TempDir;
beforeEach(() => {
  dir = createTempDir('stream-faults');
});
afterEach(() => dir.remove());

function failOnce(): () => void {
  let failed = false;
  return () => {
    if (failed) return;
    failed = true;
    throw new Error('IO error: injected');
  };
}

it('gives the numbers of a commit that failed again, and keeps those of one that reached the disk', async () => {
  const { faults, level } = faultyLevel();
  // No queue at all: what the store knows must not come from an old checkpoint.
  const { outbox, events } = await openTestOutbox(dir.file('log'), { level, queues: [] });
  await outbox.setStreams([STREAM]);
  await outbox.append([kept('a')]);
  faults.beforeWrite = failOnce();
  await expect(outbox.append([kept('lost')])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
  await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
  await outbox.append([kept('b')]);
  faults.afterWrite = failOnce();
  await expect(outbox.append([kept('c'), kept('x', 1)])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
  await waitFor(() => events.filter(({ kind }) => kind === 'reopened').length === 2);
  await outbox.append([kept('d')]);
  const expected = [
    [0, 'a'],
    [1, 'b'],
    [2, 'c'],
    [3, 'd'],
  ];
  expect(await read(outbox)).toEqual(expected);
  expect(await read(outbox, 1)).toEqual([[0, 'x']]);
  await outbox.close();
  const again = await openTestOutbox(dir.file('log'), { queues: [] });
  expect(await read(again.outbox)).toEqual(expected);
  await again.outbox.close();
});

it('finds streams that were set by a commit that failed, once it is tried again', async () => {
  const { faults, level } = faultyLevel();
  const { outbox, events } = await openTestOutbox(dir.file('log'), { level });
  faults.beforeWrite = failOnce();
  await expect(outbox.setStreams([STREAM])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
  expect(() => outbox.stream('events')).toThrow(expect.objectContaining({ code: 'GW_NOT_FOUND' }));
  await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
  await outbox.setStreams([STREAM]);
  await outbox.append([kept('a')]);
  expect(await read(outbox)).toEqual([[0, 'a']]);
  await outbox.close();
});

/** Ten commits of three messages in partition 0 and one in partition 1; then what stands at an offset is changed. */
async function damage(kind: 'chunk' | 'stream', offset: number): Promise<void> {
  const { outbox } = await openTestOutbox(dir.file('log'), { queues: [] });
  await outbox.setStreams([STREAM]);
  for (let index = 0; index < 10; index += 1) {
    await outbox.append([kept(`a${index}`), kept(`b${index}`), kept(`c${index}`), kept(`x${index}`, 1)]);
  }
  await outbox.close();
  const level = await openLevel(dir.file('log'), TUNING);
  const key = logKey(offset, RECORD[kind], kind === 'stream' ? 1 : 0);
  const value = Buffer.from((await level.get(key)) as Buffer);
  value[value.length - 1] = (value[value.length - 1] as number) ^ 1;
  await level.write([{ key, value }], { sync: true });
  await level.close();
}

it.each(['chunk', 'stream'] as const)('passes over what a damaged %s held, and counts on behind all', async (kind) => {
  await damage(kind, 16);
  const { outbox } = await openTestOutbox(dir.file('log'), { queues: [] });
  const numbers = (await read(outbox)).map(([sequence]) => sequence);
  expect(numbers).toEqual(
    Array.from({ length: 30 }, (_, index) => index).filter((number) => number < 12 || number > 14),
  );
  expect((await read(outbox, 1)).map(([, text]) => text)).toEqual([
    'x0',
    'x1',
    'x2',
    'x3',
    'x5',
    'x6',
    'x7',
    'x8',
    'x9',
  ]);
  expect(await outbox.stream('events').locate(0, { kind: 'sequence', value: 13, inclusive: true })).toBe(13);
  expect((await outbox.stream('events').read(0, 13, { maxMessages: 1, maxBytes: 1e6 }))[0]?.sequence).toBe(15);
  await outbox.append([kept('next')]);
  expect((await read(outbox)).at(-1)).toEqual([30, 'next']);
  await outbox.close();
});

it.each(['chunk', 'stream'] as const)(
  'gives no number twice where the last %s is damaged and no checkpoint says more',
  async (kind) => {
    const { outbox } = await openTestOutbox(dir.file('log'), { queues: [] });
    await outbox.setStreams([STREAM]);
    for (let index = 0; index < 10; index += 1) await outbox.append([kept(`a${index}`), kept(`b${index}`)]);
    await outbox.close();
    // All checkpoints and snapshots go, and the newest commit is damaged.
    const level = await openLevel(dir.file('log'), TUNING);
    const key = logKey(18, RECORD[kind], kind === 'stream' ? 1 : 0);
    const writes = [{ key, value: Buffer.alloc(40) as Buffer | undefined }];
    for await (const found of level.keys({})) {
      if (found[0] === 0x10 && (found[9] === RECORD.checkpoint || found[9] === RECORD.snapshot))
        writes.push({ key: found, value: undefined });
    }
    await level.write(writes, { sync: true });
    await level.close();
    const again = await openTestOutbox(dir.file('log'), { queues: [] });
    expect((await read(again.outbox)).map(([, text]) => text).slice(0, 18)).toHaveLength(18);
    await again.outbox.append([kept('next')]);
    const [sequence = 0, text] = (await read(again.outbox)).at(-1) ?? [];
    expect(text).toBe('next');
    expect(sequence).toBeGreaterThanOrEqual(20);
    await again.outbox.close();
  },
);
