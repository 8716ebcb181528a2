// The state store on disks that fail, are slow, or are full: whoever writes is told, what was refused is not there, what was
// acknowledged is, and it goes on by itself.

import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isGatewayError } from '../../src/core/errors.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';
import { createBlockDevice } from '../support/block-device.ts';
import { type Child, startChild } from '../support/child.ts';
import { compileDiskShim, createDiskShim, type DiskShim } from '../support/disk-shim.ts';
import { dump, type Found, put, StateLedger } from '../support/state-ledger.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const CHILD = join(import.meta.dirname, '../crash/state-child.ts');
const MEBIBYTE = 1024 * 1024;

let directory: TempDir;
let library: string;

beforeAll(async () => {
  directory = createTempDir('state-disk');
  library = await compileDiskShim(directory.path);
});
afterAll(() => directory.remove());

interface Answer {
  readonly done?: number;
  readonly refused?: number;
  readonly code?: string;
  readonly ms?: number;
}

const isAnswer = (report: unknown): report is Answer => 'done' in (report as Answer) || 'refused' in (report as Answer);
const isFound = (report: unknown): report is { found: Found } => 'found' in (report as object);
const isReopened = (report: unknown): report is object => (report as { event?: string }).event === 'state_reopened';

async function serve(name: string): Promise<{ child: Child; shim: DiskShim; place: string }> {
  const root = directory.directory(name);
  const shim = createDiskShim({ library, root, work: directory.file(`${name}-work`), journal: false });
  const place = join(root, 'db', 'state');
  const child = startChild(CHILD, { args: [place], env: shim.env });
  await child.next(isFound);
  return { child, shim, place };
}

/** One write, entered in the books. */
async function write(child: Child, ledger: StateLedger, number: number): Promise<Answer> {
  ledger.begin(number);
  child.send({ put: number });
  const answer = await child.next(isAnswer);
  if (answer.code === undefined) ledger.acknowledge(number);
  else ledger.refuse(number);
  return answer;
}

async function found(child: Child): Promise<Found> {
  child.send({ dump: true });
  return (await child.next(isFound)).found;
}

describe.each([
  ['a sync that fails', [60, 63], (shim: DiskShim) => shim.failSyncs(1)],
  ['a write that fails', [60, 63], (shim: DiskShim) => shim.failWrites(1)],
  ['a write that finds no room', [60], (shim: DiskShim) => shim.failWrites(1, 'ENOSPC')],
  ['three syncs that fail', [63], (shim: DiskShim) => shim.failSyncs(3)],
  ['three writes that fail', [60], (shim: DiskShim) => shim.failWrites(3)],
])('%s', (name, numbers, strike) => {
  // 60 is written where 20 stands, 63 deletes what 23 wrote.
  it.each(numbers)('is told to whoever wrote %d, and leaves nothing of it', async (number) => {
    const { child, shim, place } = await serve(`${name.replaceAll(' ', '-')}-${number}`);
    await using _ = child;
    const ledger = new StateLedger();
    for (let before = 20; before < number; before += 1) {
      expect((await write(child, ledger, before)).code).toBeUndefined();
    }
    strike(shim);
    expect((await write(child, ledger, number)).code).toBe('GW_STORE_WRITE');
    expect(shim.read('failures')).toBeGreaterThan(0);
    await child.next(isReopened);
    expect(ledger.check(await found(child))).toEqual([]);
    for (let after = 100; after < 110; after += 1) {
      expect((await write(child, ledger, after)).code).toBeUndefined();
    }
    expect(ledger.check(await found(child))).toEqual([]);

    // The same is on the disk.
    await child.kill();
    await using again = startChild(CHILD, { args: [place] });
    expect(ledger.check((await again.next(isFound)).found)).toEqual([]);
  });
});

it('writes that wait for a slow sync share the next one', async () => {
  const { child, shim } = await serve('slow');
  await using _ = child;
  const ledger = new StateLedger();
  await write(child, ledger, 1);
  shim.delaySyncs(100);
  const before = shim.read('fileSyncs');
  const numbers = Array.from({ length: 30 }, (_unused, index) => index + 2);
  for (const number of numbers) {
    ledger.begin(number);
    child.send({ put: number });
  }
  const times: number[] = [];
  for (const number of numbers) {
    times.push((await child.next(isAnswer)).ms ?? Infinity);
    ledger.acknowledge(number);
  }
  shim.delaySyncs(0);
  // None before its sync.
  expect(Math.min(...times)).toBeGreaterThanOrEqual(99);
  expect(shim.read('fileSyncs') - before).toBeLessThanOrEqual(6);
  expect(ledger.check(await found(child))).toEqual([]);
});

describe('a full disk (ext4)', () => {
  async function open(path: string): Promise<StateStore> {
    return openStateStore({ directory: path, clock: new SystemClock(), telemetry: { emit: () => {} } });
  }

  /** Until not even a block is free. */
  function fill(path: string): void {
    for (let bytes = 16 * MEBIBYTE; bytes >= 512; bytes /= 2) {
      for (;;) {
        try {
          writeFileSync(path, Buffer.alloc(bytes, 1), { flag: 'a' });
        } catch {
          break;
        }
      }
    }
  }

  async function attempt(store: StateStore, ledger: StateLedger, number: number): Promise<string | undefined> {
    ledger.begin(number);
    try {
      await put(store.space('ledger'), number);
      ledger.acknowledge(number);
      return undefined;
    } catch (error) {
      ledger.refuse(number);
      return isGatewayError(error) ? error.code : String(error);
    }
  }

  it('is told to whoever writes, leaves what was there, and is over when there is room', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const path = join(device.path, 'db', 'state');
    const filler = join(device.path, 'filler');
    const ledger = new StateLedger();
    let store = await open(path);
    for (let number = 1; number <= 100; number += 1) expect(await attempt(store, ledger, number)).toBeUndefined();
    fill(filler);
    const refused = new Set<string>();
    for (let number = 101; number <= 400; number += 1) {
      const code = await attempt(store, ledger, number);
      if (code !== undefined) refused.add(code);
    }
    expect([...refused]).toEqual(['GW_STORE_WRITE']);
    expect(store.health()).toMatchObject({ status: 'failed' });
    await store.close();

    // It is opened by a gateway that starts on the full disk, as soon as that can be.
    store = await open(path);
    unlinkSync(filler);
    await waitFor(() => store.health().status === 'running', { timeoutMs: 30_000, what: 'room' });
    expect(ledger.check(await dump(store.space('ledger')))).toEqual([]);
    for (let number = 401; number <= 420; number += 1) expect(await attempt(store, ledger, number)).toBeUndefined();
    await store.close();
    store = await open(path);
    expect(ledger.check(await dump(store.space('ledger')))).toEqual([]);
    await store.close();
  });

  it('while it lasts, goes on by itself without a restart', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const filler = join(device.path, 'filler');
    const ledger = new StateLedger();
    const store = await open(join(device.path, 'db', 'state'));
    for (let number = 1; number <= 50; number += 1) await attempt(store, ledger, number);
    fill(filler);
    let number = 51;
    await waitFor(async () => (await attempt(store, ledger, (number += 1))) !== undefined, {
      timeoutMs: 30_000,
      everyMs: 0,
      what: 'the disk to be full',
    });
    unlinkSync(filler);
    await waitFor(async () => (await attempt(store, ledger, (number += 1))) === undefined, {
      timeoutMs: 30_000,
      what: 'room',
    });
    expect(store.health()).toEqual({ status: 'running' });
    expect(ledger.check(await dump(store.space('ledger')))).toEqual([]);
    await store.close();
  });
});
