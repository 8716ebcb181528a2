// A large store is not read whole at its open: what its spaces take is told by the last commit, and a crash is looked into while
// it serves.

import { cpSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LevelFactory } from '../../../../../src/platform/level-handle.ts';
import { openLevel } from '../../../../../src/platform/level.ts';
import { SystemClock } from '../../../../../src/platform/clock.ts';
import { openStateStore } from '../../../../../src/store/state/open.ts';
import { entryKey } from '../../../../../src/store/state/records.ts';
import type { StateStore } from '../../../../../src/store/state/state-store.ts';
import { createTempDir, type TempDir } from '../../../../support/temp-dir.ts';
import { waitFor } from '../../../../support/wait.ts';

const TUNING = { writeBufferBytes: 1024 * 1024, cacheBytes: 1024 * 1024, tableBytes: 1024 * 1024 };
const value = Buffer.from('value');

let dir: TempDir;
let told: string[];
let scans = 0;
const stores: StateStore[] = [];

/** Counts how often all entries are read. */
const counting: LevelFactory = async (directory, tuning) => {
  const level = await openLevel(directory, tuning);
  return new Proxy(level, {
    get(target, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== 'function') return member;
      return (...args: unknown[]): unknown => {
        if (name === 'entries' && Object.keys(args[0] ?? {}).length === 0) scans += 1;
        return Reflect.apply(member, target, args) as unknown;
      };
    },
  });
};

async function open(name: string, spaceKeys = 200_000): Promise<StateStore> {
  const store = await openStateStore({
    directory: dir.file(name),
    clock: new SystemClock(),
    telemetry: { emit: (event) => told.push(event) },
    limits: { spaceKeys, spaceBytes: 1024 * 1024 * 1024 },
    level: counting,
  });
  stores.push(store);
  return store;
}

async function fill(store: StateStore, count: number): Promise<void> {
  const changes = Array.from({ length: count }, (_, index) => ({ key: `k${index}`, value }));
  await store.space('a').write(changes);
}

beforeEach(() => {
  dir = createTempDir('large-state');
  told = [];
  scans = 0;
});

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
  dir.remove();
});

describe('a large state store', () => {
  it('opens without being read after an orderly shutdown, and knows what its spaces take', async () => {
    const first = await open('state');
    await fill(first, 1000);
    await first.space('b').write([{ key: 'x', value }]);
    await first.space('a').write([{ key: 'k0' }, { key: 'k1', value: Buffer.alloc(100) }]);
    const before = first.stats();
    await first.close();
    const scansBefore = scans;
    const second = await open('state');
    expect(scans).toBe(scansBefore);
    expect(second.stats()).toEqual(before);
    expect(second.stats()).toMatchObject({ keys: 1000, fullest: { keys: 999 } });
    expect(told).toEqual([]);
  });

  it('keeps to its limits over restarts', async () => {
    const first = await open('state', 100_001);
    for (let index = 0; index < 100_000; index += 2000) {
      await first
        .space('a')
        .write(Array.from({ length: 2000 }, (_, next) => ({ key: `k${index + next}`, value: Buffer.alloc(1) })));
    }
    await first.close();
    const second = await open('state', 100_001);
    await second.space('a').write([{ key: 'one', value }]);
    await expect(second.space('a').write([{ key: 'two', value }])).rejects.toMatchObject({ code: 'GW_STATE_FULL' });
  });

  it('serves at once after a crash, and looks through all of it meanwhile', async () => {
    const first = await open('state');
    await fill(first, 1000);
    cpSync(dir.file('state'), dir.file('crashed'), { recursive: true });
    const scansBefore = scans;
    const second = await open('crashed');
    expect(await second.space('a').get('k5')).toEqual(value);
    expect(second.stats().keys).toBe(1000);
    await waitFor(() => scans === scansBefore + 1);
    await second.space('a').write([{ key: 'more', value }]);
    expect(told).toEqual([]);
  });

  it('salvages what a crash has damaged', async () => {
    const first = await open('state');
    await fill(first, 1000);
    await first.close();
    cpSync(dir.file('state'), dir.file('crashed'), { recursive: true });
    const level = await openLevel(dir.file('crashed'), TUNING);
    await level.write([{ key: entryKey('a', 'k7'), value: undefined }], { sync: true });
    await level.close();
    const second = await open('crashed');
    await waitFor(() => told.includes('store_salvaged'));
    await waitFor(() => second.health().status === 'running');
    expect(second.stats().keys).toBe(999);
    expect(await second.space('a').get('k8')).toEqual(value);
  });
});
