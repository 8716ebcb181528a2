// Flipped and truncated bytes in every kind of file of the store. It opens with everything, or it is copied aside, salvaged
// and reported with counts that fit. A message that is missing from both the store and the reports is a silent loss.

import {
  copyFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isGatewayError } from '../../src/core/errors.ts';
import type { OutboxEvent } from '../../src/core/outbox.ts';
import { startChild } from '../support/child.ts';
import { appendNumbered, drain, gatewayEvent, numberOf, openTestOutbox } from '../support/outbox.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

const FULL = process.env['FIELDPOST_FULL'] === '1';
const COUNT = 3000;
const DRAINED = 700;
const DEVICES = ['a', 'b', 'c'];
let directory: TempDir;

/** Stores with the same content: closed in order, and killed. */
beforeAll(async () => {
  directory = createTempDir('damage');
  await fill(directory.file('clean', 'log'), true);
  await using child = startChild(join(import.meta.dirname, '../crash/outbox-child.ts'), {
    args: [directory.file('killed', 'log'), 'fill', String(COUNT), String(DRAINED)],
  });
  await child.next((report): report is unknown => (report as { filled?: boolean }).filled === true, 60_000);
  await child.kill();
});
afterAll(() => directory.remove());

async function fill(path: string, close: boolean): Promise<void> {
  const outbox = await openTestOutbox(path);
  for (let from = 0; from < COUNT; from += 100)
    await appendNumbered(outbox, DEVICES[(from / 100) % 3] ?? 'a', from, 100, 2000);
  const queue = outbox.queue('out');
  for (let taken = 0; taken < DRAINED;) {
    const batch = await queue.take('live', { maxMessages: 100, maxBytes: 1e6 });
    taken += batch.length;
    await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
  }
  if (close) await outbox.close();
}

type Damage = (path: string) => void;

const DAMAGES: Readonly<Record<string, Damage>> = {
  'a flipped bit in the middle': (path) => flip(path, 0.5, 1),
  'a flipped bit near the start': (path) => flip(path, 0.01, 1),
  'a flipped bit near the end': (path) => flip(path, 0.99, 1),
  '4 KB of zeros in the middle': (path) => overwrite(path, 0.5, 4096),
  'half of it cut off': (path) => truncateSync(path, Math.floor(statSync(path).size / 2)),
  'the last byte cut off': (path) => truncateSync(path, Math.max(0, statSync(path).size - 1)),
  'nothing left in it': (path) => truncateSync(path, 0),
  'the file gone': (path) => unlinkSync(path),
  'noise throughout': (path) => overwrite(path, 0, statSync(path).size, true),
};

function flip(path: string, where: number, bit: number): void {
  const bytes = readFileSync(path);
  const index = Math.min(bytes.length - 1, Math.floor(bytes.length * where));
  if (index >= 0) bytes[index] = (bytes[index] ?? 0) ^ bit;
  writeFileSync(path, bytes);
}

function overwrite(path: string, where: number, count: number, noise = false): void {
  const bytes = readFileSync(path);
  const start = Math.floor(bytes.length * where);
  for (let index = start; index < Math.min(bytes.length, start + count); index += 1) {
    bytes[index] = noise ? (index * 167 + 13) & 0xff : 0;
  }
  writeFileSync(path, bytes);
}

const KINDS: Readonly<Record<string, RegExp>> = {
  log: /^\d+\.log$/,
  manifest: /^MANIFEST-/,
  current: /^CURRENT$/,
  table: /^\d+\.ldb$/,
  lock: /^LOCK$/,
  'info log': /^LOG$/,
};

/** The largest file of the kind, and with the whole matrix every one. */
function filesOf(path: string, kind: string): string[] {
  const pattern = KINDS[kind] ?? /^$/;
  const size = (name: string): number => statSync(join(path, name)).size;
  const names = readdirSync(path).filter((name) => pattern.test(name));
  names.sort((left, right) => size(right) - size(left));
  return FULL ? names : names.slice(0, 1);
}

let cases = 0;

/** Opens a damaged copy and holds what comes out against what went in. */
async function audit(shutdown: string, kind: string, file: string, damage: Damage): Promise<void> {
  const path = directory.directory(`case-${(cases += 1)}`, 'log');
  cpSync(directory.file(shutdown, 'log'), path, { recursive: true });
  const mark = `${directory.file(shutdown, 'log')}.clean`;
  if (existsSync(mark)) copyFileSync(mark, `${path}.clean`);
  damage(join(path, file));
  const events: OutboxEvent[] = [];
  const outbox = await openTestOutbox(path, { onEvent: (event) => events.push(event) });
  const all = await drain(outbox);
  const { epoch } = outbox;
  await outbox.close();

  const salvage = events.find((event) => event.kind === 'salvaged')?.report;
  const reported = events.reduce((sum, event) => (event.kind === 'dropped' ? sum + event.count : sum), 0);
  const sent = all.map(gatewayEvent).filter((event) => event !== undefined);
  const numbers = new Set(all.filter((stored) => gatewayEvent(stored) === undefined).map(numberOf));
  const missing: number[] = [];
  for (let number = DRAINED; number < COUNT; number += 1) if (!numbers.has(number)) missing.push(number);
  const context = `${missing.length} missing, ${reported} reported, salvage ${JSON.stringify(salvage)}`;
  if (missing.length === 0 && salvage === undefined) return;
  if (salvage !== undefined) {
    // Never deleted: what was found stands aside. A consumer can tell the two stores apart.
    expect(readdirSync(salvage.copiedTo).length, context).toBeGreaterThan(0);
    expect(all.filter((stored) => gatewayEvent(stored) === undefined).map((stored) => stored.epoch)).not.toContain(
      epoch,
    );
  }
  if (missing.length === 0) return;
  if (shutdown === 'killed' && kind === 'log' && salvage === undefined && isTail(missing)) return;
  expect(reported, context).toBeGreaterThanOrEqual(missing.length);
  // A loss is also told to whoever receives the messages.
  expect(
    sent.some((event) => event['event'] === 'dropped'),
    context,
  ).toBe(true);
}

/**
 * A log file of a killed process that ends early looks like one whose end was never synced: no store can tell. What it may
 * not do is lose something in the middle.
 */
function isTail(missing: readonly number[]): boolean {
  return missing[0] === COUNT - missing.length;
}

/** One of each sort without the whole matrix. */
const NAMES = Object.keys(DAMAGES).filter((name) => FULL || /in the middle|half|gone/.test(name));

describe.each(['clean', 'killed'])('a store that was %s', (shutdown) => {
  describe.each(Object.keys(KINDS))('%s', (kind) => {
    it.each(NAMES)('%s', async (name) => {
      const files = filesOf(directory.file(shutdown, 'log'), kind);
      expect(files.length).toBeGreaterThan(0);
      for (const file of files) await audit(shutdown, kind, file, DAMAGES[name] as Damage);
    });
  });
});

describe('the directory', () => {
  it('is refused while another process holds it, and can be opened afterwards', async () => {
    const path = directory.file('locked', 'log');
    const child = startChild(join(import.meta.dirname, '../crash/outbox-child.ts'), {
      args: [path, 'fill', '100', '0'],
    });
    await child.next((report): report is unknown => (report as { filled?: boolean }).filled === true);
    const refusal = await openTestOutbox(path).catch((error: unknown) => error);
    expect(isGatewayError(refusal, 'GW_DATA_LOCKED'), String(refusal)).toBe(true);
    expect(String(refusal)).toContain(path);
    await child.kill();
    const outbox = await openTestOutbox(path);
    expect(await drain(outbox)).toHaveLength(100);
    await outbox.close();
  });
});
