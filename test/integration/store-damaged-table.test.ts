// One bad sector in a table of a store that was closed in order: found at the start, when a queue reads it, or when LevelDB
// compacts after the drain. However it is found: what can be read comes out, what cannot is told by device and range, the
// damaged store stands aside, and the outbox runs on.

import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StoredMessage } from '../../src/core/message.ts';
import type { Outbox, OutboxEvent } from '../../src/core/outbox.ts';
import { openLevel } from '../../src/platform/level.ts';
import { message } from '../support/builders.ts';
import { appendNumbered, gatewayEvent, openTestOutbox } from '../support/outbox.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const COUNT = 3000;
const DEVICES = ['press-1', 'press-2', 'oven'];
let directory: TempDir;
let cases = 0;

beforeAll(async () => {
  directory = createTempDir('bad-table');
  const outbox = await openTestOutbox(directory.file('good', 'log'));
  for (let from = 0; from < COUNT; from += 20) {
    const device = DEVICES[(from / 20) % 3] ?? '';
    await outbox.append(
      Array.from({ length: 20 }, (_, index) => ({
        message: message({ device, text: reading(from + index) }),
        queues: [],
      })),
    );
  }
  await outbox.close();
});
afterAll(() => directory.remove());

/** The same, with everything delivered: nobody reads the table again but LevelDB. */
async function drainedCopy(): Promise<string> {
  const path = directory.directory(`case-${(cases += 1)}`, 'log');
  cpSync(directory.file('good', 'log'), path, { recursive: true });
  const outbox = await openTestOutbox(path);
  await drainAll(outbox);
  await outbox.close();
  return path;
}

/** Compresses as telemetry does: LevelDB has no checksum read when it compacts, and sees damage of compressed blocks only. */
function reading(number: number): string {
  const values = Array.from({ length: 60 }, (_, index) => ({
    register: 40_000 + index,
    value: (number * 31 + index * 7919) % 65_536,
  }));
  return JSON.stringify({ number, values });
}

/** A copy whose largest table has 40 bytes turned over. */
function damagedCopy(where: number): string {
  const path = directory.directory(`case-${(cases += 1)}`, 'log');
  cpSync(directory.file('good', 'log'), path, { recursive: true });
  damage(path, where);
  return path;
}

function damage(path: string, where: number): void {
  const [largest = ''] = readdirSync(path)
    .filter((name) => name.endsWith('.ldb'))
    .map((name) => join(path, name))
    .toSorted((left, right) => statSync(right).size - statSync(left).size);
  const bytes = readFileSync(largest);
  const start = Math.floor((bytes.length - 40) * where);
  for (let index = start; index < start + 40; index += 1) bytes[index] = (bytes[index] ?? 0) ^ 0xff;
  writeFileSync(largest, bytes);
}

/** The mark of the orderly close tells at once; without its checksums the damage is found as it is come across. */
function withoutChecksums(path: string, markPath = `${directory.file('good', 'log')}.clean`): string {
  const mark = JSON.parse(readFileSync(markPath, 'utf8')) as {
    files: Record<string, [number, number]>;
  };
  for (const [name, file] of Object.entries(mark.files)) if (name.endsWith('.ldb')) file[1] = 0;
  writeFileSync(`${path}.clean`, JSON.stringify(mark));
  return path;
}

async function drainAll(outbox: Outbox): Promise<StoredMessage[]> {
  const all: StoredMessage[] = [];
  const queue = outbox.queue('out');
  await waitFor(
    async () => {
      const batch = await queue.take('live', { maxMessages: 500, maxBytes: 4e6 });
      all.push(...batch);
      await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
      return queue.stats().messages === 0;
    },
    { timeoutMs: 30_000 },
  );
  return all;
}

/** Every number that is missing is within a range that was told for its device, and nothing else was told. */
function expectTold(all: readonly StoredMessage[], events: readonly OutboxEvent[]): void {
  const came = new Set(
    all
      .filter((stored) => gatewayEvent(stored) === undefined)
      .map((stored) => `${stored.message.deviceId} ${stored.seq}`),
  );
  const missing = DEVICES.flatMap((device) =>
    Array.from({ length: COUNT / DEVICES.length }, (_, index) => `${device} ${index + 1}`),
  ).filter((name) => !came.has(name));
  const told = events.flatMap((event) => {
    if (event.kind !== 'dropped') return [];
    const { from = 0, to = -1, deviceId } = event;
    expect(event.count).toBe(to - from + 1);
    return Array.from({ length: event.count }, (_, index) => `${deviceId} ${from + index}`);
  });
  expect(told.toSorted()).toEqual(missing.toSorted());
  expect(missing.length).toBeGreaterThan(0);
  const news = all.map(gatewayEvent).filter((event) => event?.['reason'] === 'damaged');
  expect(news.map((event) => event?.['device'])).not.toContain('gateway-1');
  expect(news.length).toBeGreaterThan(0);
}

function salvages(events: readonly OutboxEvent[]) {
  return events.flatMap((event) => (event.kind === 'salvaged' ? [event.report] : []));
}

describe.each([0.02, 0.5, 0.97])('40 bytes turned over at %d of the largest table', (where) => {
  it('are found at the start by the mark of the orderly close', async () => {
    const path = damagedCopy(where);
    cpSync(`${directory.file('good', 'log')}.clean`, `${path}.clean`);
    const events: OutboxEvent[] = [];
    const outbox = await openTestOutbox(path, { onEvent: (event) => events.push(event) });
    expect(salvages(events)).toHaveLength(1);
    const all = await drainAll(outbox);
    expectTold(all, events);
    const [report] = salvages(events);
    expect(report?.messagesLost).toBe(
      events.reduce((sum, event) => sum + (event.kind === 'dropped' ? event.count : 0), 0),
    );
    expect(readdirSync(report?.copiedTo ?? '').some((name) => name.endsWith('.ldb'))).toBe(true);
    await outbox.close();
  });

  it('are salvaged once when a queue comes across them', async () => {
    const path = withoutChecksums(damagedCopy(where));
    const events: OutboxEvent[] = [];
    const outbox = await openTestOutbox(path, { onEvent: (event) => events.push(event) });
    const all = await drainAll(outbox);
    expectTold(all, events);
    await waitFor(() => salvages(events).length > 0, { timeoutMs: 30_000 });
    await waitFor(
      () =>
        appendNumbered(outbox, 'press-1', COUNT, 1).then(
          () => true,
          () => false,
        ),
      { timeoutMs: 10_000 },
    );
    expect((await drainAll(outbox)).some((stored) => gatewayEvent(stored) === undefined)).toBe(true);
    expect(salvages(events)).toHaveLength(1);
    expect(events.filter(({ kind }) => kind === 'write_failed').length).toBeLessThan(4);
    await outbox.close();
    // And it is sound: the next start has nothing to tell.
    events.length = 0;
    await (await openTestOutbox(path, { onEvent: (event) => events.push(event) })).close();
    expect(events.filter(({ kind }) => kind !== 'committed')).toEqual([]);
  });
});

describe('damage where everything was delivered', () => {
  it('is salvaged once when LevelDB compacts, with nothing lost, and closing takes no longer', async () => {
    const path = await drainedCopy();
    damage(path, 0.5);
    withoutChecksums(path, `${path}.clean`);
    const events: OutboxEvent[] = [];
    const outbox = await openTestOutbox(path, { onEvent: (event) => events.push(event) });
    await waitFor(() => salvages(events).length > 0, { timeoutMs: 30_000 });
    await waitFor(
      () =>
        appendNumbered(outbox, 'press-1', COUNT, 1).then(
          () => true,
          () => false,
        ),
      { timeoutMs: 10_000 },
    );
    expect((await drainAll(outbox)).length).toBeGreaterThan(0);
    expect(events.filter(({ kind }) => kind === 'dropped')).toEqual([]);
    expect(salvages(events)).toHaveLength(1);
    expect(events.filter(({ kind }) => kind === 'write_failed').length).toBeLessThan(4);
    await outbox.close();
  });
});

describe('a store that never can be written again', () => {
  it('is tried ever more seldom, and closes at once', async () => {
    const path = directory.directory(`case-${(cases += 1)}`, 'log');
    let opens = 0;
    let broken = false;
    const outbox = await openTestOutbox(path, {
      level: async (at, tuning) => {
        opens += 1;
        const level = await openLevel(at, tuning);
        const write = level.write.bind(level);
        level.write = (writes, how) =>
          broken
            ? Promise.reject(Object.assign(new Error('Corruption: for good'), { code: 'LEVEL_CORRUPTION' }))
            : write(writes, how);
        return level;
      },
    });
    broken = true;
    const startedMs = performance.now();
    while (performance.now() - startedMs < 4000) {
      await appendNumbered(outbox, 'press-1', 0, 1).catch(() => {});
      await new Promise(setImmediate);
    }
    // At once, after one second, after two: each with the opens of a salvage at most.
    expect(opens).toBeLessThan(12);
    const closingMs = performance.now();
    await outbox.close();
    expect(performance.now() - closingMs).toBeLessThan(2000);
  });
});
