// What a durable append costs beside the plainest way to store the same bytes, on a block device of its own.

import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { atLeast, interleave, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { createBlockDevice } from '../support/block-device.ts';
import { probeSync } from './sync-probe.ts';
import { consume } from './store-consumer.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const DEVICE_BYTES = 4 * 1024 ** 3;
const PRODUCERS = 64;
const BODY_BYTES = 256;
const GROUP_MESSAGES = 128;
const bodies = payloads(4096, BODY_BYTES);

let directories = 0;

function body(index: number): Buffer {
  return bodies[index % bodies.length] ?? Buffer.alloc(BODY_BYTES);
}

/** Appends a second, in messages, of `producers` that each call `append` again as soon as it has resolved. */
async function rate(
  producers: number,
  roundMs: number,
  messagesEach: number,
  append: (number: number) => Promise<unknown>,
): Promise<number> {
  let count = 0;
  const startedMs = performance.now();
  const endMs = startedMs + roundMs;
  const produce = async (): Promise<void> => {
    while (performance.now() < endMs) {
      count += 1;
      await append(count);
    }
  };
  await Promise.all(Array.from({ length: producers }, produce));
  return perSecond(count * messagesEach, performance.now() - startedMs);
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  await using device = await createBlockDevice({ bytes: DEVICE_BYTES });
  const rounds = context.quick ? 3 : 7;
  const roundMs = context.quick ? 1000 : 2000;
  const fresh = (): string => join(device.path, `store-${(directories += 1)}`);
  const before = probeSync(device.path);
  context.progress(before.text);
  const rows = [
    await producersOverLevel(fresh, rounds, roundMs),
    await groupsOverFile(fresh, rounds, roundMs),
    await threeEndpoints(fresh, rounds, roundMs),
    await withStream(fresh, rounds, roundMs),
  ];
  const after = probeSync(device.path);
  context.progress(after.text);
  const doesNotCount = before.doesNotCount ?? after.doesNotCount;
  return rows.map((row) => ({
    ...row,
    measured: `${row.measured}; ${before.text}, afterwards ${after.text}`,
    ...(doesNotCount === undefined ? {} : { doesNotCount }),
  }));
}

function rates(subject: readonly number[], baseline: readonly number[], of: string): string {
  return `${whole(median(subject))}/s over ${whole(median(baseline))}/s ${of}, medians of ${subject.length} rounds`;
}

async function producersOverLevel(fresh: () => string, rounds: number, roundMs: number): Promise<BenchRow> {
  const [ours = [], plain = []] = await interleave(rounds, [
    async () => {
      const outbox = await openBenchOutbox(fresh(), { queues: ['one'] });
      const result = await rate(PRODUCERS, roundMs, 1, (index) =>
        outbox.append([polledEntry(`meter-${index % 500}`, body(index))]),
      );
      await outbox.close();
      return result;
    },
    async () => {
      const level = new Level<string, Buffer>(fresh(), { valueEncoding: 'buffer' });
      await level.open();
      const result = await rate(PRODUCERS, roundMs, 1, (index) =>
        level.put(String(index).padStart(16, '0'), body(index), { sync: true }),
      );
      await level.close();
      return result;
    },
  ]);
  return {
    what: 'durable append, 64 producers each awaiting its acknowledgement (256 B), over plain level puts with sync',
    measured: rates(ours, plain, 'of level'),
    value: ratioOf(ours, plain),
    unit: '×',
    bar: atLeast(8),
  };
}

async function groupsOverFile(fresh: () => string, rounds: number, roundMs: number): Promise<BenchRow> {
  const groups: number[] = [];
  const bytesOf = (index: number): Buffer =>
    Buffer.concat(Array.from({ length: GROUP_MESSAGES }, (_, each) => body(index * GROUP_MESSAGES + each)));
  const [ours = [], file = [], fileSync = []] = await interleave(rounds, [
    async () => {
      const outbox = await openBenchOutbox(fresh(), { queues: ['one'], onCommit: (messages) => groups.push(messages) });
      const result = await rate(1, roundMs, GROUP_MESSAGES, (index) =>
        outbox.append(
          Array.from({ length: GROUP_MESSAGES }, (_, each) =>
            polledEntry(`meter-${each}`, body(index * GROUP_MESSAGES + each)),
          ),
        ),
      );
      await outbox.close();
      return result;
    },
    async () => {
      const handle = await open(fresh(), 'w');
      const result = await rate(1, roundMs, GROUP_MESSAGES, async (index) => {
        await handle.write(bytesOf(index));
        await handle.datasync();
      });
      await handle.close();
      return result;
    },
    async () => {
      const descriptor = openSync(fresh(), 'w');
      const result = await rate(1, roundMs, GROUP_MESSAGES, (index) => {
        writeSync(descriptor, bytesOf(index));
        fdatasyncSync(descriptor);
        return Promise.resolve();
      });
      closeSync(descriptor);
      return result;
    },
  ]);
  const full = groups.filter((messages) => messages === GROUP_MESSAGES).length / groups.length;
  return {
    what: 'durable append in full group commits of 128 messages, over a plain file with fdatasync a group',
    measured: `${rates(ours, file, 'of the file')}; ${ratioOf(ours, fileSync).toFixed(2)} × a loop of blocking calls; ${(full * 100).toFixed(0)} % of the commits had 128 messages`,
    value: ratioOf(ours, file),
    unit: '×',
    bar: atLeast(0.5),
  };
}

async function threeEndpoints(fresh: () => string, rounds: number, roundMs: number): Promise<BenchRow> {
  const shares: number[] = [];
  const withEndpoints = (names: readonly string[]) => async (): Promise<number> => {
    const outbox = await openBenchOutbox(fresh(), { queues: names });
    const ended = new AbortController();
    const consumers = names.map((name) => consume(outbox, name, ended.signal));
    const result = await rate(PRODUCERS, roundMs, 1, (index) =>
      outbox.append([polledEntry(`meter-${index % 500}`, body(index))]),
    );
    ended.abort();
    const { appendedTotal } = outbox.stats();
    for (const accepted of await Promise.all(consumers)) shares.push(accepted / appendedTotal);
    await outbox.close();
    return result;
  };
  const [three = [], one = []] = await interleave(rounds, [
    withEndpoints(['one', 'two', 'three']),
    withEndpoints(['one']),
  ]);
  return {
    what: 'appends a second with three endpoints that take everything, over one endpoint',
    measured: `${rates(three, one, 'with one')}; every endpoint had taken at least ${(Math.min(...shares) * 100).toFixed(1)} % when it ended`,
    value: ratioOf(three, one),
    unit: '×',
    bar: atLeast(0.8),
  };
}

async function withStream(fresh: () => string, rounds: number, roundMs: number): Promise<BenchRow> {
  const stream = { name: 'events', partitions: 4, retentionSecs: 86_400, maxBytes: 536_870_912 };
  const appends = (keeps: boolean) => async (): Promise<number> => {
    const outbox = await openBenchOutbox(fresh(), { queues: ['one'] });
    if (keeps) await outbox.setStreams([stream]);
    const ended = new AbortController();
    const consumer = consume(outbox, 'one', ended.signal);
    const result = await rate(PRODUCERS, roundMs, 1, (index) => {
      const entry = polledEntry(`meter-${index % 500}`, body(index));
      return outbox.append([keeps ? { ...entry, stream: { name: stream.name, partition: index % 4 } } : entry]);
    });
    ended.abort();
    await consumer;
    await outbox.close();
    return result;
  };
  const [kept = [], plain = []] = await interleave(rounds, [appends(true), appends(false)]);
  return {
    what: 'appends a second with one stream of four partitions that keeps everything, over none',
    measured: rates(kept, plain, 'without'),
    value: ratioOf(kept, plain),
    unit: '×',
    bar: atLeast(0.8),
  };
}
