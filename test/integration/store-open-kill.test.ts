// A damaged store whose opening is killed, over and over, and once more by a power cut: the damaged bytes stay to be found
// as they first were, and in the end comes out what an opening that nobody disturbs gets out of it.

import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StateSpace } from '../../src/core/state.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { seededRandom } from '../crash/load-protocol.ts';
import { cutPower, readDisk, type Fate } from '../power/power-cut.ts';
import { startChild } from '../support/child.ts';
import { compileDiskShim, createDiskShim } from '../support/disk-shim.ts';
import { appendNumbered, drain, gatewayEvent, openTestOutbox } from '../support/outbox.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

const CHILD = join(import.meta.dirname, '../crash/open-child.ts');
const FULL = process.env['FIELDPOST_FULL'] === '1';
/** Interrupted openings of each damaged store. */
const KILLS = FULL ? 40 : 4;
/** Each sync takes this much longer, so that kills meet every step. */
const SYNC_MS = 4;
const COUNT = 2500;

type Kind = 'log' | 'state';
const KINDS = ['log', 'state'] as const;
const ENDS = ['kill', 'power cut'] as const;
let directory: TempDir;
let library: string;

beforeAll(async () => {
  directory = createTempDir('open-kill');
  library = await compileDiskShim(directory.path);
  const outbox = await openTestOutbox(directory.file('log', 'data', 'log'));
  for (let from = 0; from < COUNT; from += 100) await appendNumbered(outbox, `press-${from % 3}`, from, 100, 2000);
  await outbox.close();
  const store = await openState(directory.file('state', 'data', 'state'));
  for (let from = 0; from < 20; from += 1) await store.space('keys').write(pairs(from));
  await store.close();
});
afterAll(() => directory.remove());

const openState = (path: string): ReturnType<typeof openStateStore> =>
  openStateStore({ directory: path, clock: new SystemClock(), telemetry: { emit: () => {} } });

function pairs(from: number): { key: string; value: Buffer }[] {
  return Array.from({ length: 20 }, (_, index) => ({
    key: `${from}/${index}`,
    value: Buffer.alloc(500, from + index),
  }));
}

/** What a store gives, its own messages apart. */
async function content(kind: Kind, path: string): Promise<string[]> {
  if (kind === 'log') {
    const outbox = await openTestOutbox(path);
    const all = await drain(outbox);
    await outbox.close();
    return all
      .filter((stored) => gatewayEvent(stored) === undefined)
      .map(({ message: { deviceId, body }, seq, epoch }) => `${epoch} ${deviceId} ${seq} ${digest(body)}`);
  }
  const store = await openState(path);
  const entries = await list(store.space('keys'));
  await store.close();
  return entries;
}

async function list(space: StateSpace): Promise<string[]> {
  const found: string[] = [];
  for await (const [key, value] of space.entries()) found.push(`${key} ${digest(value)}`);
  return found;
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The bytes of each file below, with where they stand. */
function bytesBelow(path: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of readdirSync(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || /^(LOCK|LOG(\.old)?)$/.test(entry.name) || entry.name.endsWith('.ballast')) continue;
    const file = join(entry.parentPath, entry.name);
    found.set(digest(readFileSync(file)), file.slice(path.length + 1));
  }
  return found;
}

/** Flips a bit in the middle of the largest file of a kind; with `unclean`, as if the store had been killed. */
function damage(kind: Kind, root: string, what: RegExp, unclean: boolean): void {
  const path = join(root, kind);
  const files = readdirSync(path).filter((name) => what.test(name));
  const read = files.map((name) => ({ name, bytes: readFileSync(join(path, name)) }));
  const largest = read.toSorted((left, right) => right.bytes.length - left.bytes.length)[0];
  if (largest === undefined) throw new Error(`no file ${what} to damage`);
  const middle = Math.floor(largest.bytes.length / 2);
  largest.bytes[middle] = (largest.bytes[middle] ?? 0) ^ 1;
  writeFileSync(join(path, largest.name), largest.bytes);
  if (unclean) rmSync(`${path}.clean`);
}

interface History {
  readonly kind: Kind;
  readonly root: string;
  readonly end: (typeof ENDS)[number];
  readonly random: () => number;
}

/** One life that opens the store and is killed `afterMs` after it began; resolves with how long it took if it got to the end. */
async function life({ kind, root, end, random }: History, afterMs: number): Promise<number | undefined> {
  const before = readDisk(root);
  const work = join(root, '..', 'work');
  const shim = createDiskShim({ library, root, work, journal: end === 'power cut' });
  shim.delaySyncs(SYNC_MS);
  const child = startChild(CHILD, { args: [kind, join(root, kind)], env: shim.env });
  await child.next((report): report is object => (report as { opening?: boolean }).opening === true);
  const startedMs = performance.now();
  const opened = child.next((report): report is object => (report as { opened?: boolean }).opened === true);
  const done = opened.then(
    () => performance.now() - startedMs,
    () => undefined,
  );
  // The one moment that is meant: there is no condition to wait for.
  await Promise.race([done, sleep(afterMs, undefined, { ref: false })]);
  await child.kill();
  if (end === 'power cut') {
    const target = join(root, '..', 'after');
    const fate = (): Fate => (['lost', 'partly', 'kept'] as const)[Math.floor(random() * 3)] ?? 'lost';
    cutPower({ root, image: work, before, target, contents: fate(), names: fate(), random });
    rmSync(root, { recursive: true });
    renameSync(target, root);
  }
  return done;
}

describe.each(KINDS)('a damaged %s store', (kind) => {
  describe.each(ENDS)('whose opening ends with a %s', (end) => {
    it.each([
      { what: 'log', pattern: /^\d+\.log$/, unclean: false },
      { what: 'log after a kill', pattern: /^\d+\.log$/, unclean: true },
      { what: 'MANIFEST', pattern: /^MANIFEST-/, unclean: false },
    ])('keeps its damaged $what as it was found, and loses nothing more', async ({ what, pattern, unclean }) => {
      const name = `${kind} ${end} ${what}`;
      const root = directory.directory(name, 'data');
      cpSync(directory.file(kind, 'data'), root, { recursive: true });
      damage(kind, root, pattern, unclean);
      const undisturbed = directory.directory(name, 'undisturbed');
      cpSync(root, undisturbed, { recursive: true });
      const expected = await content(kind, join(undisturbed, kind));
      const found = bytesBelow(join(root, kind));
      const random = seededRandom(name.length * 7919);
      const history: History = { kind, root, end, random };
      const rehearsal = directory.directory(name, 'rehearsal', 'data');
      cpSync(root, rehearsal, { recursive: true });
      let openMs = (await life({ ...history, root: rehearsal, end: 'kill' }, 20_000)) ?? 20_000;
      let interrupted = 0;
      for (let lives = 0; lives < KILLS || interrupted === 0; lives += 1) {
        const ended = await life(history, random() * openMs);
        if (ended === undefined) interrupted += 1;
        // The machine was busier at the rehearsal.
        else openMs = Math.min(openMs, ended);
        const now = bytesBelow(root);
        for (const [hash, file] of found) expect(now.has(hash), `${file} after ${lives + 1} lives`).toBe(true);
      }
      expect(await content(kind, join(root, kind))).toEqual(expected);
      const kept = readdirSync(root).filter((each) => each.includes('.damaged-'));
      expect(kept.length).toBeGreaterThan(0);
      expect(existsSync(join(root, `${kind}.found`))).toBe(false);
      const copies = new Set(kept.flatMap((each) => [...bytesBelow(join(root, each)).keys()]));
      for (const [hash, file] of found) expect(copies.has(hash), `${file} at the end`).toBe(true);
    });
  });
});
