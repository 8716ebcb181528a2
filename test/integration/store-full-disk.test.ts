// The outbox on a file system that has no room left: each policy keeps its word, nothing acknowledged is lost without a
// report, and it goes on when there is room again.

import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isGatewayError } from '../../src/core/errors.ts';
import type { Outbox, OutboxEvent, WhenFull } from '../../src/core/outbox.ts';
import { lockDirectory } from '../../src/platform/directory-lock.ts';
import { createBlockDevice } from '../support/block-device.ts';
import { appendNumbered, drain, gatewayEvent, numberOf, openTestOutbox } from '../support/outbox.ts';
import { waitFor } from '../support/wait.ts';

const FULL = process.env['FIELDPOST_FULL'] === '1';
const MEBIBYTE = 1024 * 1024;
const GROUP = 100;
const REFUSALS = new Set(['GW_OUTBOX_FULL', 'GW_STORE_WRITE', 'GW_OUTBOX_BUSY']);

interface Books {
  readonly acknowledged: Set<number>;
  readonly refused: Map<string, number>;
  next: number;
}

/** Appends groups of 100 messages of 2 KB until `attempts` were made. */
async function press(outbox: Outbox, books: Books, attempts: number): Promise<boolean> {
  let lastAccepted = false;
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const from = books.next;
    books.next += GROUP;
    try {
      await appendNumbered(outbox, 'a', from, GROUP, 2000);
      for (let number = from; number < from + GROUP; number += 1) books.acknowledged.add(number);
      lastAccepted = true;
    } catch (error) {
      lastAccepted = false;
      const code = isGatewayError(error) ? error.code : String(error);
      books.refused.set(code, (books.refused.get(code) ?? 0) + 1);
    }
  }
  return lastAccepted;
}

async function accepts(outbox: Outbox, books: Books): Promise<boolean> {
  return press(outbox, books, 1);
}

function droppedCount(events: readonly OutboxEvent[], reasons: readonly string[]): number {
  return events.reduce(
    (sum, event) => (event.kind === 'dropped' && reasons.includes(event.reason) ? sum + event.count : sum),
    0,
  );
}

/** Until not even a block is free. Returns the file that takes the room. */
function fill(directory: string): string {
  const filler = join(directory, 'filler');
  for (let bytes = 64 * MEBIBYTE; bytes >= 4096; bytes /= 2) {
    for (;;) {
      try {
        writeFileSync(filler, Buffer.alloc(bytes, 1), { flag: 'a' });
      } catch {
        break;
      }
    }
  }
  return filler;
}

async function drained(outbox: Outbox): Promise<ReadonlySet<number>> {
  return new Set((await drain(outbox)).filter((stored) => gatewayEvent(stored) === undefined).map(numberOf));
}

describe.each(FULL ? (['ext4', 'tmpfs'] as const) : (['ext4'] as const))('a full disk (%s)', (type) => {
  describe.each(FULL ? [0, 6 * MEBIBYTE] : [0])('with a floor of %d bytes', (minFreeBytes) => {
    it.each<WhenFull>(['drop_oldest', 'drop_newest', 'reject'])('%s', async (whenFull) => {
      await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE, type });
      const directory = join(device.path, 'db', 'log');
      const events: OutboxEvent[] = [];
      const options = { settings: { whenFull, minFreeBytes }, onEvent: (event: OutboxEvent) => events.push(event) };
      const outbox = await openTestOutbox(directory, options);
      const books: Books = { acknowledged: new Set(), refused: new Map(), next: 0 };
      // 80 MB into 48 MB.
      await press(outbox, books, 400);
      for (const code of books.refused.keys()) expect(REFUSALS).toContain(code);

      const dropped = droppedCount(events, ['max_bytes', 'min_free_bytes', 'max_age']);
      if (whenFull === 'drop_oldest') {
        expect(dropped, JSON.stringify([...books.refused])).toBeGreaterThan(0);
        // What is new goes on being stored.
        await waitFor(() => accepts(outbox, books), { timeoutMs: 20_000 });
      } else {
        expect(dropped).toBe(0);
        expect(books.refused.size).toBeGreaterThan(0);
        if (whenFull === 'drop_newest') {
          const refusedForRoom = (books.refused.get('GW_OUTBOX_FULL') ?? 0) * GROUP;
          await waitFor(() => droppedCount(events, ['outbox_full']) >= refusedForRoom || undefined);
        }
      }

      const out = await drain(outbox);
      const arrived = new Set(out.filter((stored) => gatewayEvent(stored) === undefined).map(numberOf));
      const missing = [...books.acknowledged].filter((number) => !arrived.has(number));
      const droppedNow = droppedCount(events, ['max_bytes', 'min_free_bytes', 'max_age']);
      expect(missing.length).toBeLessThanOrEqual(droppedNow);
      expect(events.filter(({ kind }) => kind === 'salvaged')).toEqual([]);
      const sent = out.map(gatewayEvent).filter((event) => event?.['event'] === 'dropped');
      // Told, or about to be: news of what limits take is gathered for a minute.
      if (missing.length > 0) expect(sent.length + outbox.stats().untoldLosses).toBeGreaterThan(0);

      // Room has returned by the draining alone.
      await waitFor(() => accepts(outbox, books), { timeoutMs: 20_000, what: 'room after draining' });
      await outbox.close();
      const again = await openTestOutbox(directory, options);
      expect((await drain(again)).length).toBeGreaterThanOrEqual(GROUP);
      await again.close();
    });
  });
});

describe('a disk that others fill', () => {
  it('refuses while there is no room, opens without room, and goes on when there is', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const directory = join(device.path, 'db', 'log');
    let outbox = await openTestOutbox(directory);
    const books: Books = { acknowledged: new Set(), refused: new Map(), next: 0 };
    await press(outbox, books, 20);
    const filler = fill(device.path);
    await press(outbox, books, 60);
    expect(books.refused.size).toBeGreaterThan(0);
    for (const code of books.refused.keys()) expect(REFUSALS).toContain(code);
    await outbox.close();

    outbox = await openTestOutbox(directory);
    unlinkSync(filler);
    await waitFor(() => accepts(outbox, books), { timeoutMs: 30_000, what: 'room after the filler is gone' });
    const arrived = await drained(outbox);
    expect([...books.acknowledged].filter((number) => !arrived.has(number))).toEqual([]);
    await outbox.close();
  });

  it('delivers what is stored while the disk takes nothing at all, and refuses the rest at once', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const outbox = await openTestOutbox(join(device.path, 'db', 'log'));
    const books: Books = { acknowledged: new Set(), refused: new Map(), next: 0 };
    await press(outbox, books, 20);
    let filler = '';
    // The ballast is filled as well.
    await waitFor(async () => {
      filler = fill(device.path);
      return !(await press(outbox, books, 1));
    });
    const stored = new Set(books.acknowledged);
    expect(stored.size).toBeGreaterThanOrEqual(20 * GROUP);
    const arrived = await drained(outbox);
    expect([...stored].filter((number) => !arrived.has(number))).toEqual([]);
    expect(await press(outbox, books, 1)).toBe(false);

    unlinkSync(filler);
    await waitFor(() => accepts(outbox, books), { timeoutMs: 30_000, what: 'room after the filler is gone' });
    const late = await drained(outbox);
    expect([...books.acknowledged].filter((number) => !stored.has(number) && !late.has(number))).toEqual([]);
    await outbox.close();
  });

  it('starts on a full disk, with the room that it keeps for that', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const directory = join(device.path, 'db', 'log');
    const before = await openTestOutbox(directory);
    const books: Books = { acknowledged: new Set(), refused: new Map(), next: 0 };
    await press(before, books, 20);
    await before.close();
    fill(device.path);
    const lock = await lockDirectory(device.path);
    const outbox = await openTestOutbox(directory);
    const arrived = await drained(outbox);
    expect([...books.acknowledged].filter((number) => !arrived.has(number))).toEqual([]);
    await outbox.close();
    await lock.release();
  });

  it('says that the disk is full where not even that room is left', async () => {
    await using device = await createBlockDevice({ bytes: 48 * MEBIBYTE });
    const directory = join(device.path, 'db', 'log');
    await (await openTestOutbox(directory)).close();
    unlinkSync(`${directory}.ballast`);
    fill(device.path);
    const refusal = await openTestOutbox(directory).catch((error: unknown) => error);
    expect(String(refusal)).toContain(`${directory} cannot be opened: the disk is full`);
  });

  it('names a directory that can only be read', async () => {
    await using device = await createBlockDevice({ bytes: 16 * MEBIBYTE });
    const directory = join(device.path, 'db', 'log');
    const outbox = await openTestOutbox(directory);
    await outbox.close();
    await device.remount('ro');
    const refusal = await openTestOutbox(directory).catch((error: unknown) => error);
    expect(isGatewayError(refusal, 'GW_DATA_DIRECTORY'), String(refusal)).toBe(true);
    expect(String(refusal)).toContain(directory);
  });
});
