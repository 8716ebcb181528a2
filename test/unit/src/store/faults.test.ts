// Writes and syncs that fail, once and for longer, and disks that are slow.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';
import { cp } from 'node:fs/promises';
import type { Outbox, OutboxSettings, QueueDefinition } from '../../../../src/core/outbox.ts';
import { entry, faultyLevel, held, openTestOutbox, SETTINGS, texts, UPSTREAM, type Faults } from './harness.ts';

let dir: TempDir;
beforeEach(() => {
  dir = createTempDir('faults');
});
afterEach(() => dir.remove());

function once(): () => void {
  let failed = false;
  return () => {
    if (failed) return;
    failed = true;
    throw new Error('IO error: injected');
  };
}

describe('a write that fails', () => {
  it('is told to its producers, burns no number, and is followed by a reopening', async () => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { level });
    await outbox.append([entry('a')]);
    faults.beforeWrite = once();
    const failed = await Promise.allSettled([outbox.append([entry('b')]), outbox.append([entry('c')])]);
    for (const result of failed)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'GW_STORE_WRITE' } });
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect(await outbox.append([entry('d')])).toEqual([{ offset: 1, seq: 2 }]);
    expect(await held(outbox)).toEqual(['a', 'd']);
    expect(events.filter(({ kind }) => kind !== 'committed').map(({ kind }) => kind)).toEqual([
      'write_failed',
      'reopened',
    ]);
    await outbox.close();
    const again = await openTestOutbox(dir.file('log'));
    expect(await held(again.outbox)).toEqual(['a', 'd']);
    await again.outbox.close();
  });

  it('is delivered all the same when it reached the disk, and numbers go on behind it', async () => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { level });
    await outbox.append([entry('a')]);
    faults.afterWrite = once();
    await expect(outbox.append([entry('b')])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect(await outbox.append([entry('c')])).toEqual([{ offset: 2, seq: 3 }]);
    const taken = await outbox.queue('$upstream').take('live', { maxMessages: 10, maxBytes: 1e6 });
    expect(taken.map(({ seq, offset }) => [offset, seq])).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
    await outbox.close();
  });

  it('refuses producers with GW_STORE_WRITE until a reopening succeeds, and readers wait', async () => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { level });
    await outbox.append([entry('a')]);
    faults.beforeWrite = once();
    let failures = 3;
    faults.beforeOpen = () => {
      if (failures === 0) return;
      failures -= 1;
      throw new Error('EIO: injected');
    };
    await expect(outbox.append([entry('b')])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await expect(outbox.append([entry('c')])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    expect(await held(outbox)).toEqual(['a']);
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    await outbox.append([entry('d')]);
    expect(await held(outbox)).toEqual(['a', 'd']);
    await outbox.close();
  });

  it('gives a message back that was to be quarantined', async () => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { level });
    await outbox.append([entry('a'), entry('b')]);
    const queue = outbox.queue('$upstream');
    const [first] = await queue.take('live', { maxMessages: 1, maxBytes: 1e6 });
    faults.beforeWrite = once();
    await expect(
      queue.settle([{ offset: first?.offset ?? -1, outcome: 'rejected', reason: 'no' }]),
    ).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect(queue.stats()).toMatchObject({ messages: 2, inFlight: 0, quarantinedTotal: 0 });
    expect(outbox.stats().quarantined).toBe(0);
    const taken = await queue.take('live', { maxMessages: 10, maxBytes: 1e6 });
    expect(taken.map(({ offset }) => offset)).toEqual([0, 1]);
    await queue.settle([{ offset: 0, outcome: 'rejected', reason: 'no' }]);
    expect(outbox.stats().quarantined).toBe(1);
    await outbox.close();
  });

  it('keeps what a quota was about to drop', async () => {
    const { faults, level } = faultyLevel();
    const settings = {
      maxBytes: 2700,
      maxAgeSecs: 0,
      minFreeBytes: 0,
      whenFull: 'drop_oldest',
      commitIntervalMs: 0,
      pollCommitIntervalMs: 0,
    } as const;
    const { outbox, events } = await openTestOutbox(dir.file('log'), { level, settings });
    await outbox.append([entry('a'.repeat(800))]);
    await outbox.append([entry('b'.repeat(800))]);
    faults.beforeWrite = once();
    await expect(outbox.append([entry('c'.repeat(800))])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect((await held(outbox)).map((text) => text[0])).toEqual(['a', 'b']);
    expect(outbox.queue('$upstream').stats()).toMatchObject({ messages: 2, droppedTotal: 0 });
    expect(events.some(({ kind }) => kind === 'dropped')).toBe(false);
    await outbox.append([entry('d'.repeat(800))]);
    expect(events.filter(({ kind }) => kind === 'dropped')).toMatchObject([{ reason: 'max_bytes', from: 1, to: 1 }]);
    await outbox.close();
  });
});

describe('an eviction that is not yet durable', () => {
  const STRICT: QueueDefinition = { name: 'strict', takes: 'all', order: 'strict' };
  const settings: OutboxSettings = { ...SETTINGS, maxBytes: 2700 };
  const options = { settings, queues: [UPSTREAM, STRICT] };

  /** Brings a commit that evicts `a` up to its write, which waits for `go`. */
  async function evictSlowly(outbox: Outbox, faults: Faults) {
    await outbox.append([entry('a'.repeat(800))]);
    await outbox.append([entry('b'.repeat(800))]);
    const go = Promise.withResolvers<void>();
    let writing = false;
    faults.beforeWrite = () => {
      writing = true;
      return go.promise;
    };
    const append = Promise.allSettled([outbox.append([entry('c'.repeat(800))])]);
    await waitFor(() => writing);
    return { go, append };
  }

  async function takeAll(outbox: Outbox, queue: string): Promise<string[]> {
    const taken = await outbox.queue(queue).take('live', { maxMessages: 10, maxBytes: 1e6 });
    return texts(taken).map((text) => text.slice(0, 1));
  }

  it.each(['strict', '$upstream'])('holds back what follows in %s, so that a failure keeps the order', async (name) => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { ...options, level });
    const { go, append } = await evictSlowly(outbox, faults);
    const taking = takeAll(outbox, name);
    // Long enough for a take that does not wait: everything is in the cache.
    await sleep(20);
    faults.beforeWrite = () => {};
    go.reject(new Error('IO error: injected'));
    await append;
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect(await taking).toEqual(['a', 'b']);
    await outbox.close();
  });

  it('holds back what follows, so that a crash keeps the order', async () => {
    const { faults, level } = faultyLevel();
    const { outbox } = await openTestOutbox(dir.file('log'), { ...options, level });
    const { go, append } = await evictSlowly(outbox, faults);
    const before: string[] = [];
    const taking = takeAll(outbox, 'strict').then((taken) => before.push(...taken));
    await sleep(20);
    // What a kill would leave now.
    await cp(dir.file('log'), dir.file('copy'), { recursive: true });
    const given = [...before];
    faults.beforeWrite = () => {};
    go.resolve();
    await append;
    await taking;
    expect(before[0]).toBe('b');
    await outbox.close();
    const again = await openTestOutbox(dir.file('copy'), options);
    expect([...given, ...(await takeAll(again.outbox, 'strict'))]).toEqual(['a', 'b']);
    await again.outbox.close();
  });

  it('keeps the answer "rejected" waiting for it, so that a crash leaves the message in the queue or told as lost', async () => {
    const { faults, level } = faultyLevel();
    const { outbox } = await openTestOutbox(dir.file('log'), { ...options, level });
    await outbox.append([entry('first')]);
    const queue = outbox.queue('strict');
    const [taken] = await queue.take('live', { maxMessages: 1, maxBytes: 1000 });
    const { go, append } = await evictSlowly(outbox, faults);
    expect(outbox.stats().droppedTotal).toBe(0);
    expect(queue.stats().inFlight).toBe(0);
    let settled = false;
    const settle = queue
      .settle([{ offset: taken?.offset ?? -1, outcome: 'rejected', reason: 'refused' }])
      .then(() => (settled = true));
    await sleep(20);
    expect(settled).toBe(false);
    go.resolve();
    await Promise.all([append, settle]);
    expect(outbox.stats().droppedTotal).toBeGreaterThan(0);
    await outbox.close();
  });

  it('fails the answer "rejected" with it, and gives the message again', async () => {
    const { faults, level } = faultyLevel();
    const { outbox, events } = await openTestOutbox(dir.file('log'), { ...options, level });
    await outbox.append([entry('first')]);
    const queue = outbox.queue('strict');
    const [taken] = await queue.take('live', { maxMessages: 1, maxBytes: 1000 });
    const { go, append } = await evictSlowly(outbox, faults);
    const settle = queue.settle([{ offset: taken?.offset ?? -1, outcome: 'rejected', reason: 'refused' }]);
    faults.beforeWrite = () => {};
    go.reject(new Error('IO error: injected'));
    await expect(settle).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await append;
    await waitFor(() => events.some(({ kind }) => kind === 'reopened'));
    expect((await queue.take('live', { maxMessages: 1, maxBytes: 1000 }))[0]?.offset).toBe(taken?.offset);
    await outbox.close();
  });
});

describe('a disk that is slow', () => {
  it('gathers what arrives during a sync of 100 ms into one commit', async () => {
    const { faults, level } = faultyLevel();
    const { outbox } = await openTestOutbox(dir.file('log'), { level });
    faults.beforeWrite = () => sleep(100);
    const before = outbox.stats().commitsTotal;
    const appends: Promise<unknown>[] = [outbox.append([entry('first')])];
    await waitFor(() => outbox.stats().waitingAppends === 0);
    for (let index = 0; index < 500; index += 1) appends.push(outbox.append([entry(String(index))]));
    await Promise.all(appends);
    expect(outbox.stats().commitsTotal - before).toBe(2);
    expect(await held(outbox)).toHaveLength(501);
    await outbox.close();
  });

  it('refuses what would pass the bound of the waiting line', async () => {
    const { faults, level } = faultyLevel();
    const { outbox } = await openTestOutbox(dir.file('log'), { level });
    let release = (): void => {};
    faults.beforeWrite = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const large = 'x'.repeat(200_000);
    const appends = [outbox.append([entry('first')])];
    await waitFor(() => outbox.stats().waitingAppends === 0);
    let refused: unknown;
    for (let index = 0; index < 200 && refused === undefined; index += 1) {
      const append = outbox.append([entry(large)]);
      appends.push(append);
      append.catch((error: unknown) => {
        refused = error;
      });
      await sleep(0);
    }
    expect(refused).toMatchObject({ code: 'GW_OUTBOX_BUSY' });
    faults.beforeWrite = () => {};
    release();
    const results = await Promise.allSettled(appends);
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1);
    expect(await held(outbox)).toHaveLength(results.length - 1);
    await outbox.close();
  });
});
