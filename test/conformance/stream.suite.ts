// What the streams of every outbox must do, run for each implementation.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { DeviceId } from '../../src/core/device.ts';
import type {
  Outbox,
  OutboxEntry,
  OutboxEvent,
  OutboxSettings,
  OutboxStream,
  QueueDefinition,
  StreamDefinition,
  StreamMessage,
} from '../../src/core/outbox.ts';
import type { Timestamp } from '../../src/core/time.ts';
import type { OutboxOptions } from '../../src/store/options.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { message } from '../support/builders.ts';
import { DROPPING } from '../support/outbox.ts';
import { waitFor } from '../support/wait.ts';
import { reopened, type OutboxSubject } from './outbox.suite.ts';

const UPSTREAM: QueueDefinition = { name: '$upstream', takes: 'all', order: 'live_first' };
const EVENTS: StreamDefinition = { name: 'events', partitions: 4, retentionSecs: 3600, maxBytes: 5_000_000 };

/** The system's clock, set on by a test. */
class SettableClock extends SystemClock {
  aheadMs = 0;
  override monotonicMs(): number {
    return super.monotonicMs() + this.aheadMs;
  }
  override now(): Timestamp {
    const now = super.now();
    return { ...now, wallMs: now.wallMs + this.aheadMs };
  }
}

function kept(text: string, partition = 0, device = 'meter-1'): OutboxEntry {
  return { message: message({ device, text }), queues: [], stream: { name: 'events', partition } };
}

function texts(messages: readonly StreamMessage[]): string[] {
  return messages.map(({ stored }) => Buffer.from(stored.message.body).toString());
}

const ALL = { maxMessages: 100_000, maxBytes: 1e9 };

/** Everything from a number on, in steps of a few messages. */
async function readAll(stream: OutboxStream, partition = 0, from = 0, maxMessages = 7): Promise<StreamMessage[]> {
  const found: StreamMessage[] = [];
  for (let next = from; ;) {
    const page = await stream.read(partition, next, { maxMessages, maxBytes: 1e6 });
    const last = page.at(-1);
    if (last === undefined) return found;
    found.push(...page);
    next = last.sequence + 1;
  }
}

/** @param survives whether what is closed can be opened again. */
export function describeStreams(start: () => Promise<OutboxSubject>, survives: boolean): void {
  let subject: OutboxSubject;
  let outbox: Outbox;
  let events: OutboxEvent[];
  let clock: SettableClock;

  interface Changes {
    readonly settings?: Partial<OutboxSettings>;
    readonly queues?: readonly QueueDefinition[];
    readonly stream?: Partial<StreamDefinition>;
  }

  function options(changes: Changes): OutboxOptions {
    return {
      gatewayId: 'gateway' as DeviceId,
      clock,
      random: systemRandom,
      settings: { ...DROPPING, ...changes.settings },
      queues: changes.queues ?? [],
      onEvent: (event) => events.push(event),
    };
  }

  async function open(changes: Changes = {}): Promise<OutboxStream> {
    outbox = await subject.create(options(changes));
    await outbox.setStreams([{ ...EVENTS, ...changes.stream }]);
    return outbox.stream('events');
  }

  async function appendEach(count: number, make: (index: number) => OutboxEntry): Promise<void> {
    for (let index = 0; index < count; index += 1) await outbox.append([make(index)]);
  }

  beforeEach(async () => {
    events = [];
    clock = new SettableClock();
    subject = await start();
  });
  afterEach(async () => {
    await outbox.close();
    await subject.end();
  });

  it('numbers each partition from 0, without gaps, in the order of the log', async () => {
    const stream = await open();
    await outbox.append([kept('a', 0), kept('b', 1), kept('c', 0), { message: message({}), queues: [] }]);
    await outbox.append([kept('d', 1), kept('e', 3)]);
    expect((await readAll(stream, 0)).map(({ sequence }) => sequence)).toEqual([0, 1]);
    expect(texts(await readAll(stream, 0))).toEqual(['a', 'c']);
    expect(texts(await readAll(stream, 1))).toEqual(['b', 'd']);
    expect(texts(await readAll(stream, 2))).toEqual([]);
    expect(texts(await readAll(stream, 3))).toEqual(['e']);
    expect((await readAll(stream, 1)).map(({ stored }) => stored.offset)).toEqual([1, 4]);
  });

  it('says what a partition holds', async () => {
    const stream = await open();
    expect(stream.partition(0)).toEqual({ firstSequence: 0, lastSequence: -1, lastOffset: -1, lastEnqueuedMs: -1 });
    const beforeMs = Date.now();
    await outbox.append([kept('a', 1), kept('b', 0), kept('c', 0)]);
    const partition = stream.partition(0);
    expect(partition).toMatchObject({ firstSequence: 0, lastSequence: 1, lastOffset: 2 });
    expect(partition.lastEnqueuedMs).toBeGreaterThanOrEqual(beforeMs);
    expect(outbox.stats().streams).toMatchObject([{ name: 'events', messages: 3, shortenedTotal: 0, detached: false }]);
    expect(() => stream.partition(4)).toThrow(expect.objectContaining({ code: 'GW_NOT_FOUND' }));
    await expect(stream.read(-1, 0, ALL)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    expect(() => outbox.stream('other')).toThrow(expect.objectContaining({ code: 'GW_NOT_FOUND' }));
  });

  it('keeps what was delivered, and delivers what it keeps', async () => {
    const stream = await open({ queues: [UPSTREAM] });
    const queue = outbox.queue('$upstream');
    await appendEach(20, (index) => kept(String(index), index % 2));
    const taken = await queue.take('live', ALL);
    await queue.settle(taken.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    expect(taken.length).toBe(20);
    expect(outbox.stats()).toMatchObject({ messages: 0, bytes: 0 });
    expect((await readAll(stream, 1)).length).toBe(10);
    // Both give the very same message.
    expect((await readAll(stream, 0))[3]?.stored).toEqual(taken[6]);
  });

  it('reads from any number, within limits, any number of times', async () => {
    const stream = await open();
    for (let round = 0; round < 30; round += 1) {
      await outbox.append(Array.from({ length: 5 }, (_, each) => kept(`${round * 5 + each}`, each === 4 ? 1 : 0)));
    }
    const expected = Array.from({ length: 150 }, (_, index) => String(index)).filter((_, index) => index % 5 !== 4);
    for (const from of [0, 1, 57, 119]) {
      expect(texts(await readAll(stream, 0, from, 3))).toEqual(expected.slice(from));
    }
    expect(texts(await stream.read(0, 10, { maxMessages: 100, maxBytes: 1 }))).toEqual([expected[10]]);
    expect(await stream.read(0, 120, ALL)).toEqual([]);
    expect(texts(await readAll(stream, 0, -5))).toEqual(expected);
  });

  it('waits for a number that is still to come', async () => {
    const stream = await open();
    const ended = new AbortController();
    let woken = 0;
    const waiting = stream.available(2, 1, ended.signal).then(() => (woken += 1));
    await outbox.append([kept('a', 2), kept('b', 1)]);
    await outbox.append([kept('c', 1)]);
    expect(woken).toBe(0);
    await outbox.append([kept('d', 2)]);
    await waiting;
    await stream.available(2, 0, ended.signal);
    const aborted = Promise.allSettled([stream.available(2, 2, ended.signal)]);
    ended.abort();
    expect((await aborted)[0]).toMatchObject({ reason: { code: 'GW_ABORTED' } });
    const closing = Promise.allSettled([stream.available(2, 2, new AbortController().signal)]);
    await outbox.close();
    expect((await closing)[0]).toMatchObject({ reason: { code: 'GW_STORE_CLOSED' } });
  });

  it('finds a place by number, offset and time, and by its ends', async () => {
    const stream = await open();
    const times: number[] = [];
    for (let index = 0; index < 40; index += 1) {
      clock.aheadMs += 1000;
      await outbox.append([kept(`x${index}`, 1), kept(`y${index}`, 0), kept(`z${index}`, 0)]);
      times.push(stream.partition(0).lastEnqueuedMs);
    }
    expect(await stream.locate(0, { kind: 'earliest' })).toBe(0);
    expect(await stream.locate(0, { kind: 'latest' })).toBe(80);
    expect(await stream.locate(0, { kind: 'sequence', value: 7, inclusive: true })).toBe(7);
    expect(await stream.locate(0, { kind: 'sequence', value: 7, inclusive: false })).toBe(8);
    expect(await stream.locate(0, { kind: 'sequence', value: 900, inclusive: false })).toBe(80);
    // Offset 22 is `y7`, 21 `x7` of the other partition.
    expect(await stream.locate(0, { kind: 'offset', value: 22, inclusive: true })).toBe(14);
    expect(await stream.locate(0, { kind: 'offset', value: 21, inclusive: true })).toBe(14);
    expect(await stream.locate(0, { kind: 'offset', value: 22, inclusive: false })).toBe(15);
    expect(await stream.locate(0, { kind: 'offset', value: -1, inclusive: false })).toBe(0);
    expect(await stream.locate(0, { kind: 'offset', value: 119, inclusive: false })).toBe(80);
    expect(await stream.locate(0, { kind: 'offset', value: 1e12, inclusive: true })).toBe(80);
    const [early = 0, , , , , sixth = 0] = times;
    expect(await stream.locate(0, { kind: 'time', afterMs: early - 500 })).toBe(0);
    expect(await stream.locate(0, { kind: 'time', afterMs: sixth })).toBe(12);
    expect(await stream.locate(0, { kind: 'time', afterMs: sixth - 500 })).toBe(10);
    expect(await stream.locate(0, { kind: 'time', afterMs: (times.at(-1) ?? 0) + 1 })).toBe(80);
    expect((await stream.read(0, 12, { maxMessages: 1, maxBytes: 1e6 }))[0]).toMatchObject({ enqueuedMs: times[6] });
  });

  it('gives up what is older than its retention, and nothing before, without an event', async () => {
    const stream = await open({ stream: { retentionSecs: 100 } });
    await appendEach(10, (index) => kept(`old${index}`, 0));
    clock.aheadMs += 60_000;
    await appendEach(10, (index) => kept(`new${index}`, 0));
    clock.aheadMs += 60_000;
    await waitFor(() => stream.partition(0).firstSequence === 10);
    expect(texts(await readAll(stream, 0))).toEqual(Array.from({ length: 10 }, (_, index) => `new${index}`));
    expect(await stream.locate(0, { kind: 'sequence', value: 3, inclusive: true })).toBe(10);
    clock.aheadMs += 60_000;
    await waitFor(() => outbox.stats().streams[0]?.messages === 0);
    expect(stream.partition(0)).toMatchObject({ firstSequence: 20, lastSequence: 19 });
    await outbox.append([kept('next', 0)]);
    expect(await stream.read(0, 0, ALL)).toMatchObject([{ sequence: 20 }]);
    expect(events.filter(({ kind }) => kind !== 'committed')).toEqual([]);
  });

  it('gives up its own oldest over its bytes, and nothing of a queue', async () => {
    const stream = await open({ queues: [UPSTREAM], stream: { maxBytes: 20_000 } });
    await appendEach(60, (index) => kept(String(index).padEnd(1000, 'x'), 0));
    await waitFor(() => (outbox.stats().streams[0]?.bytes ?? 0) <= 20_000);
    const { firstSequence } = stream.partition(0);
    // A twentieth of the quota goes at once, in whole commits.
    expect(firstSequence).toBeGreaterThanOrEqual(40);
    expect(firstSequence).toBeLessThanOrEqual(43);
    expect((await readAll(stream, 0)).map(({ sequence }) => sequence)[0]).toBe(firstSequence);
    expect((await outbox.queue('$upstream').take('live', ALL)).length).toBe(60);
    expect(events.filter(({ kind }) => kind !== 'committed')).toEqual([]);
  });

  it('gives delivered events up before the outbox drops or refuses what was not delivered', async () => {
    const settings = { maxBytes: 100_000, whenFull: 'reject' as const };
    const stream = await open({ queues: [UPSTREAM], settings });
    const queue = outbox.queue('$upstream');
    // All is delivered at once: however much comes, there is room.
    for (let index = 0; index < 300; index += 1) {
      await outbox.append([kept(String(index).padEnd(1000, 'x'), 0)]);
      const taken = await queue.take('live', ALL);
      await queue.settle(taken.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    }
    await waitFor(() => stream.partition(0).firstSequence >= 200);
    const left = await readAll(stream, 0);
    expect(left.length).toBeGreaterThan(80);
    expect(left.length).toBeLessThanOrEqual(100);
    const told = events.filter((event) => event.kind === 'retention_shortened');
    expect(told.reduce((sum, { count }) => sum + count, 0)).toBe(300 - left.length);
    expect(told[0]).toMatchObject({ reason: 'max_bytes', stream: 'events' });
    expect(outbox.stats().streams[0]?.shortenedTotal).toBe(300 - left.length);
    // What was not delivered is refused only when it alone fills the outbox.
    let refused = 0;
    for (let index = 0; index < 200 && refused === 0; index += 1) {
      await outbox.append([kept('y'.repeat(1000), 0)]).catch(() => (refused = index));
    }
    expect(refused).toBeGreaterThan(75);
  });

  it('loses with the queues what drop_oldest takes of the only copy', async () => {
    const stream = await open({ queues: [UPSTREAM], settings: { maxBytes: 50_000 } });
    await appendEach(100, (index) => kept(String(index).padEnd(1000, 'x'), 0));
    await waitFor(() => stream.partition(0).firstSequence > 40);
    const [first] = await outbox.queue('$upstream').take('live', ALL);
    expect(first?.offset).toBeGreaterThan(40);
    const read = await readAll(stream, 0);
    expect(read.at(-1)?.sequence).toBe(99);
    expect(read.length).toBe(100 - (read[0]?.sequence ?? 0));
    expect(events.some(({ kind }) => kind === 'dropped')).toBe(true);
  });

  it('keeps the partitions that it was made with, and what is detached', async () => {
    const stream = await open();
    await outbox.append([kept('a', 3)]);
    await outbox.setStreams([{ ...EVENTS, partitions: 2 }]);
    expect(stream.partitions).toBe(4);
    await outbox.setStreams([]);
    expect(outbox.stats().streams).toMatchObject([{ name: 'events', messages: 1, detached: true }]);
    await outbox.setStreams([EVENTS, { ...EVENTS, name: 'other', partitions: 1 }]);
    await outbox.append([{ ...kept('b'), stream: { name: 'other', partition: 0 } }, kept('c', 3)]);
    expect(texts(await readAll(stream, 3))).toEqual(['a', 'c']);
    expect(texts(await readAll(outbox.stream('other'), 0))).toEqual(['b']);
  });

  if (!survives) return;
  it('gives everything back after it was opened again, and goes on counting', async () => {
    let stream = await open();
    for (let index = 0; index < 50; index += 1) {
      clock.aheadMs += 1000;
      await outbox.append([kept(`${index}`, index % 4), kept(`z${index}`, 3)]);
    }
    const { createdAtMs } = stream;
    const before = await Promise.all([0, 1, 2, 3].map((partition) => readAll(stream, partition)));
    const infos = [0, 1, 2, 3].map((partition) => stream.partition(partition));
    await outbox.close();
    outbox = await reopened(subject, options({}));
    stream = outbox.stream('events');
    expect(stream.createdAtMs).toBe(createdAtMs);
    expect([0, 1, 2, 3].map((partition) => stream.partition(partition))).toEqual(infos);
    const after = await Promise.all([0, 1, 2, 3].map((partition) => readAll(stream, partition)));
    expect(after).toEqual(before);
    // From the middle, found on disk.
    expect((await readAll(stream, 3, 31)).map(({ sequence }) => sequence)[0]).toBe(31);
    expect(await stream.locate(3, { kind: 'offset', value: 41, inclusive: true })).toBe(
      before[3]?.findIndex(({ stored }) => stored.offset >= 41),
    );
    for (const { enqueuedMs } of before[3] ?? []) {
      const next = before[3]?.findIndex((other) => other.enqueuedMs > enqueuedMs) ?? -1;
      const expected = next < 0 ? before[3]?.length : next;
      expect(await stream.locate(3, { kind: 'time', afterMs: enqueuedMs })).toBe(expected);
    }
    await outbox.setStreams([EVENTS]);
    await outbox.append([kept('fresh', 3)]);
    expect(await stream.read(3, infos[3]!.lastSequence + 1, ALL)).toMatchObject([{ sequence: before[3]?.length }]);
    expect(texts(await readAll(stream, 3, 31)).at(-1)).toBe('fresh');
  });
}
