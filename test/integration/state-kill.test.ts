// The state store killed, and its power cut, in the middle of writes: what was acknowledged is there, each write whole or
// not at all, and it opens without being repaired.

import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Life } from '../crash/lives.ts';
import { powerLife } from '../power/power-life.ts';
import { type Child, startChild } from '../support/child.ts';
import { compileDiskShim } from '../support/disk-shim.ts';
import { type Found, StateLedger } from '../support/state-ledger.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const CHILD = join(import.meta.dirname, '../crash/state-child.ts');
const ROUNDS = process.env['FIELDPOST_FULL'] === '1' ? 60 : 6;
const SEED = 7;

let directory: TempDir;
let library: string;

beforeAll(async () => {
  directory = createTempDir('state-kill');
  library = await compileDiskShim(directory.path);
});
afterAll(() => directory.remove());

interface Report {
  readonly found?: Found;
  readonly begun?: number;
  readonly done?: number;
  readonly event?: string;
}

async function play(begin: (isLast: boolean) => Life): Promise<{ faults: string[]; events: string[]; writes: number }> {
  const ledger = new StateLedger();
  const faults: string[] = [];
  const events: string[] = [];
  let next = 1;
  for (let round = 0; round <= ROUNDS; round += 1) {
    const life = begin(round === ROUNDS);
    let isOpen = false;
    const child: Child = startChild(CHILD, {
      args: [life.directory],
      env: life.env,
      onReport(told) {
        const { found, begun, done, event } = told as Report;
        if (found !== undefined) {
          faults.push(...ledger.check(found).map((text) => `life ${round}: ${text}`));
          isOpen = true;
        }
        if (begun !== undefined) {
          ledger.begin(begun);
          next = begun + 1;
        }
        if (done !== undefined) ledger.acknowledge(done);
        if (event !== undefined) events.push(`life ${round}: ${event}`);
      },
    });
    await waitFor(() => isOpen || !child.running, { timeoutMs: 20_000, what: 'the store to be open' });
    if (!isOpen) throw new Error(child.errorOutput());
    // A different number each time, so that the end falls into different moments.
    const enough = ledger.acknowledged + 20 + ((round * 37) % 90);
    child.send({ load: next });
    await waitFor(() => ledger.acknowledged >= enough, { timeoutMs: 20_000, everyMs: 1, what: 'writes' });
    await child.kill('SIGKILL');
    life.end();
  }
  return { faults, events, writes: ledger.acknowledged };
}

it('keeps what was acknowledged when it is killed', async () => {
  const place = directory.file('killed', 'db', 'state');
  const { faults, events, writes } = await play(() => ({ directory: place, env: {}, end: () => {} }));
  expect(faults).toEqual([]);
  expect(events).toEqual([]);
  expect(writes).toBeGreaterThan(ROUNDS * 20);
});

it('keeps what was acknowledged when the power is cut', async () => {
  const begin = powerLife(directory, library, { seed: SEED });
  const { faults, events } = await play((isLast) => {
    const life = begin(isLast);
    return { directory: join(dirname(life.directory), 'state'), env: life.env, end: () => life.end() };
  });
  expect(faults).toEqual([]);
  expect(events).toEqual([]);
});
