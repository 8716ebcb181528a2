import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Outbox } from '../../../../src/core/outbox.ts';
import type { LevelFactory, LevelHandle } from '../../../../src/platform/level-handle.ts';
import { openLevel } from '../../../../src/platform/level.ts';
import { logFrom } from '../../../../src/store/keys.ts';
import { drain } from '../../../support/outbox.ts';
import { waitFor } from '../../../support/wait.ts';
import { entry, faultyLevel, openTestOutbox, SETTINGS, UPSTREAM } from './harness.ts';

/** Deletes begin when so much is dead, a 16th of the quota. */
const STEP_BYTES = 2 * 1024 * 1024;
const settings = { ...SETTINGS, maxBytes: 16 * STEP_BYTES };

describe('deleting what is dead', () => {
  let directory: string;
  let outbox: Outbox;
  let level: LevelHandle;
  let flushes: number;
  /** Deletes in the log of each write. */
  let deletes: number[];

  const watched =
    (factory: LevelFactory): LevelFactory =>
    async (path, tuning) => {
      const below = await factory(path, tuning);
      level = {
        write: (writes, options) => {
          const count = writes.filter(({ value }) => value === undefined).length;
          if (count > 1) deletes.push(count);
          return below.write(writes, options);
        },
        get: (key) => below.get(key),
        entries: (range) => below.entries(range),
        keys: (range) => below.keys(range),
        flush: () => ((flushes += 1), below.flush()),
        compact: (first, last) => below.compact(first, last),
        close: () => below.close(),
      };
      return level;
    };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fieldpost-housekeeping-'));
    flushes = 0;
    deletes = [];
  });
  afterEach(async () => {
    await outbox.close();
    await rm(directory, { recursive: true });
  });

  /** Commits of one message each, so that there is a key for each. */
  async function fill(bytes: number, each: number): Promise<void> {
    const text = 'x'.repeat(each);
    for (let left = bytes; left > 0; left -= each) await outbox.append([entry(text)]);
  }

  async function keysBelowHead(): Promise<number> {
    let count = 0;
    for await (const _ of level.keys({ gte: logFrom(0), lt: logFrom(outbox.stats().headOffset) })) count += 1;
    return count;
  }

  it('goes along with the commits of what comes in, a few at a time, while little is alive', async () => {
    ({ outbox } = await openTestOutbox(directory, { settings, level: watched(openLevel) }));
    await fill(STEP_BYTES * 1.2, 2048);
    await drain(outbox, UPSTREAM.name);
    await outbox.append([entry('alive')]);
    await waitFor(async () => (await keysBelowHead()) < 3, { timeoutMs: 10_000, what: 'the dead to be deleted' });
    expect(flushes).toBe(0);
    expect(deletes.length).toBeGreaterThan(1);
    expect(Math.max(...deletes)).toBeLessThanOrEqual(513);
    expect((await drain(outbox, UPSTREAM.name)).length).toBe(1);
  });

  it('stands apart where a backlog lies between', async () => {
    ({ outbox } = await openTestOutbox(directory, { settings, level: watched(openLevel) }));
    await fill(STEP_BYTES * 3.5, 8192);
    const queue = outbox.queue(UPSTREAM.name);
    const taken = await queue.take('live', { maxMessages: 1000, maxBytes: STEP_BYTES * 1.2 });
    await queue.settle(taken.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    await waitFor(async () => flushes > 0 && (await keysBelowHead()) < 3, {
      timeoutMs: 10_000,
      what: 'the dead to be deleted',
    });
  });

  it('deletes with the next step what a failure left of one', async () => {
    const { faults, level: faulty } = faultyLevel();
    ({ outbox } = await openTestOutbox(directory, { settings, level: watched(faulty) }));
    await fill(STEP_BYTES * 1.2, 2048);
    await drain(outbox, UPSTREAM.name);
    // The second page of deletes fails.
    faults.beforeWrite = () => {
      if (deletes.length === 2 && faults.opens === 1) throw new Error('no');
    };
    await waitFor(() => faults.opens === 2, { timeoutMs: 10_000, what: 'the store to be reopened' });
    await outbox.close();
    ({ outbox } = await openTestOutbox(directory, { settings, level: watched(openLevel) }));
    expect(await keysBelowHead()).toBeGreaterThan(100);
    await fill(STEP_BYTES * 1.2, 2048);
    await drain(outbox, UPSTREAM.name);
    await waitFor(async () => (await keysBelowHead()) < 3, { timeoutMs: 10_000, what: 'the dead to be deleted' });
  });
});
