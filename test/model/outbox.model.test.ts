// The outbox against a model of a few lines: random histories of appends, takes, answers, limits, crashes and reopenings
// with three endpoints of different speed, one of which takes everything, one is routed and one is strict, and a stream.

import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../src/core/device.ts';
import { PROPERTY_FIELDPOST_EVENT, type StoredMessage } from '../../src/core/message.ts';
import type {
  Lane,
  Outbox,
  OutboxEvent,
  OutboxSettings,
  QuarantinedMessage,
  QueueDefinition,
  Settlement,
} from '../../src/core/outbox.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createMemoryOutbox } from '../../src/store/memory-outbox.ts';
import { NEWS_INTERVAL_MS } from '../../src/store/limits.ts';
import { openOutbox } from '../../src/store/open.ts';
import type { LevelFactory } from '../../src/platform/level-handle.ts';
import { openLevel } from '../../src/platform/level.ts';
import { message } from '../support/builders.ts';
import { PassingClock } from '../support/passing-clock.ts';
import { waitFor } from '../support/wait.ts';

const QUEUES: readonly QueueDefinition[] = [
  { name: 'fast', takes: 'all', order: 'live_first' },
  { name: 'routed', takes: 'routed', order: 'live_first' },
  { name: 'strict', takes: 'all', order: 'strict' },
];
const NAMES = QUEUES.map(({ name }) => name);
const DEVICES = ['a', 'b', 'c'];

/** Takes what is appended, by device. */
const STREAM = { name: 'kept', partitions: 2, retentionSecs: 3600 };

function partitionOf(device: string): number {
  return DEVICES.indexOf(device) % STREAM.partitions;
}

type Operation =
  | {
      readonly kind: 'append';
      readonly device: string;
      readonly count: number;
      readonly bytes: number;
      readonly routed: boolean;
    }
  | { readonly kind: 'take'; readonly queue: string; readonly lane: Lane; readonly count: number }
  | { readonly kind: 'settle'; readonly queue: string; readonly answers: readonly number[] }
  | { readonly kind: 'split'; readonly queue: string }
  | { readonly kind: 'requeue' }
  /** Long enough for the news of losses to be told. */
  | { readonly kind: 'wait' }
  | { readonly kind: 'close' }
  | { readonly kind: 'crash' }
  /** An append whose commit never becomes durable, because of a crash or a failed write; meanwhile a queue is taken from. */
  | {
      readonly kind: 'interrupted';
      readonly by: 'crash' | 'error';
      readonly device: string;
      readonly bytes: number;
      readonly queue: string;
      readonly count: number;
    };

const queueName = fc.constantFrom(...NAMES);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      device: fc.constantFrom(...DEVICES),
      count: fc.integer({ min: 1, max: 5 }),
      bytes: fc.integer({ min: 1, max: 1500 }),
      routed: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      queue: queueName,
      lane: fc.constantFrom<Lane>('live', 'live', 'history'),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('settle' as const),
      queue: queueName,
      // 0 to 5 accept, 6 to 8 retry, 9 reject; one for each message in flight, in an order of its own.
      answers: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 8 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('split' as const), queue: queueName }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('requeue' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('interrupted' as const),
      by: fc.constantFrom('crash' as const, 'error' as const),
      device: fc.constantFrom(...DEVICES),
      bytes: fc.integer({ min: 1, max: 4000 }),
      // The one whose order is a promise most of all.
      queue: fc.oneof(queueName, fc.constant('strict')),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
);
/** Kinds that need a disk. */
const ON_DISK: ReadonlySet<Operation['kind']> = new Set(['close', 'crash', 'interrupted'] as const);

interface QueueModel {
  /** Offsets wanted and not in flight. */
  readonly waiting: Set<number>;
  readonly leased: Set<number>;
  /** Accepted since the store was opened: may come back after a crash. */
  readonly accepted: Set<number>;
  /** Whatever was ever given. */
  readonly given: Set<number>;
  /** What a limit took, the store's own messages apart. */
  readonly dropped: Set<number>;
}

/** What a message of the store's own says to be lost. */
interface Told {
  readonly device: string;
  readonly from: number;
  readonly to: number;
  readonly queue?: string;
}

/** Holds back all writes from `stop` on. */
interface Gate {
  stop(): void;
  /** Resolves when a write waits. */
  reached(): Promise<void>;
  /** Those that wait fail; later ones pass. */
  open(error: Error): void;
}

/** Bytes of a stream that never needs to give anything up. */
const ROOMY = 1_000_000;

interface Subject {
  /** The outbox itself never runs into its limits. */
  readonly isRoomy: boolean;
  readonly gate?: Gate;
  open(onEvent: (event: OutboxEvent) => void): Promise<Outbox>;
  /** Drops the instance without a close; the next `open` finds what was durable. */
  crash(outbox: Outbox): Promise<void>;
  end(): Promise<void>;
}

class Model {
  readonly #subject: Subject;
  readonly #streamBytes: number;
  readonly #queues = new Map<string, QueueModel>();
  readonly #bodies = new Map<number, string>();
  readonly #devices = new Map<number, { readonly device: string; readonly seq: number }>();
  /** Of `#devices`: what left the quarantine, and so stands in the log once more. */
  readonly #again = new Set<number>();
  readonly #seqs = new Map<string, number>();
  readonly #told = new Map<number, Told>();
  /** By partition of the stream, the offsets of all that it ever took: each stands at its number. */
  readonly #kept: number[][] = Array.from({ length: STREAM.partitions }, () => []);
  #events: OutboxEvent[] = [];
  #outbox: Outbox | undefined;
  #quarantined = 0;
  #counter = 0;

  constructor(subject: Subject, streamBytes: number) {
    this.#subject = subject;
    this.#streamBytes = streamBytes;
    for (const name of NAMES)
      this.#queues.set(name, {
        waiting: new Set(),
        leased: new Set(),
        accepted: new Set(),
        given: new Set(),
        dropped: new Set(),
      });
  }

  get outbox(): Outbox {
    if (this.#outbox === undefined) throw new Error('not open');
    return this.#outbox;
  }

  async open(): Promise<void> {
    const events: OutboxEvent[] = [];
    this.#events = events;
    this.#outbox = await this.#subject.open((event) => events.push(event));
    await this.#outbox.setStreams([{ ...STREAM, maxBytes: this.#streamBytes }]);
  }

  /** The stream has the newest of what it took, each under its number; all of it while nothing wants the room. */
  async #checkStream(): Promise<void> {
    const stream = this.outbox.stream(STREAM.name);
    for (const [partition, offsets] of this.#kept.entries()) {
      const { firstSequence, lastSequence } = stream.partition(partition);
      expect(lastSequence).toBe(offsets.length - 1);
      if (this.#subject.isRoomy && this.#streamBytes === ROOMY) expect(firstSequence).toBe(0);
      const found: (readonly [number, number])[] = [];
      for (let next = firstSequence; ;) {
        const batch = await stream.read(partition, next, { maxMessages: 3, maxBytes: 4000 });
        for (const { sequence, stored } of batch) {
          found.push([sequence, stored.offset]);
          expect(Buffer.from(stored.message.body).toString()).toBe(this.#bodies.get(stored.offset));
        }
        const last = batch.at(-1);
        if (last === undefined) break;
        next = last.sequence + 1;
      }
      // What was given up while it was read may be missing, from the oldest on, and nothing else.
      const givenUpTo = stream.partition(partition).firstSequence;
      const sequences = found.map(([sequence]) => sequence);
      for (const [sequence, offset] of found) expect(offset).toBe(offsets[sequence]);
      const present = new Set(sequences);
      for (let sequence = givenUpTo; sequence < offsets.length; sequence += 1) expect(present.has(sequence)).toBe(true);
      expect(sequences.toSorted((a, b) => a - b)).toEqual(sequences);
      expect(present.size).toBe(sequences.length);
      const middle = Math.floor((givenUpTo + offsets.length) / 2);
      const offset = offsets[middle];
      if (offset === undefined) continue;
      const first = stream.partition(partition).firstSequence;
      const located = await stream.locate(partition, { kind: 'offset', value: offset, inclusive: true });
      // More may be given up while it is looked for.
      expect(located).toBeGreaterThanOrEqual(Math.max(middle, first));
      expect(located).toBeLessThanOrEqual(Math.max(middle, stream.partition(partition).firstSequence));
    }
  }

  #model(name: string): QueueModel {
    return this.#queues.get(name) as QueueModel;
  }

  /** Messages that the store wrote itself, and what it dropped, both known by its events. */
  async #absorb(from: number): Promise<void> {
    const { tailOffset } = this.outbox.stats();
    for (const event of this.#events.splice(0)) {
      if (event.kind !== 'dropped') continue;
      expect(event.reason).toBe('max_bytes');
      for (const name of event.queue === undefined ? NAMES : [event.queue]) {
        const model = this.#model(name);
        const wanted = [...this.#devices].flatMap(([offset, { device, seq }]) => {
          if (device !== event.deviceId || seq < (event.from ?? 0) || seq > (event.to ?? 0)) return [];
          return model.waiting.has(offset) || model.leased.has(offset) ? [offset] : [];
        });
        // What was sent again is lost in runs of its own.
        const first = wanted.filter((offset) => !this.#again.has(offset));
        const lost = first.length > 0 ? first : wanted;
        for (const offset of lost) {
          model.waiting.delete(offset);
          model.leased.delete(offset);
          if (event.deviceId !== COMMON.gatewayId) model.dropped.add(offset);
        }
        // A drop counts what the queue still wanted, and nothing else; in a routed queue's range lies what was never its.
        expect(lost.length).toBe(event.count);
      }
    }
    if (tailOffset === from) return;
    const stored = await this.outbox.browse({ fromOffset: from, limit: 10_000 });
    expect(stored.map(({ offset }) => offset)).toEqual(Array.from({ length: tailOffset - from }, (_, i) => from + i));
    for (const { offset, message, seq } of stored) {
      if (!this.#devices.has(offset)) {
        expect(message.properties[PROPERTY_FIELDPOST_EVENT]).toBeDefined();
        this.#note(offset, message.deviceId, seq, Buffer.from(message.body).toString());
      }
      expect(Buffer.from(message.body).toString()).toBe(this.#bodies.get(offset));
      if (message.properties[PROPERTY_FIELDPOST_EVENT] === 'dropped') {
        this.#checkTold(offset, JSON.parse(Buffer.from(message.body).toString()) as Told);
      }
    }
    this.#checkNews();
  }

  /** A range that is told begins and ends with a loss, and nothing in it is still to come, but from the quarantine. */
  #checkTold(at: number, told: Told): void {
    this.#told.set(at, told);
    if (told.device === COMMON.gatewayId) return;
    for (const name of told.queue === undefined ? NAMES : [told.queue]) {
      const { waiting, leased, dropped } = this.#model(name);
      // What every queue lost may have been no loss to the routed one at its ends.
      const exact = told.queue !== undefined || name !== 'routed';
      const droppedSeqs = new Set<number>();
      for (const [offset, { device, seq }] of this.#devices) {
        if (device !== told.device || seq < told.from || seq > told.to) continue;
        if (dropped.has(offset)) droppedSeqs.add(seq);
        if (this.#again.has(offset)) continue;
        expect(waiting.has(offset) || leased.has(offset), `${name} still has ${offset}, told as lost`).toBe(false);
      }
      if (exact) expect([droppedSeqs.has(told.from), droppedSeqs.has(told.to)]).toEqual([true, true]);
    }
  }

  /** Whoever reads a queue to its end learns of each of its losses: no news gets lost with its own message. */
  #checkNews(): void {
    if (this.outbox.stats().untoldLosses > 0) return;
    for (const name of NAMES) {
      const { waiting, leased, given, dropped } = this.#model(name);
      const known = [...this.#told].filter(([at]) => waiting.has(at) || leased.has(at) || given.has(at));
      for (const offset of dropped) {
        const { device, seq } = this.#devices.get(offset) as { readonly device: string; readonly seq: number };
        const isTold = known.some(
          ([, told]) =>
            told.device === device &&
            told.from <= seq &&
            seq <= told.to &&
            (told.queue === undefined || told.queue === name),
        );
        expect(isTold, `${name} never hears that ${offset} is lost`).toBe(true);
      }
    }
  }

  #note(offset: number, device: string, seq: number, body: string): void {
    expect(seq).toBe((this.#seqs.get(device) ?? 0) + 1);
    this.#seqs.set(device, seq);
    this.#devices.set(offset, { device, seq });
    this.#bodies.set(offset, body);
  }

  async run(operation: Operation): Promise<void> {
    const before = this.outbox.stats().tailOffset;
    switch (operation.kind) {
      case 'append':
        await this.#append(operation);
        break;
      case 'take':
        await this.#take(operation.queue, operation.lane, operation.count);
        return;
      case 'settle':
        await this.#settle(operation.queue, operation.answers);
        break;
      case 'split':
        this.outbox.queue(operation.queue).split();
        break;
      case 'requeue':
        await this.#requeue();
        break;
      case 'wait':
        COMMON.clock.pass(NEWS_INTERVAL_MS);
        break;
      case 'close':
      case 'crash':
        await this.#restart(operation.kind === 'crash');
        return;
      case 'interrupted':
        await this.#interrupt(operation);
        return;
    }
    const events = this.outbox.stats().tailOffset;
    for (let offset = before; offset < events; offset += 1) {
      if (this.#devices.has(offset) || operation.kind === 'requeue') continue;
      for (const name of ['fast', 'strict']) this.#model(name).waiting.add(offset);
    }
    await this.#eventsOfRouted(before);
    await this.#absorb(before);
    if (operation.kind === 'append') await this.#checkStream();
    this.#check();
  }

  /** An event about the routed queue stands in that queue too. */
  async #eventsOfRouted(from: number): Promise<void> {
    for (const stored of await this.outbox.browse({ queue: 'routed', fromOffset: from, limit: 10_000 })) {
      if (stored.message.properties[PROPERTY_FIELDPOST_EVENT] === undefined) continue;
      const { queue } = JSON.parse(Buffer.from(stored.message.body).toString()) as { queue?: string };
      expect([undefined, 'routed']).toContain(queue);
      this.#model('routed').waiting.add(stored.offset);
    }
  }

  async #append(operation: Extract<Operation, { kind: 'append' }>): Promise<void> {
    const texts = Array.from({ length: operation.count }, () => {
      this.#counter += 1;
      return `${this.#counter}:`.padEnd(operation.bytes, 'x');
    });
    const receipts = await this.outbox.append(
      texts.map((text) => ({
        message: message({ device: operation.device, text }),
        queues: operation.routed ? ['routed'] : [],
        stream: { name: STREAM.name, partition: partitionOf(operation.device) },
      })),
    );
    receipts.forEach(({ offset, seq }, index) => {
      this.#kept[partitionOf(operation.device)]?.push(offset);
      this.#note(offset, operation.device, seq, texts[index] as string);
      for (const name of operation.routed ? NAMES : ['fast', 'strict']) this.#model(name).waiting.add(offset);
    });
  }

  /** The append leaves no trace, whatever it was about to evict; the take counts as far as it was answered. */
  async #interrupt(operation: Extract<Operation, { kind: 'interrupted' }>): Promise<void> {
    const { by, device, bytes, queue, count } = operation;
    const gate = this.#subject.gate as Gate;
    const events = this.#events;
    const told = events.length;
    gate.stop();
    const entry = {
      message: message({ device, text: 'interrupted'.padEnd(bytes, 'x') }),
      queues: ['routed'],
      stream: { name: STREAM.name, partition: partitionOf(device) },
    };
    const append = Promise.allSettled([this.outbox.append([entry])]);
    await gate.reached();
    let taken: readonly StoredMessage[] = [];
    const taking = this.outbox.queue(queue).take('live', { maxMessages: count, maxBytes: 4000 });
    const answered = taking.then((messages) => {
      taken = messages;
    });
    // A take that waits for nothing but the cache is answered by then.
    for (let turn = 0; turn < 5; turn += 1) await setImmediate();
    if (by === 'crash') {
      await this.#subject.crash(this.outbox);
      for (const stored of taken) this.#noteGiven(queue, stored);
      gate.open(new Error('IO error: after the crash'));
      await answered;
      await this.#reopen(true);
      return;
    }
    gate.open(new Error('IO error: injected'));
    expect((await append)[0]).toMatchObject({ status: 'rejected', reason: { code: 'GW_STORE_WRITE' } });
    await waitFor(() => events.slice(told).some(({ kind }) => kind === 'reopened'), { everyMs: 1 });
    await answered;
    // What was in flight when the commit dropped it waits again, because its answer may have come in between: the lowest.
    const again = this.#model(queue);
    for (const { offset } of taken) if (again.leased.delete(offset)) again.waiting.add(offset);
    for (const stored of taken) this.#noteGiven(queue, stored);
    for (const name of NAMES) {
      const { leased, waiting } = this.#model(name);
      const returned = leased.size - this.outbox.queue(name).stats().inFlight;
      // Not what was taken just now: that is in flight again.
      const older = [...leased].filter((offset) => name !== queue || !taken.some((stored) => stored.offset === offset));
      for (const offset of older.sort((a, b) => a - b).slice(0, Math.max(0, returned))) {
        leased.delete(offset);
        waiting.add(offset);
      }
    }
    this.#check();
  }

  #noteGiven(name: string, stored: StoredMessage): void {
    const model = this.#model(name);
    const { offset } = stored;
    expect(model.waiting.delete(offset)).toBe(true);
    model.leased.add(offset);
    this.#checkStored(stored);
    if (name === 'strict' && !model.given.has(offset)) {
      expect(offset, 'strict gives for the first time what is older than it gave before').toBeGreaterThan(
        Math.max(-1, ...model.given),
      );
    }
    model.given.add(offset);
  }

  async #take(name: string, lane: Lane, count: number): Promise<void> {
    const model = this.#model(name);
    const stats = this.outbox.queue(name).stats();
    const taken = await this.outbox.queue(name).take(lane, { maxMessages: count, maxBytes: 4000 });
    const laneMessages = lane === 'live' ? stats.live.messages : stats.history.messages;
    if (name === 'strict') expect(stats.history.messages).toBe(0);
    const offsets = taken.map(({ offset }) => offset);
    const waiting = [...model.waiting].sort((a, b) => a - b);
    // The history lane holds the oldest of what waits, the live lane the rest; each gives its lowest first.
    const leasedBelow = (offset: number): boolean => offset < Math.min(...waiting, Number.MAX_SAFE_INTEGER);
    if (stats.history.messages === 0 && lane === 'live') {
      expect(offsets).toEqual(waiting.slice(0, offsets.length));
      if (waiting.length > 0) expect(offsets.length).toBeGreaterThan(0);
    } else if (lane === 'history' && offsets.length > 0) {
      expect(offsets).toEqual(waiting.slice(0, offsets.length));
    }
    if (laneMessages === 0) expect(offsets).toEqual([]);
    expect(offsets.filter(leasedBelow)).toEqual([]);
    expect([...offsets].sort((a, b) => a - b)).toEqual(offsets);
    for (const stored of taken) this.#noteGiven(name, stored);
  }

  #checkStored(stored: StoredMessage): void {
    expect(Buffer.from(stored.message.body).toString()).toBe(this.#bodies.get(stored.offset));
    expect({ device: stored.message.deviceId, seq: stored.seq }).toEqual(this.#devices.get(stored.offset));
  }

  async #settle(name: string, answers: readonly number[]): Promise<void> {
    const model = this.#model(name);
    const leased = [...model.leased].sort((a, b) => ((a * 7919) % 13) - ((b * 7919) % 13));
    const settlements: Settlement[] = [];
    for (const [index, offset] of leased.slice(0, answers.length).entries()) {
      const answer = answers[index] as number;
      model.leased.delete(offset);
      if (answer <= 5) {
        model.accepted.add(offset);
        settlements.push({ offset, outcome: 'accepted' });
      } else if (answer <= 8) {
        model.waiting.add(offset);
        settlements.push({ offset, outcome: 'retry' });
      } else {
        this.#quarantined += 1;
        settlements.push({ offset, outcome: 'rejected', reason: 'refused' });
      }
    }
    await this.outbox.queue(name).settle(settlements);
    expect(this.outbox.stats().quarantined).toBe(this.#quarantined);
  }

  async #requeue(): Promise<void> {
    const before = this.outbox.stats().tailOffset;
    const quarantined = await this.outbox.quarantined({ limit: 3 });
    const count = await this.outbox.requeue(quarantined.map(({ id }) => id));
    expect(count).toBe(quarantined.length);
    this.#quarantined -= count;
    // In the order of the quarantine: several queues may have refused the same message.
    const own = [...quarantined];
    for (const { offset, messageId, epoch, seq, message } of await this.outbox.browse({
      fromOffset: before,
      limit: 10_000,
    })) {
      if (messageId !== own[0]?.stored.messageId) {
        for (const name of ['fast', 'strict']) this.#model(name).waiting.add(offset);
        continue;
      }
      const { queue, stored } = own.shift() as QuarantinedMessage;
      expect({ epoch, seq }).toEqual({ epoch: stored.epoch, seq: stored.seq });
      this.#again.add(offset);
      this.#devices.set(offset, { device: message.deviceId, seq });
      this.#bodies.set(offset, Buffer.from(stored.message.body).toString());
      this.#model(queue).waiting.add(offset);
    }
    expect(own).toEqual([]);
  }

  async #restart(crash: boolean): Promise<void> {
    if (crash) await this.#subject.crash(this.outbox);
    else await this.outbox.close();
    await this.#reopen(crash);
  }

  async #reopen(crash: boolean): Promise<void> {
    const { epoch } = this.outbox;
    await this.open();
    expect(this.outbox.epoch).toBe(epoch);
    expect(this.#events.filter(({ kind }) => kind === 'dropped' || kind === 'salvaged')).toEqual([]);
    for (const name of NAMES) {
      const model = this.#model(name);
      const expected = new Set([...model.waiting, ...model.leased]);
      const found = (await this.outbox.browse({ queue: name, limit: 10_000 })).map(({ offset }) => offset);
      for (const offset of expected) expect(found, `${name} lost ${offset}`).toContain(offset);
      for (const offset of found) {
        if (!expected.has(offset)) expect(crash && model.accepted.has(offset), `${name} gives ${offset}`).toBe(true);
      }
      model.waiting.clear();
      model.leased.clear();
      model.accepted.clear();
      for (const offset of found) model.waiting.add(offset);
    }
    await this.#checkStream();
    this.#check();
  }

  #check(): void {
    for (const name of NAMES) {
      const model = this.#model(name);
      const stats = this.outbox.queue(name).stats();
      expect({ name, messages: stats.messages, inFlight: stats.inFlight }).toEqual({
        name,
        messages: model.waiting.size + model.leased.size,
        inFlight: model.leased.size,
      });
      expect(stats.live.messages + stats.history.messages).toBe(stats.messages);
      if (stats.messages === 0) expect(stats.bytes).toBe(0);
      else expect(stats.bytes).toBeGreaterThan(0);
    }
  }

  /** Everything that waits comes out, whole, once. */
  async drain(): Promise<void> {
    await this.run({ kind: 'wait' });
    await this.run({ kind: 'append', device: 'a', count: 1, bytes: 1, routed: true });
    expect(this.outbox.stats().untoldLosses).toBe(0);
    for (const name of NAMES) {
      const queue = this.outbox.queue(name);
      const model = this.#model(name);
      await queue.settle([...model.leased].map((offset) => ({ offset, outcome: 'retry' })));
      for (const offset of model.leased) model.waiting.add(offset);
      model.leased.clear();
      const expected = [...model.waiting].sort((a, b) => a - b);
      const found: number[] = [];
      for (const lane of ['history', 'live'] as const) {
        for (;;) {
          const batch = await queue.take(lane, { maxMessages: 7, maxBytes: 5000 });
          if (batch.length === 0) break;
          for (const stored of batch) this.#noteGiven(name, stored);
          found.push(...batch.map(({ offset }) => offset));
          await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
        }
      }
      expect(found).toEqual(expected);
      expect(queue.stats()).toMatchObject({ messages: 0, bytes: 0, inFlight: 0 });
    }
  }

  async end(): Promise<void> {
    await this.#outbox?.close();
    await this.#subject.end();
  }
}

function settings(maxBytes: number): OutboxSettings {
  return {
    maxBytes,
    maxAgeSecs: 0,
    minFreeBytes: 0,
    whenFull: 'drop_oldest',
    commitIntervalMs: 0,
    pollCommitIntervalMs: 0,
  };
}

/** Does not wait between reopenings: a history with many failed writes would take minutes, and its shrinking hours. */
class HastyClock extends PassingClock {
  override sleep(): Promise<void> {
    return setImmediate();
  }

  /** Not what comes once a second: whether that falls into a history would be chance. */
  override after(ms: number, callback: () => void): () => void {
    return ms < 500 ? super.after(ms, callback) : () => {};
  }
}

const COMMON = { gatewayId: 'gateway' as DeviceId, clock: new HastyClock(), random: systemRandom, queues: QUEUES };

/** A LevelDB whose writes wait at a gate while it is stopped. */
function gatedLevel(): { readonly gate: Gate; readonly level: LevelFactory } {
  let stopped: PromiseWithResolvers<void> | undefined;
  let waiting = 0;
  const gate: Gate = {
    stop: () => {
      stopped = Promise.withResolvers();
    },
    reached: () => waitFor(() => waiting > 0, { everyMs: 1 }).then(() => {}),
    open: (error) => {
      stopped?.reject(error);
      stopped = undefined;
    },
  };
  const level: LevelFactory = async (directory, tuning) => {
    const below = await openLevel(directory, tuning);
    return {
      write: async (writes, options) => {
        if (stopped !== undefined) {
          waiting += 1;
          await stopped.promise.finally(() => {
            waiting -= 1;
          });
        }
        await below.write(writes, options);
      },
      get: (key) => below.get(key),
      entries: (range) => below.entries(range),
      keys: (range) => below.keys(range),
      flush: () => below.flush(),
      compact: (first, last) => below.compact(first, last),
      close: () => below.close(),
    };
  };
  return { gate, level };
}

/** The directory at one instant: LevelDB compacts in a thread of its own and may delete a file between two copies. */
async function copyAsItStands(from: string, to: string): Promise<void> {
  const names = async (): Promise<string> => (await readdir(from, { recursive: true })).sort().join();
  for (;;) {
    const before = await names();
    try {
      await cp(from, to, { recursive: true });
      if ((await names()) === before) return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    await rm(to, { recursive: true, force: true });
  }
}

async function levelSubject(maxBytes: number): Promise<Subject> {
  const root = await mkdtemp(join(tmpdir(), 'fieldpost-model-'));
  let generation = 0;
  const abandoned: Outbox[] = [];
  // One for each generation: what a crash leaves behind still writes its checkpoints, and must not be taken for the living.
  let gated = gatedLevel();
  return {
    isRoomy: maxBytes >= ROOMY,
    get gate() {
      return gated.gate;
    },
    open: (onEvent) =>
      openOutbox({
        ...COMMON,
        directory: join(root, String(generation), 'log'),
        level: gated.level,
        settings: settings(maxBytes),
        onEvent,
        // Too little for the ballast file, which would be most of what these tests write.
        freeBytes: () => Promise.resolve(16 * 1024 * 1024),
      }),
    crash: async (outbox) => {
      const from = join(root, String(generation));
      generation += 1;
      gated = gatedLevel();
      await copyAsItStands(from, join(root, String(generation)));
      abandoned.push(outbox);
    },
    end: async () => {
      await Promise.all(abandoned.map((outbox) => outbox.close()));
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function runHistory(subject: Subject, operations: readonly Operation[], streamBytes: number): Promise<void> {
  const model = new Model(subject, streamBytes);
  try {
    await model.open();
    for (const operation of operations) await model.run(operation);
    await model.drain();
  } finally {
    await model.end();
  }
}

const FULL = process.env['FIELDPOST_FULL'] === '1';
const RUNS = FULL ? 300 : 60;
/**
 * On a slow machine fewer histories are run rather than longer. A failure ends the run with its seed and path: to shrink
 * it takes minutes, and is done by hand with both.
 */
const BOUNDS = { endOnFailure: true, interruptAfterTimeLimit: FULL ? 240_000 : 40_000 };

const LIMITS_OF_MEMORY = fc.constantFrom(8000, ROOMY);
const LIMITS_ON_DISK = fc.constantFrom(4000, 8000, ROOMY);
const STREAM_BYTES = fc.constantFrom(3000, ROOMY);

describe('outbox against its model', () => {
  it('keeps every promise in memory', { timeout: 120_000 }, async () => {
    const histories = fc.array(
      operation.filter(({ kind }) => !ON_DISK.has(kind)),
      { minLength: 1, maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(histories, LIMITS_OF_MEMORY, STREAM_BYTES, async (operations, maxBytes, streamBytes) => {
        await runHistory(
          {
            isRoomy: maxBytes >= ROOMY,
            open: (onEvent) =>
              Promise.resolve(createMemoryOutbox({ ...COMMON, settings: settings(maxBytes), onEvent })),
            crash: () => Promise.resolve(),
            end: () => Promise.resolve(),
          },
          operations,
          streamBytes,
        );
      }),
      { ...BOUNDS, numRuns: RUNS * 5 },
    );
  });

  it('keeps every promise on disk, over crashes and reopenings', { timeout: 600_000 }, async () => {
    const histories = fc.array(operation, { minLength: 1, maxLength: 60, size: 'max' });
    await fc.assert(
      fc.asyncProperty(histories, LIMITS_ON_DISK, STREAM_BYTES, async (operations, maxBytes, streamBytes) => {
        await runHistory(await levelSubject(maxBytes), operations, streamBytes);
      }),
      { ...BOUNDS, numRuns: RUNS },
    );
  });
});
