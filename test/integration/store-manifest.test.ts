// A MANIFEST in which a length is wrong reads as one that ends there, without an error: LevelDB then gives numbers out again
// that tables bear, and writes over them. Nothing of the store may be lost by that, nor of the copy that is kept of it.

import { randomBytes } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OutboxEvent } from '../../src/core/outbox.ts';
import { unknownTables } from '../../src/platform/level-manifest.ts';
import { message } from '../support/builders.ts';
import { openTestOutbox } from '../support/outbox.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

const BODY_BYTES = 60_000;
const HEADER_BYTES = 7;
let directory: TempDir;

beforeAll(() => {
  directory = createTempDir('manifest');
});
afterAll(() => directory.remove());

/** Written by one process without a reopening, so that the MANIFEST holds an edit for each table. */
async function written(name: string, count: number): Promise<string> {
  const path = directory.file(name, 'log');
  const outbox = await openTestOutbox(path);
  for (let from = 0; from < count; from += 10) {
    await outbox.append(
      Array.from({ length: 10 }, (_, index) => ({
        message: message({ device: 'press-1', text: `${from + index}:${randomBytes(BODY_BYTES / 2).toString('hex')}` }),
        queues: [],
      })),
    );
  }
  await outbox.close();
  return path;
}

function tables(path: string): ReadonlyMap<string, string> {
  const names = readdirSync(path).filter((name) => name.endsWith('.ldb'));
  return new Map(names.map((name) => [name, readFileSync(join(path, name)).toString('latin1')]));
}

/** The third record seems to go on behind the end of the file. */
function breakLength(path: string): void {
  const manifest = join(path, readFileSync(join(path, 'CURRENT'), 'utf8').trim());
  const bytes = readFileSync(manifest);
  let at = 0;
  for (let record = 0; record < 2; record += 1) at += HEADER_BYTES + bytes.readUInt16LE(at + 4);
  expect(at + HEADER_BYTES).toBeLessThan(bytes.length);
  bytes.writeUInt16LE(30_000, at + 4);
  writeFileSync(manifest, bytes);
}

describe.each([
  { name: 'few tables', count: 300 },
  { name: 'many tables', count: 1600 },
])('a MANIFEST with a wrong length, $name', ({ name, count }) => {
  it.each(['closed in order', 'killed'])('loses nothing of a store that was %s', async (end) => {
    const sound = await written(`${name} ${end}`, count);
    // The output of a merge that the close cut short, if any.
    expect((await unknownTables(sound)).length).toBeLessThanOrEqual(1);
    const path = directory.directory(`${name} ${end} damaged`, 'log');
    cpSync(join(sound, '..'), join(path, '..'), { recursive: true });
    if (end === 'killed') rmSync(`${path}.clean`);
    breakLength(path);
    expect((await unknownTables(path)).length).toBeGreaterThan(0);
    const before = tables(path);
    const events: OutboxEvent[] = [];
    const outbox = await openTestOutbox(path, { onEvent: (event) => events.push(event) });
    try {
      const salvaged = events.find((event) => event.kind === 'salvaged');
      expect(salvaged?.report).toMatchObject({ messagesKept: count, messagesLost: 0 });
      const kept = salvaged?.report.copiedTo ?? '';
      for (const [table, content] of tables(kept)) expect(content === before.get(table), table).toBe(true);
      expect(tables(kept).size).toBe(before.size);
      const queued = await outbox.browse({ limit: count + 10 });
      const numbers = queued.map(({ message: { body } }) =>
        Number(Buffer.from(body).toString('latin1', 0, 8).split(':')[0]),
      );
      expect(new Set(numbers.filter((number) => !Number.isNaN(number))).size).toBe(count);
    } finally {
      await outbox.close();
    }
  });
});
