// Bytes that reach the block device in an hour at ten messages a second, with the appliance image's intervals.
//
// Most of an hour's bytes come from its 3600 small commits, some from the few moments when LevelDB turns its write buffer
// into a table and merges tables. A run shorter than the hour measures both apart: a span of commits alone, and a short
// one that holds such a moment, the fourth, which is when LevelDB merges; the hour is reckoned from as many as it has.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Outbox } from '../../src/core/outbox.ts';
import { atMost, whole, type BenchContext, type BenchRow } from './bench.ts';
import { createBlockDevice, type BlockDevice } from '../support/block-device.ts';
import { probeSync } from './sync-probe.ts';
import { consume } from './store-consumer.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const DEVICE_BYTES = 1024 ** 3;
const PERIOD_MS = 100;
const BODY_BYTES = 256;
const HOUR_SECS = 3600;
const BAR_MB = 60;
/** systemd unit of the image: polls gather for a second. */
const INTERVALS = { commitIntervalMs: 0, pollCommitIntervalMs: 1000 } as const;
const FLUSH_SECS = 10;
/** The buffer is filled so far beforehand that it is full some seconds, and commits, later. */
const FLUSH_MARGIN_STEPS = 15;
/** Spans of the trickle that the rest of the buffer may take: many times the margin. */
const FLUSH_ATTEMPTS = 30;
/** Tables on the first level at which LevelDB merges (kL0_CompactionTrigger, 4), less the one that is measured. */
const FLUSHES_BEFORE = 3;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  await using device = await createBlockDevice({ bytes: DEVICE_BYTES });
  const sync = probeSync(device.path);
  const directory = join(device.path, 'log');
  const outbox = await openBenchOutbox(directory, { queues: ['out'], settings: INTERVALS });
  const ended = new AbortController();
  const consumer = consume(outbox, 'out', ended.signal);
  const rig: Rig = { outbox, device, directory, context };
  let result: Hour;
  try {
    result = context.full ? await wholeHour(rig) : await reckonedHour(rig);
  } finally {
    ended.abort();
    await consumer;
    await outbox.close();
  }
  return [
    {
      what: 'bytes written to the block device in an hour at 10 messages a second (256 B), polls committed once a second',
      measured: `${result.text}; ${sync.text}`,
      value: result.megabytes,
      unit: 'MB',
      bar: atMost(BAR_MB),
      ...(sync.doesNotCount === undefined ? {} : { doesNotCount: sync.doesNotCount }),
    },
  ];
}

interface Rig {
  readonly outbox: Outbox;
  readonly device: BlockDevice;
  readonly directory: string;
  readonly context: BenchContext;
}

interface Hour {
  readonly megabytes: number;
  readonly text: string;
}

async function wholeHour(rig: Rig): Promise<Hour> {
  const { written, commits } = await trickle(rig, HOUR_SECS);
  return { megabytes: written / 1e6, text: `a whole hour: ${whole(commits)} commits` };
}

async function reckonedHour(rig: Rig): Promise<Hour> {
  const secs = rig.context.quick ? 60 : 240;
  const buffer = await learnBuffer(rig);
  const span = await trickle(rig, secs);
  const flush = await flushSpan(rig, buffer);
  const flushBytes = flush.written - span.written * (FLUSH_SECS / secs);
  const flushes = Math.ceil((span.commits * (HOUR_SECS / secs)) / buffer.steps);
  return {
    megabytes: (span.written * (HOUR_SECS / secs) + flushBytes * flushes) / 1e6,
    text: `reckoned from ${secs} s of ${whole(span.commits)} commits, ${(span.written / span.commits / 1024).toFixed(1)} KiB each, and ${flushes} times an hour a write buffer turned into a table, ${(flushBytes / 1e6).toFixed(1)} MB each`,
  };
}

const FILL_BODIES = payloads(10, BODY_BYTES);

/** A commit as the trickle makes them. */
function fillStep({ outbox }: Rig): Promise<unknown> {
  return outbox.append(FILL_BODIES.map((body, index) => polledEntry(`meter-${index}`, body)));
}

/** How much a write buffer takes. */
interface BufferSize {
  /** Commits. */
  readonly steps: number;
  /** Bytes of its log when the next commit began a new one. */
  readonly logBytes: number;
}

/** Fills the write buffer a few times; resolves with a new one begun. */
async function learnBuffer(rig: Rig): Promise<BufferSize> {
  let size: BufferSize = { steps: 0, logBytes: 0 };
  for (let flush = 0; flush < FLUSHES_BEFORE; flush += 1) {
    const log = newestLog(rig.directory);
    let { bytes } = log;
    let steps = 0;
    for (let now = log; now.name === log.name; now = newestLog(rig.directory), steps += 1) {
      ({ bytes } = now);
      await fillStep(rig);
    }
    size = { steps, logBytes: bytes };
  }
  return size;
}

/** A short span of the trickle in which a write buffer is turned into a table. */
async function flushSpan(rig: Rig, { steps, logBytes }: BufferSize): Promise<Span> {
  const nearlyFull = logBytes * (1 - FLUSH_MARGIN_STEPS / steps);
  while (newestLog(rig.directory).bytes < nearlyFull) await fillStep(rig);
  for (let attempt = 0; attempt < FLUSH_ATTEMPTS; attempt += 1) {
    const { name } = newestLog(rig.directory);
    const span = await trickle(rig, FLUSH_SECS);
    if (newestLog(rig.directory).name !== name) return span;
  }
  throw new Error('No write buffer was turned into a table.');
}

interface Span {
  readonly written: number;
  readonly commits: number;
}

/** Ten messages a second; returns what reached the device meanwhile. */
async function trickle(rig: Rig, secs: number): Promise<Span> {
  const { outbox, device, context } = rig;
  context.progress(`${secs} s of 10 messages a second`);
  const bodies = payloads(4096, BODY_BYTES);
  const commitsBefore = outbox.stats().commitsTotal;
  const before = await device.bytesWritten();
  const startedMs = performance.now();
  const messages = (secs * 1000) / PERIOD_MS;
  const appends: Promise<unknown>[] = [];
  for (let index = 0; index < messages; index += 1) {
    await sleep(Math.max(0, startedMs + index * PERIOD_MS - performance.now()));
    const entry = polledEntry(`meter-${index % 10}`, bodies[index % bodies.length] ?? Buffer.alloc(BODY_BYTES));
    appends.push(outbox.append([entry], { class: 'poll' }));
  }
  await Promise.all(appends);
  return { written: (await device.bytesWritten()) - before, commits: outbox.stats().commitsTotal - commitsBefore };
}

/** LevelDB's log of what is in the write buffer: a new one is begun with each buffer. */
function newestLog(directory: string): { readonly name: string; readonly bytes: number } {
  // Numbers of six digits and more, in the order of their making.
  const names = readdirSync(directory).filter((name) => name.endsWith('.log'));
  const name = names.toSorted((one, other) => Number.parseInt(one, 10) - Number.parseInt(other, 10)).at(-1) ?? '';
  return { name, bytes: statSync(join(directory, name)).size };
}
