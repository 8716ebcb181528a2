// The outbox against a model of a few lines: random histories of appends, takes, answers, limits, crashes and reopenings
// with three endpoints of different speed, one of which takes everything, one is routed and one is strict.

import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../src/core/device.ts';
import { PROPERTY_FIELDPOST_EVENT, type StoredMessage } from '../../src/core/message.ts';
import type { Lane, Outbox, OutboxEvent, OutboxSettings, QueueDefinition, Settlement } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createMemoryOutbox } from '../../src/store/memory-outbox.ts';
import { openOutbox } from '../../src/store/open.ts';
import { message } from '../support/builders.ts';

const QUEUES: readonly QueueDefinition[] = [
  { name: 'fast', takes: 'all', order: 'live_first' },
  { name: 'routed', takes: 'routed', order: 'live_first' },
  { name: 'strict', takes: 'all', order: 'strict' },
];
const NAMES = QUEUES.map(({ name }) => name);
const DEVICES = ['a', 'b', 'c'];

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
  | { readonly kind: 'close' }
  | { readonly kind: 'crash' };

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
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const) }) },
);

interface QueueModel {
  /** Offsets wanted and not in flight. */
  readonly waiting: Set<number>;
  readonly leased: Set<number>;
  /** Accepted since the store was opened: may come back after a crash. */
  readonly accepted: Set<number>;
}

interface Subject {
  open(onEvent: (event: OutboxEvent) => void): Promise<Outbox>;
  /** Drops the instance without a close; the next `open` finds what was durable. */
  crash(outbox: Outbox): Promise<void>;
  end(): Promise<void>;
}

class Model {
  readonly #subject: Subject;
  readonly #queues = new Map<string, QueueModel>();
  readonly #bodies = new Map<number, string>();
  readonly #devices = new Map<number, { readonly device: string; readonly seq: number }>();
  readonly #seqs = new Map<string, number>();
  #events: OutboxEvent[] = [];
  #outbox: Outbox | undefined;
  #quarantined = 0;
  #counter = 0;

  constructor(subject: Subject) {
    this.#subject = subject;
    for (const name of NAMES) this.#queues.set(name, { waiting: new Set(), leased: new Set(), accepted: new Set() });
  }

  get outbox(): Outbox {
    if (this.#outbox === undefined) throw new Error('not open');
    return this.#outbox;
  }

  async open(): Promise<void> {
    this.#outbox = await this.#subject.open((event) => this.#events.push(event));
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
        let count = 0;
        for (const [offset, { device, seq }] of this.#devices) {
          if (device !== event.deviceId || seq < (event.from ?? 0) || seq > (event.to ?? 0)) continue;
          if (model.waiting.delete(offset) || model.leased.delete(offset)) count += 1;
        }
        // A drop counts what the queue still wanted, and nothing else; in a routed queue's range lies what was never its.
        expect(count).toBe(event.count);
      }
    }
    if (tailOffset === from) return;
    const stored = await this.outbox.browse({ fromOffset: from, limit: 10_000 });
    expect(stored.map(({ offset }) => offset)).toEqual(Array.from({ length: tailOffset - from }, (_, i) => from + i));
    for (const { offset, message, seq } of stored) {
      const own = this.#devices.get(offset);
      if (own === undefined) {
        expect(message.properties[PROPERTY_FIELDPOST_EVENT] ?? message.systemProperties.messageId).toBeDefined();
        this.#note(offset, message.deviceId, seq, Buffer.from(message.body).toString());
      }
      expect(Buffer.from(message.body).toString()).toBe(this.#bodies.get(offset));
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
      case 'close':
      case 'crash':
        await this.#restart(operation.kind === 'crash');
        return;
    }
    const events = this.outbox.stats().tailOffset;
    for (let offset = before; offset < events; offset += 1) {
      if (this.#devices.has(offset) || operation.kind === 'requeue') continue;
      for (const name of ['fast', 'strict']) this.#model(name).waiting.add(offset);
    }
    await this.#eventsOfRouted(before);
    await this.#absorb(before);
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
      })),
    );
    receipts.forEach(({ offset, seq }, index) => {
      this.#note(offset, operation.device, seq, texts[index] as string);
      for (const name of operation.routed ? NAMES : ['fast', 'strict']) this.#model(name).waiting.add(offset);
    });
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
    for (const stored of taken) {
      expect(model.waiting.delete(stored.offset)).toBe(true);
      model.leased.add(stored.offset);
      this.#checkStored(stored);
    }
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
    const own = new Map(quarantined.map(({ stored, queue }) => [stored.messageId, queue]));
    for (const stored of await this.outbox.browse({ fromOffset: before, limit: 10_000 })) {
      const queue = stored.message.systemProperties.messageId === undefined ? undefined : own.get(stored.messageId);
      if (queue === undefined) for (const name of ['fast', 'strict']) this.#model(name).waiting.add(stored.offset);
      else this.#model(queue).waiting.add(stored.offset);
    }
  }

  async #restart(crash: boolean): Promise<void> {
    const { epoch } = this.outbox;
    if (crash) await this.#subject.crash(this.outbox);
    else await this.outbox.close();
    this.#events = [];
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
    for (const name of NAMES) {
      const queue = this.outbox.queue(name);
      const model = this.#model(name);
      await queue.settle([...model.leased].map((offset) => ({ offset, outcome: 'retry' })));
      const expected = [...model.waiting, ...model.leased].sort((a, b) => a - b);
      const found: number[] = [];
      for (const lane of ['history', 'live'] as const) {
        for (;;) {
          const batch = await queue.take(lane, { maxMessages: 7, maxBytes: 5000 });
          if (batch.length === 0) break;
          for (const stored of batch) this.#checkStored(stored);
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

const COMMON = { gatewayId: 'gateway' as DeviceId, clock: new SystemClock(), random: systemRandom, queues: QUEUES };

async function levelSubject(maxBytes: number): Promise<Subject> {
  const root = await mkdtemp(join(tmpdir(), 'fieldpost-model-'));
  let generation = 0;
  const abandoned: Outbox[] = [];
  return {
    open: (onEvent) =>
      openOutbox({
        ...COMMON,
        directory: join(root, String(generation), 'log'),
        settings: settings(maxBytes),
        onEvent,
        // Too little for the ballast file, which would be most of what these tests write.
        freeBytes: () => Promise.resolve(16 * 1024 * 1024),
      }),
    crash: async (outbox) => {
      const from = join(root, String(generation));
      generation += 1;
      await cp(from, join(root, String(generation)), { recursive: true });
      abandoned.push(outbox);
    },
    end: async () => {
      await Promise.all(abandoned.map((outbox) => outbox.close()));
      await rm(root, { recursive: true, force: true });
    },
  };
}

async function runHistory(subject: Subject, operations: readonly Operation[]): Promise<void> {
  const model = new Model(subject);
  try {
    await model.open();
    for (const operation of operations) await model.run(operation);
    await model.drain();
  } finally {
    await model.end();
  }
}

const RUNS = process.env['FIELDPOST_FULL'] === '1' ? 1000 : 60;

describe('outbox against its model', () => {
  it('keeps every promise in memory', { timeout: 120_000 }, async () => {
    const histories = fc.array(
      operation.filter(({ kind }) => kind !== 'close' && kind !== 'crash'),
      { minLength: 1, maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(histories, fc.constantFrom(8000, 1_000_000), async (operations, maxBytes) => {
        await runHistory(
          {
            open: (onEvent) =>
              Promise.resolve(createMemoryOutbox({ ...COMMON, settings: settings(maxBytes), onEvent })),
            crash: () => Promise.resolve(),
            end: () => Promise.resolve(),
          },
          operations,
        );
      }),
      { numRuns: RUNS * 5 },
    );
  });

  it('keeps every promise on disk, over crashes and reopenings', { timeout: 600_000 }, async () => {
    const histories = fc.array(operation, { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(histories, fc.constantFrom(8000, 1_000_000), async (operations, maxBytes) => {
        await runHistory(await levelSubject(maxBytes), operations);
      }),
      { numRuns: RUNS },
    );
  });
});
