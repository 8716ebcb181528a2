// What every state store must do, whatever it stands on.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { StateSpace } from '../../src/core/state.ts';
import { LIMITS } from '../../src/core/limits.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';

export interface StateSubject {
  create(): Promise<StateStore>;
  /** Opens what was left; absent where nothing outlives a close. */
  reopen?(): Promise<StateStore>;
  end(): Promise<void>;
}

const bytes = (text: string): Uint8Array => Buffer.from(text);

async function all(space: StateSpace, prefix?: string): Promise<string[]> {
  const found: string[] = [];
  for await (const [key, value] of space.entries(prefix)) found.push(`${key}=${Buffer.from(value).toString()}`);
  return found;
}

export function describeState(create: () => Promise<StateSubject>): void {
  let subject: StateSubject;
  let store: StateStore;
  beforeEach(async () => {
    subject = await create();
    store = await subject.create();
  });
  afterEach(async () => {
    await store.close();
    await subject.end();
  });

  it('keeps what was written, replaces and deletes it', async () => {
    const space = store.space('a');
    await space.write([
      { key: 'x', value: bytes('1') },
      { key: 'y', value: bytes('') },
    ]);
    expect([await space.get('x'), await space.get('y'), await space.get('z')].map((one) => one?.length)).toEqual([
      1,
      0,
      undefined,
    ]);
    await space.write([{ key: 'x', value: bytes('2') }, { key: 'y' }]);
    expect(await all(space)).toEqual(['x=2']);
    expect(store.stats().keys).toBe(1);
  });

  it('takes the last of several changes of one key in one write', async () => {
    const space = store.space('a');
    await space.write([{ key: 'x', value: bytes('1') }, { key: 'x' }, { key: 'x', value: bytes('3') }]);
    expect(await all(space)).toEqual(['x=3']);
    expect(store.stats().keys).toBe(1);
  });

  it('hides the spaces from each other, also where one name begins with the other', async () => {
    await store.space('a').write([{ key: 'bx', value: bytes('1') }]);
    await store.space('ab').write([{ key: 'x', value: bytes('2') }]);
    expect(await all(store.space('a'))).toEqual(['bx=1']);
    expect(await all(store.space('ab'))).toEqual(['x=2']);
    expect(await store.space('a').get('x')).toBeUndefined();
  });

  it('lists by prefix in the order of the bytes, over many pages', async () => {
    const space = store.space('a');
    const keys = Array.from({ length: 700 }, (_, index) => `k/${String(index).padStart(4, '0')}`);
    await space.write([...keys].reverse().map((key) => ({ key, value: bytes('v') })));
    await space.write(['k', 'k0', 'ä', 'l'].map((key) => ({ key, value: bytes('w') })));
    expect(await all(space, 'k/')).toEqual(keys.map((key) => `${key}=v`));
    expect((await all(space)).at(-1)).toBe('ä=w');
  });

  it('shows as many entries as asked for, behind a key', async () => {
    const space = store.space('a');
    const keys = Array.from({ length: 2500 }, (_, index) => `k${String(index).padStart(4, '0')}`);
    for (let from = 0; from < keys.length; from += 500)
      await space.write(keys.slice(from, from + 500).map((key) => ({ key, value: Buffer.alloc(300, key) })));
    const shown = async (after?: string, limit?: number): Promise<string[]> => {
      const found: string[] = [];
      for await (const [key, value] of space.entries('k', after, limit)) {
        expect(value).toEqual(Buffer.alloc(300, key));
        found.push(key);
      }
      return found;
    };
    expect(await shown()).toEqual(keys);
    for (const limit of [0, 1, 15, 16, 17, 144, 999, 1000, 1001, 2499, 2500, 2501]) {
      expect(await shown(undefined, limit)).toEqual(keys.slice(0, limit));
    }
    expect(await shown('k0999', 1001)).toEqual(keys.slice(1000, 2001));
  });

  it('makes concurrent writes in their order', async () => {
    const space = store.space('a');
    await Promise.all(Array.from({ length: 200 }, (_, index) => space.write([{ key: 'x', value: bytes(`${index}`) }])));
    expect(await all(space)).toEqual(['x=199']);
  });

  it('makes a write however soon it comes after the one before', async () => {
    const space = store.space('a');
    for (let turns = 0; turns < 16; turns += 1) {
      await space.write([{ key: `x${turns}`, value: bytes('1') }]);
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      const written = space.write([{ key: `y${turns}`, value: bytes('1') }]);
      const late = new Promise((_resolve, reject) => setTimeout(() => reject(new Error(`hung at ${turns}`)), 2000));
      await Promise.race([written, late]);
    }
    expect(store.stats().keys).toBe(32);
  });

  it('refuses what is too large, whole, and goes on', async () => {
    const space = store.space('a');
    const long = { key: 'k'.repeat(LIMITS.state_key_bytes + 1), value: bytes('1') };
    const large = { key: 'k', value: new Uint8Array(LIMITS.state_value_bytes + 1) };
    for (const change of [long, large, { key: '', value: bytes('1') }]) {
      const refused = space.write([{ key: 'other', value: bytes('1') }, change]);
      await expect(refused).rejects.toMatchObject({ code: 'GW_STATE_FULL' });
    }
    expect(await all(space)).toEqual([]);
    await space.write([{ key: 'k'.repeat(LIMITS.state_key_bytes), value: bytes('1') }]);
    expect(store.stats().keys).toBe(1);
  });

  it('bounds each space by itself, and takes what makes it smaller', async () => {
    const space = store.space('a');
    const value = new Uint8Array(LIMITS.state_value_bytes);
    const fits = Math.floor(LIMITS.state_space_bytes / (LIMITS.state_value_bytes + 64));
    for (let index = 0; index < fits; index += 8) {
      const count = Math.min(8, fits - index);
      await space.write(Array.from({ length: count }, (_, next) => ({ key: `k${index + next}`, value })));
    }
    const more = [
      { key: 'more1', value },
      { key: 'more2', value },
    ];
    await expect(space.write(more)).rejects.toMatchObject({ code: 'GW_STATE_FULL' });
    expect(await space.get('more1')).toBeUndefined();
    await store.space('b').write(more);
    await space.write([{ key: 'k0' }, { key: 'k1' }]);
    await space.write(more);
    expect(store.stats().keys).toBe(fits + 2);
    expect(store.stats().fullest).toMatchObject({ keys: fits });
    expect(['a', 'b', 'c'].map((name) => store.use(name).keys)).toEqual([fits, 2, 0]);
  });

  it('refuses everything once it is closed', async () => {
    const space = store.space('a');
    const written = space.write([{ key: 'x', value: bytes('1') }]);
    await Promise.all([written, store.close(), store.close()]);
    await expect(space.write([{ key: 'x' }])).rejects.toMatchObject({ code: 'GW_STORE_CLOSED' });
    await expect(space.get('x')).rejects.toMatchObject({ code: 'GW_STORE_CLOSED' });
    await expect(all(space)).rejects.toMatchObject({ code: 'GW_STORE_CLOSED' });
    if (subject.reopen === undefined) return;
    store = await subject.reopen();
    expect(await all(store.space('a'))).toEqual(['x=1']);
    expect(store.stats().keys).toBe(1);
  });
}
