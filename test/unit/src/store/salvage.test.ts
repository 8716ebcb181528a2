// What the log itself cannot tell: a loss at its end, or of all of it.

import { readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { OutboxEvent } from '../../../../src/core/outbox.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { entry, faultyLevel, held, openTestOutbox } from './harness.ts';

function lost(events: readonly OutboxEvent[]): number {
  return events.reduce((sum, event) => (event.kind === 'dropped' ? sum + event.count : sum), 0);
}

it('tells a loss at the end of the log also after a crash before any write of the salvage', async () => {
  using directory = createTempDir('salvage');
  const path = directory.file('data', 'log');
  const { outbox: before } = await openTestOutbox(path);
  for (let number = 1; number <= 10; number += 1) await before.append([entry(`${number} ${'x'.repeat(1000)}`)]);
  await before.close();
  const log = join(path, readdirSync(path).find((name) => name.endsWith('.log')) ?? '');
  // Behind its records stand zeros.
  truncateSync(log, 6000);

  const { faults, level } = faultyLevel();
  let writes = 0;
  faults.beforeWrite = async () => {
    writes += 1;
    // What a kill would leave now.
    await cp(directory.file('data'), directory.file(`killed-${writes}`), { recursive: true });
  };
  const salvaged = await openTestOutbox(path, { level });
  faults.beforeWrite = () => {};
  const kept = (await held(salvaged.outbox)).filter((text) => text.endsWith('x')).length;
  expect(kept).toBeLessThan(10);
  expect(lost(salvaged.events)).toBe(10 - kept);
  await salvaged.outbox.close();
  expect(writes).toBeGreaterThan(1);

  for (let write = 1; write <= writes; write += 1) {
    const again = await openTestOutbox(directory.file(`killed-${write}`, 'log'));
    expect(lost(again.events), `killed before write ${write}`).toBe(10 - kept);
    await again.outbox.close();
  }
  // Once told, it is not told again.
  const after = await openTestOutbox(path);
  expect(after.events).not.toContainEqual(expect.objectContaining({ kind: 'salvaged' }));
  expect(lost(after.events)).toBe(0);
  await after.outbox.close();
});

it('tells what is lost with the whole log, and nothing of what was delivered', async () => {
  using directory = createTempDir('salvage');
  const path = directory.file('data', 'log');
  const { outbox: before } = await openTestOutbox(path);
  for (let number = 1; number <= 10; number += 1) await before.append([entry(`${number}`)]);
  const queue = before.queue('$upstream');
  const taken = await queue.take('live', { maxMessages: 4, maxBytes: 1e6 });
  await queue.settle(taken.map(({ offset }) => ({ offset, outcome: 'accepted' })));
  await before.close();
  rmSync(path, { recursive: true });

  const { outbox, events } = await openTestOutbox(path);
  expect(events).toContainEqual(
    expect.objectContaining({ kind: 'salvaged', report: expect.objectContaining({ messagesLost: 6 }) as unknown }),
  );
  expect(lost(events)).toBe(6);
  await outbox.append([entry('new')]);
  expect(await held(outbox)).toContain('new');
  await outbox.close();
  const again = await openTestOutbox(path);
  expect(lost(again.events)).toBe(0);
  await again.outbox.close();
});

it('gives no number again after the end of the log was cut off, however the store was left', async () => {
  using directory = createTempDir('salvage');
  const path = directory.file('data', 'log');
  const { outbox } = await openTestOutbox(path);
  for (let number = 1; number <= 10; number += 1) await outbox.append([entry(`${number} ${'x'.repeat(1000)}`)]);
  // What a kill leaves.
  const killed = directory.file('killed', 'log');
  const cut = directory.file('cut', 'log');
  for (const copy of [killed, cut]) await cp(path, copy, { recursive: true });
  const { epoch } = outbox;
  const given = new Set((await outbox.browse({ limit: 100 })).map(({ messageId }) => messageId));
  await outbox.close();
  const log = join(cut, readdirSync(cut).find((name) => name.endsWith('.log')) ?? '');
  const written = readFileSync(log).findLastIndex((byte) => byte !== 0) + 1;
  truncateSync(log, Math.floor(written * 0.6));

  const whole = await openTestOutbox(killed);
  expect(whole.outbox.epoch).toBe(epoch);
  expect(await held(whole.outbox)).toHaveLength(10);
  await whole.outbox.close();

  const { outbox: after } = await openTestOutbox(cut);
  const before = await after.browse({ limit: 100 });
  expect(before.length).toBeLessThan(10);
  expect(new Set(before.map((stored) => stored.epoch))).toEqual(new Set([epoch]));
  for (let number = 1; number <= 10; number += 1) await after.append([entry('new')]);
  const added = (await after.browse({ limit: 100 })).slice(before.length);
  expect(added).toHaveLength(10);
  expect(added.filter(({ messageId }) => given.has(messageId))).toEqual([]);
  const second = after.epoch;
  await after.close();
  const { outbox: later } = await openTestOutbox(cut);
  expect(later.epoch).toBe(second);
  await later.close();
});
