// Bytes that reach the block device for each byte of payload, from the append to the drained, closed store: the life of a
// flash card. Counted by the kernel, journal of the file system included.

import { join } from 'node:path';
import type { Outbox } from '../../src/core/outbox.ts';
import { run as runProgram } from '../support/command.ts';
import { waitFor } from '../support/wait.ts';
import { atMost, whole, type BenchContext, type BenchRow } from './bench.ts';
import { createBlockDevice } from '../support/block-device.ts';
import { probeSync } from './sync-probe.ts';
import { consume, drain } from './store-consumer.ts';
import { jsonPayloads, openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const BODY_BYTES = 256;
/** The smallest group that the requirement speaks of, and one that shows what larger ones save. */
const GROUP_BYTES = 64 * 1024;
const LARGE_GROUP_BYTES = 256 * 1024;
const BAR = 2.5;
/** The store gives space back beside its work; it has come to rest when its size stays the same so long. */
const REST_MS = 12_000;

interface Case {
  readonly name: string;
  readonly backlog: boolean;
  readonly bodies: readonly Buffer[];
  readonly groupBytes: number;
  readonly bar: boolean;
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const totalBytes = context.quick ? 256 * MIB : GIB;
  const random = payloads(65_536, BODY_BYTES);
  const json = jsonPayloads(65_536, BODY_BYTES);
  const cases: readonly Case[] = [
    { name: 'online', backlog: false, bodies: random, groupBytes: GROUP_BYTES, bar: true },
    { name: 'after a backlog', backlog: true, bodies: random, groupBytes: GROUP_BYTES, bar: true },
    { name: 'online, JSON of polls', backlog: false, bodies: json, groupBytes: GROUP_BYTES, bar: false },
    { name: 'online', backlog: false, bodies: random, groupBytes: LARGE_GROUP_BYTES, bar: false },
    { name: 'after a backlog, JSON of polls', backlog: true, bodies: json, groupBytes: GROUP_BYTES, bar: false },
  ];
  const rows: BenchRow[] = [];
  for (const each of cases) {
    context.progress(`${each.name}, ${whole(totalBytes / MIB)} MiB`);
    rows.push(await measure(context, each, totalBytes));
  }
  return rows;
}

async function measure(context: BenchContext, each: Case, totalBytes: number): Promise<BenchRow> {
  await using device = await createBlockDevice({ bytes: 4 * GIB });
  const sync = probeSync(device.path);
  const directory = join(device.path, 'log');
  const outbox = await openBenchOutbox(directory, { queues: ['out'] });
  // The ballast and the empty store are made once in the life of a card.
  const before = await device.bytesWritten();
  const startedMs = performance.now();
  const ended = new AbortController();
  const consumer = each.backlog ? undefined : consume(outbox, 'out', ended.signal);
  const payloadBytes = await appendAll(outbox, each, totalBytes);
  const appendedMs = performance.now() - startedMs;
  const backlogBytes = await directoryBytes(directory);
  const appendedWrites = (await device.bytesWritten()) - before;
  if (each.backlog) await drain(outbox, 'out');
  await waitFor(() => outbox.stats().messages === 0, { timeoutMs: 60_000, what: 'the queue to drain' });
  ended.abort();
  await consumer;
  const restBytes = await atRest(directory);
  await outbox.close();
  const written = (await device.bytesWritten()) - before;
  const inMib = (bytes: number): string => `${whole(bytes / MIB)} MiB`;
  return {
    what: `bytes written to the block device per payload byte, groups of ${each.groupBytes / 1024} KB, append to drained, ${each.name}`,
    measured: [
      `${inMib(payloadBytes)} of payload, ${inMib(appendedWrites)} written when appended (${whole(payloadBytes / MIB / (appendedMs / 1000))} MiB/s), ${inMib(written)} when drained and closed`,
      ...(each.backlog ? [`store ${inMib(backlogBytes)} at its largest`] : []),
      `${inMib(restBytes)} at the end`,
      sync.text,
    ].join('; '),
    value: written / payloadBytes,
    unit: '×',
    ...(each.bar ? { bar: atMost(BAR) } : {}),
    ...(sync.doesNotCount === undefined ? {} : { doesNotCount: sync.doesNotCount }),
  };
}

/** One append of a group after the other; returns the bytes of all bodies. */
async function appendAll(outbox: Outbox, { bodies, groupBytes }: Case, totalBytes: number): Promise<number> {
  let sum = 0;
  let next = 0;
  while (sum < totalBytes) {
    const group = [];
    for (let bytes = 0; bytes < groupBytes; next += 1) {
      const body = bodies[next % bodies.length] ?? Buffer.alloc(BODY_BYTES);
      group.push(polledEntry(`meter-${next % 500}`, body));
      bytes += body.length;
      sum += body.length;
    }
    await outbox.append(group);
  }
  return sum;
}

/** Resolves with the size of the store when it has not changed for a while. */
async function atRest(directory: string): Promise<number> {
  let size = await directoryBytes(directory);
  let sinceMs = performance.now();
  await waitFor(
    async () => {
      const now = await directoryBytes(directory);
      if (now !== size) [size, sinceMs] = [now, performance.now()];
      return performance.now() - sinceMs > REST_MS;
    },
    { timeoutMs: 120_000, everyMs: 200, what: 'the store to come to rest' },
  );
  return size;
}

async function directoryBytes(directory: string): Promise<number> {
  return Number((await runProgram('du', ['--bytes', '--summarize', directory])).split('\t')[0]);
}
