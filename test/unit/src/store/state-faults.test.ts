// The state store when its disk fails: what was refused is not there, what is damaged is kept aside and salvaged, and
// nothing keeps the gateway from its work.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StateSpace } from '../../../../src/core/state.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { openLevel } from '../../../../src/platform/level.ts';
import { seal } from '../../../../src/store/sealed.ts';
import { openStateStore, type StateStoreFiles } from '../../../../src/store/state/open.ts';
import { encodeValue, entryKey, metaKey } from '../../../../src/store/state/records.ts';
import type { StateStore } from '../../../../src/store/state/state-store.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';
import { faultyLevel } from './harness.ts';

const TUNING = { writeBufferBytes: 1 << 20, cacheBytes: 1 << 18, tableBytes: 1 << 20 };

let dir: TempDir;
let stores: StateStore[];
let events: { name: string; fields: Record<string, unknown> }[];

beforeEach(() => {
  dir = createTempDir('state');
  stores = [];
  events = [];
});

afterEach(async () => {
  for (const store of stores) await store.close();
  dir.remove();
});

async function open(fields: Partial<StateStoreFiles> = {}): Promise<StateStore> {
  const store = await openStateStore({
    directory: dir.file('state'),
    clock: new SystemClock(),
    telemetry: { emit: (name, told = {}) => void events.push({ name, fields: told }) },
    ...fields,
  });
  stores.push(store);
  return store;
}

const put = (space: StateSpace, key: string, value: string): Promise<void> =>
  space.write([{ key, value: Buffer.from(value) }]);

async function all(space: StateSpace): Promise<string[]> {
  const found: string[] = [];
  for await (const [key, value] of space.entries()) found.push(`${key}=${Buffer.from(value).toString()}`);
  return found;
}

const told = (name: string): number => events.filter((event) => event.name === name).length;
const aside = (): string[] => readdirSync(dir.path).filter((name) => name.includes('.damaged-'));

describe('state store', () => {
  it('takes back what a failed batch left on disk, and goes on', async () => {
    const { faults, level } = faultyLevel();
    const store = await open({ level });
    const space = store.space('a');
    await put(space, 'kept', '1');
    await put(space, 'gone', '1');
    faults.afterWrite = () => {
      faults.afterWrite = () => {};
      throw new Error('the sync failed');
    };
    const changes = [
      { key: 'kept', value: Buffer.from('2') },
      { key: 'new', value: Buffer.from('2') },
      { key: 'gone' },
    ];
    await expect(space.write(changes)).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    expect(await all(space)).toEqual(['gone=1', 'kept=1']);
    expect(store.stats().keys).toBe(2);
    await put(space, 'kept', '3');
    expect(store.health()).toEqual({ status: 'running' });
    await store.close();
    expect(await all((await open()).space('a'))).toEqual(['gone=1', 'kept=3']);
    expect(aside()).toEqual([]);
  });

  it('refuses writes at once while it cannot be opened, and comes back', async () => {
    const { faults, level } = faultyLevel();
    const store = await open({ level });
    const space = store.space('a');
    await put(space, 'x', '1');
    faults.beforeWrite = () => {
      throw new Error('EIO');
    };
    await expect(put(space, 'x', '2')).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await expect(put(space, 'x', '3')).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    expect(store.health().status).toBe('failed');
    faults.beforeWrite = () => {};
    await waitFor(() => store.health().status === 'running', { timeoutMs: 10_000 });
    expect(await all(space)).toEqual(['x=1']);
    await put(space, 'x', '4');
    expect(await all(space)).toEqual(['x=4']);
  });

  it('starts without a store that does not open, says so, and closes', async () => {
    writeFileSync(dir.file('state'), 'not a directory');
    const store = await open();
    expect(store.health()).toMatchObject({ status: 'failed' });
    await expect(put(store.space('a'), 'x', '1')).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await expect(store.space('a').get('x')).rejects.toMatchObject({ code: 'GW_STORE_OPEN' });
    expect(readFileSync(dir.file('state'), 'utf8')).toBe('not a directory');
  });

  it('does not touch a store of a newer release', async () => {
    const newer = await openLevel(dir.file('state'), TUNING);
    await newer.write([{ key: metaKey('format'), value: seal({ writes: 9, readable_from: 9 }) }], { sync: true });
    await newer.close();
    const store = await open();
    expect(store.health().reason).toContain('newer Fieldpost');
    expect(aside()).toEqual([]);
  });

  it.each(['a wrong checksum', "another key's value"])('salvages an entry with %s', async (kind) => {
    const first = await open();
    await put(first.space('a'), 'bad', 'secret');
    await put(first.space('a'), 'good', '1');
    await first.close();
    const level = await openLevel(dir.file('state'), TUNING);
    const key = entryKey('a', 'bad');
    const value =
      kind === 'a wrong checksum' ? Buffer.alloc(20) : encodeValue(entryKey('a', 'other'), Buffer.from('1'));
    await level.write([{ key, value }], { sync: true });
    await level.close();
    const store = await open();
    expect(await all(store.space('a'))).toEqual(['good=1']);
    expect(aside()).toHaveLength(1);
    expect(events.find(({ name }) => name === 'store_salvaged')?.fields).toMatchObject({
      store: 'state',
      entriesKept: 1,
      entriesDamaged: 1,
    });
    await store.close();
    events = [];
    expect(await all((await open()).space('a'))).toEqual(['good=1']);
    expect(told('store_salvaged')).toBe(0);
  });

  it('notices that entries are missing', async () => {
    const first = await open();
    await put(first.space('a'), 'x', '1');
    await put(first.space('a'), 'y', '1');
    await first.close();
    const level = await openLevel(dir.file('state'), TUNING);
    await level.write([{ key: entryKey('a', 'x'), value: undefined }], { sync: true });
    await level.close();
    const store = await open();
    expect(await all(store.space('a'))).toEqual(['y=1']);
    expect(told('store_salvaged')).toBe(1);
    expect(aside()).toHaveLength(1);
  });

  it('salvages a running store whose damage shows when it is read', async () => {
    const { faults, level } = faultyLevel();
    let damagedReads = 1;
    const store = await open({
      level: async (directory, tuning) => {
        const below = await level(directory, tuning);
        const get = below.get.bind(below);
        below.get = async (key) => {
          const value = await get(key);
          if (value === undefined || key[0] === 0 || damagedReads === 0) return value;
          damagedReads -= 1;
          return Buffer.alloc(value.length);
        };
        return below;
      },
    });
    damagedReads = 0;
    await put(store.space('a'), 'x', '1');
    damagedReads = 1;
    // The disk gave it right when it was asked again: nothing is salvaged.
    expect(Buffer.from((await store.space('a').get('x')) ?? '').toString()).toBe('1');
    expect(faults.opens).toBe(2);
    expect(told('store_salvaged')).toBe(0);
    expect(aside()).toEqual([]);
  });

  it('survives a log that is cut off, with what was before', async () => {
    const first = await open();
    await put(first.space('a'), 'x', '1');
    await first.close();
    const log = readdirSync(dir.file('state')).find((name) => name.endsWith('.log')) ?? '';
    const path = join(dir.file('state'), log);
    writeFileSync(path, readFileSync(path).subarray(0, 3));
    const store = await open();
    expect(store.health()).toEqual({ status: 'running' });
    expect(told('store_salvaged')).toBe(1);
    expect(existsSync(dir.file(aside()[0] ?? '', log))).toBe(true);
    await put(store.space('a'), 'x', '2');
    expect(await all(store.space('a'))).toEqual(['x=2']);
  });

  it.each([/^CURRENT$/, /^MANIFEST/, /\.ldb$/])('keeps aside a store whose %s is damaged, and serves', async (file) => {
    // A second life writes the log of the first into a table.
    for (const key of ['x', 'y']) {
      const store = await open();
      await put(store.space('a'), key, '1');
      await store.close();
    }
    await (await open()).close();
    const name = readdirSync(dir.file('state')).find((one) => file.test(one)) ?? 'none';
    const path = join(dir.file('state'), name);
    const damaged = readFileSync(path).fill(0xa5);
    writeFileSync(path, damaged);
    const store = await open();
    expect(store.health()).toEqual({ status: 'running' });
    expect(told('store_salvaged')).toBe(1);
    expect(aside()).toHaveLength(1);
    expect(readFileSync(dir.file(aside()[0] ?? '', name)).equals(damaged)).toBe(true);
    // Values are in the tables and the log alone.
    if (!name.endsWith('.ldb')) expect(await all(store.space('a'))).toEqual(['x=1', 'y=1']);
    await put(store.space('a'), 'z', '1');
    expect(await all(store.space('a'))).toContain('z=1');
  });

  it('takes a directory that is there and empty for a new store', async () => {
    mkdirSync(dir.file('state'));
    await put((await open()).space('a'), 'x', '1');
    expect(aside()).toEqual([]);
  });
});
