// State stores of earlier releases: everything in them is there and understood, and they go on being used.

import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { StateSpace } from '../../src/core/state.ts';
import { createAudit } from '../../src/devices/audit.ts';
import { createCommandLedger } from '../../src/devices/command-ledger.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createTempDir } from '../support/temp-dir.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

async function all(space: StateSpace): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for await (const [key, value] of space.entries()) found.push([key, Buffer.from(value).toString('latin1')]);
  return found;
}

it.each([
  ['state-v1', 'clean'],
  ['state-v1', 'killed'],
])('opens %s, %s, with all that it holds', async (format, state) => {
  using directory = createTempDir('formats');
  execFileSync('tar', ['-xzf', join(FIXTURES, `${format}.tar.gz`), '-C', directory.path]);
  const events: string[] = [];
  const open = (): Promise<StateStore> =>
    openStateStore({
      directory: directory.file(state),
      clock: new SystemClock(),
      telemetry: { emit: (name) => void events.push(name) },
    });
  const store = await open();
  expect(store.health()).toEqual({ status: 'running' });
  expect(store.stats().keys).toBe(306);

  // The clock that wrote the records.
  const clock = new ManualClock();
  const ledger = createCommandLedger({ space: store.space('commands'), clock });
  expect(await ledger.find('pump/42')).toEqual({ status: 200, values: { relay: true } });
  expect(await ledger.find('pump/ü')).toBe('unknown');
  expect(await ledger.find('pump/43')).toBeUndefined();
  const audit = createAudit(store.space('audit'));
  expect((await audit.list({ limit: 10 })).map(({ number, id, actor }) => [number, id, actor])).toEqual([
    [2, '42', 'cli:root'],
    [1, '41', 'cli:root'],
  ]);
  const numbered = Array.from({ length: 300 }, (_, index) => [`k/${String(index).padStart(3, '0')}`, `v${index}`]);
  expect(await all(store.space('field'))).toEqual([
    ['empty', ''],
    ['größe/✓', '\0\u00ff\u0001'],
    ...numbered.filter(([key]) => key !== 'k/007'),
  ]);
  expect(await all(store.space('field2'))).toEqual([['k/000', 'other']]);

  // What is written now stands beside the old, and both are there after a restart.
  await ledger.begin('pump/43');
  await store.space('field').write([{ key: 'k/008' }, { key: 'k/007', value: Buffer.from('new') }]);
  await store.close();
  const again = await open();
  const kept = new Map(await all(again.space('field')));
  expect([kept.get('k/007'), kept.get('k/008'), kept.get('k/009')]).toEqual(['new', undefined, 'v9']);
  expect(again.stats().keys).toBe(307);
  await again.close();
  expect(events).toEqual([]);
  expect(readdirSync(directory.path).filter((name) => name.includes('.damaged-'))).toEqual([]);
});
