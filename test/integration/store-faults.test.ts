// Writes and syncs that fail once, and a disk that is slow: the producer gets an error, the store is reopened and verified,
// and what was acknowledged is there.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { join } from 'node:path';
import { startChild, type Child } from '../support/child.ts';
import { compileDiskShim, createDiskShim, type DiskShim } from '../support/disk-shim.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

const CHILD = join(import.meta.dirname, '../crash/outbox-child.ts');
let directory: TempDir;
let library: string;

beforeAll(async () => {
  directory = createTempDir('faults');
  library = await compileDiskShim(directory.path);
});
afterAll(() => directory.remove());

interface Answer {
  readonly answer: number;
  readonly code?: string;
  readonly ms?: number;
  /** That ended while it waited. */
  readonly commits?: number;
}

const isAnswer = (report: unknown): report is Answer => (report as Partial<Answer>).answer !== undefined;
const isDrained = (report: unknown): report is { drained: number[] } =>
  (report as { drained?: number[] }).drained !== undefined;
const isOpened = (report: unknown): report is unknown => (report as { opened?: boolean }).opened === true;
const isEvent = (report: unknown): report is { event: { kind: string } } =>
  (report as { event?: unknown }).event !== undefined;

async function serve(name: string): Promise<{ child: Child; shim: DiskShim }> {
  const root = directory.directory(name);
  const shim = createDiskShim({ library, root, work: directory.file(`${name}-work`), journal: false });
  const child = startChild(CHILD, { args: [join(root, 'db', 'log'), 'serve', '{}'], env: shim.env });
  await child.next(isOpened);
  return { child, shim };
}

async function append(child: Child, number: number): Promise<Answer> {
  child.send({ append: number });
  return child.next(isAnswer);
}

/** Appends one after another until one is accepted; returns all that were. */
async function appendUntilAccepted(child: Child, from: number): Promise<{ accepted: number; next: number }> {
  const endAtMs = performance.now() + 20_000;
  for (let number = from; performance.now() < endAtMs; number += 1) {
    const { code } = await append(child, number);
    if (code === undefined) return { accepted: number, next: number + 1 };
    expect(['GW_STORE_WRITE', 'GW_OUTBOX_FULL']).toContain(code);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('Nothing was accepted for 20 s.');
}

describe.each([
  ['a sync that fails once', (shim: DiskShim) => shim.failSyncs(1)],
  ['a write that fails once', (shim: DiskShim) => shim.failWrites(1)],
  ['a write that finds no room once', (shim: DiskShim) => shim.failWrites(1, 'ENOSPC')],
  ['three syncs that fail', (shim: DiskShim) => shim.failSyncs(3)],
  ['three writes that fail', (shim: DiskShim) => shim.failWrites(3)],
])('%s', (name, strike) => {
  it('is told to the producer, and loses nothing that was acknowledged', async () => {
    const { child, shim } = await serve(name.replaceAll(' ', '-'));
    await using _ = child;
    const acknowledged: number[] = [];
    for (let number = 0; number < 20; number += 1) {
      expect((await append(child, number)).code).toBeUndefined();
      acknowledged.push(number);
    }
    strike(shim);
    const failed = await append(child, 20);
    expect(shim.read('failures')).toBeGreaterThan(0);
    expect(failed.code).toBe('GW_STORE_WRITE');
    expect((await child.next(isEvent)).event.kind).toBe('write_failed');
    const { accepted, next } = await appendUntilAccepted(child, 21);
    acknowledged.push(accepted);
    for (let number = next; number < next + 20; number += 1) {
      expect((await append(child, number)).code).toBeUndefined();
      acknowledged.push(number);
    }
    child.send({ drain: true });
    const { drained } = await child.next(isDrained);
    expect(acknowledged.filter((number) => !drained.includes(number))).toEqual([]);
    // Each once: what failed may be there all the same, because a failed batch can be on the disk.
    expect(new Set(drained).size).toBe(drained.length);
  });
});

describe('a sync that takes 100 ms', () => {
  it('gathers what arrives meanwhile, so that nobody waits for more than two', async () => {
    const { child, shim } = await serve('slow');
    await using _ = child;
    await append(child, 0);
    shim.delaySyncs(100);
    const before = shim.read('fileSyncs');
    const count = 200;
    for (let number = 1; number <= count; number += 1) child.send({ append: number });
    const answers: Answer[] = [];
    for (let number = 1; number <= count; number += 1) answers.push(await child.next(isAnswer));
    shim.delaySyncs(0);
    expect(Math.min(...answers.map(({ ms = 0 }) => ms))).toBeGreaterThanOrEqual(99);
    // The one under way and the one that gathers meanwhile.
    expect(Math.max(...answers.map(({ commits = Infinity }) => commits))).toBeLessThanOrEqual(2);
    // Each commit is a sync of the file and perhaps one of its name; twice two, because a busy machine reads the commands in parts.
    expect(shim.read('fileSyncs') - before).toBeLessThanOrEqual(8);
    child.send({ drain: true });
    expect(new Set((await child.next(isDrained)).drained).size).toBe(count + 1);
  });
});
