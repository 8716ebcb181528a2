// Bytes that reach the block device in an hour at ten messages a second, with the appliance image's intervals.
//
// Most of an hour's bytes come from its 3600 small commits, some from the rare moments when LevelDB turns its write buffer
// into a table. A shorter measurement is made to hold one such moment, by filling the buffer beforehand; an hour is then
// reckoned as if there were one in every such span, which is more than there are.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Outbox } from '../../src/core/outbox.ts';
import { atMost, whole, type BenchContext, type BenchRow } from './bench.ts';
import { createBlockDevice, probeSync, type BlockDevice } from './block-device.ts';
import { consume } from './store-consumer.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';
import { readdirSync } from 'node:fs';

const DEVICE_BYTES = 1024 ** 3;
const PERIOD_MS = 100;
const BODY_BYTES = 256;
const HOUR_SECS = 3600;
const BAR_MB = 60;
/** systemd unit of the image: polls gather for a second. */
const INTERVALS = { commitIntervalMs: 0, pollCommitIntervalMs: 1000 } as const;
/** The store's write buffer. */
const BUFFER_BYTES = 4 * 1024 * 1024;
/** Of the buffer filled beforehand so that it is full in the middle of the measurement: what a message adds to it. */
const STORED_MESSAGE_BYTES = 310;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const secs = context.full ? HOUR_SECS : context.quick ? 60 : 300;
  await using device = await createBlockDevice(context.directory, DEVICE_BYTES);
  const sync = probeSync(device.path);
  const bodies = payloads(4096, BODY_BYTES);
  const directory = join(device.path, 'log');
  const outbox = await openBenchOutbox(directory, { queues: ['out'], settings: INTERVALS });
  const ended = new AbortController();
  const consumer = consume(outbox, 'out', ended.signal);
  if (secs < HOUR_SECS) await fillBuffer(outbox, BUFFER_BYTES - (secs / 2) * (1000 / PERIOD_MS) * STORED_MESSAGE_BYTES);
  context.progress(`${secs} s of 10 messages a second`);
  const result = await trickle(outbox, device, directory, bodies, secs);
  ended.abort();
  await consumer;
  await outbox.close();
  const perHourMb = (result.written / 1e6) * (HOUR_SECS / secs);
  const { commits, messages, tables } = result;
  return [
    {
      what: 'bytes written to the block device in an hour at 10 messages a second (256 B), polls committed once a second',
      measured: `${secs} s${secs < HOUR_SECS ? ', times the rest of the hour' : ''}: ${whole(messages)} messages in ${whole(commits)} commits, ${(result.written / 1e6).toFixed(2)} MB, ${(result.written / commits / 1024).toFixed(1)} KiB a commit, ${tables} write buffers turned into tables; ${sync.text}`,
      value: perHourMb,
      unit: 'MB',
      bar: atMost(BAR_MB),
      ...(sync.doesNotCount !== undefined
        ? { doesNotCount: sync.doesNotCount }
        : tables === 0
          ? { doesNotCount: 'no write buffer became a table meanwhile' }
          : {}),
    },
  ];
}

async function fillBuffer(outbox: Outbox, bytes: number): Promise<void> {
  const bodies = payloads(1024, BODY_BYTES);
  for (let next = 0; next < bytes / STORED_MESSAGE_BYTES; next += 100) {
    await outbox.append(bodies.slice(0, 100).map((body, index) => polledEntry(`meter-${index % 10}`, body)));
  }
}

async function trickle(
  outbox: Outbox,
  device: BlockDevice,
  directory: string,
  bodies: readonly Buffer[],
  secs: number,
): Promise<{ written: number; commits: number; messages: number; tables: number }> {
  const commitsBefore = outbox.stats().commitsTotal;
  const numberBefore = newestFile(directory);
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
  const written = (await device.bytesWritten()) - before;
  // LevelDB numbers its files in one row; a new log is begun whenever the buffer is turned into a table.
  return {
    written,
    commits: outbox.stats().commitsTotal - commitsBefore,
    messages,
    tables: newestFile(directory) > numberBefore ? 1 : 0,
  };
}

/** Number of the newest log of LevelDB. */
function newestFile(directory: string): number {
  return Math.max(
    ...readdirSync(directory)
      .filter((name) => name.endsWith('.log'))
      .map((name) => Number.parseInt(name, 10)),
  );
}
