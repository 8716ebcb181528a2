// The one door down, whatever comes in whatever order: never twice, never late, never to a device that is not good, never
// two at once at one device, and none waits for another device. The gateway may end at any instant, also on either side
// of the mark that a command gets before it is begun.

import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Adapter, PointWrite, WriteResult } from '../../src/core/adapter.ts';
import type { CommandAnswer } from '../../src/core/command.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { GOOD } from '../../src/core/reading.ts';
import type { StateChange, StateSpace } from '../../src/core/state.ts';
import { createDeviceRegistry } from '../../src/devices/device-registry.ts';
import { createDispatcher, type Dispatcher } from '../../src/devices/dispatcher.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** The last one never answers. */
const DEVICES = ['pump', 'valve', 'dead'].map((name) => parseDeviceId(name));
const DEAD = 2;
const POINTS = ['a', 'b'];
/** Longer than every deadline, shorter than the 24 h for which ids are remembered. */
const PAST_ALL_MS = 60_000;

type Step =
  | {
      readonly kind: 'send';
      readonly device: number;
      readonly id: number | undefined;
      readonly points: number;
      readonly timeoutMs: number | undefined;
      readonly expiresInMs: number | undefined;
    }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'answer'; readonly device: number; readonly how: 'good' | 'failure' }
  | { readonly kind: 'state'; readonly device: number; readonly good: boolean }
  /** The gateway ends: now, or at its next write to the store, before or after that is durable. */
  | { readonly kind: 'crash'; readonly when: 'now' | 'before' | 'after' };

const device = fc.nat(DEVICES.length - 1);
const someMs = fc.constantFrom(1, 100, 500, 1000, 5000);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('send' as const),
      device,
      id: fc.option(fc.nat(3), { nil: undefined }),
      points: fc.integer({ min: 1, max: POINTS.length }),
      timeoutMs: fc.option(someMs, { nil: undefined }),
      expiresInMs: fc.option(fc.oneof(someMs, fc.constant(0)), { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: someMs }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      device: fc.nat(DEAD - 1),
      how: fc.constantFrom('good' as const, 'failure' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('state' as const), device, good: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      when: fc.constantFrom('now' as const, 'before' as const, 'after' as const),
    }),
  },
);

/** One command as it was sent; its number is the value that it writes. */
interface Sent {
  readonly number: number;
  readonly life: number;
  readonly device: number;
  readonly key: string | undefined;
  readonly deadlineMs: number;
  readonly expiresAtMs: number | undefined;
  answer?: CommandAnswer;
}

interface Pending {
  readonly resolve: (result: WriteResult) => void;
  readonly reject: (error: unknown) => void;
  readonly value: PointWrite['value'];
}

class Site {
  readonly clock = new ManualClock();
  readonly sent: Sent[] = [];
  /** By the key of a command, the number of the one that was done. */
  readonly done = new Map<string, number>();
  /** Answers that hold for good, by key. */
  readonly settled = new Map<string, CommandAnswer>();
  readonly faults: string[] = [];
  life = 0;
  crashAtWrite: 'before' | 'after' | undefined;
  readonly good = DEVICES.map(() => true);
  /** What survives the end of the gateway. */
  readonly #disk = { commands: new Map<string, Uint8Array>(), audit: new Map<string, Uint8Array>() };
  readonly #writtenPoints = new Set<string>();
  #pending: (Pending | undefined)[] = [];
  #registry = createDeviceRegistry(this.clock, { emit: () => {} });
  #dispatcher: Dispatcher;

  constructor() {
    this.#dispatcher = this.#boot();
  }

  #boot(): Dispatcher {
    const { life } = this;
    this.#pending = [];
    this.#registry = createDeviceRegistry(this.clock, { emit: () => {} });
    const points = POINTS.map((name) => ({ name, address: name, writable: true }));
    this.#registry.setAdapter(
      'bus',
      DEVICES.map((deviceId) => ({ deviceId, points })),
    );
    this.good.forEach((good, index) => this.report(index, good));
    const adapter: Adapter = {
      devices: () => [],
      start: () => Promise.resolve(),
      stop: () => Promise.resolve(),
      health: () => ({ status: 'running' }),
      write: (write, signal) => (life === this.life ? this.#write(write, signal) : new Promise(() => {})),
    };
    return createDispatcher({
      registry: this.#registry,
      adapterOf: () => adapter,
      clock: this.clock,
      telemetry: { emit: () => {} },
      commands: this.#space(this.#disk.commands, life),
      audit: this.#space(this.#disk.audit, life),
      writeRates: this.#space(new Map(), life),
    });
  }

  /** A part of the state store that nobody of a life that has ended can reach. */
  #space(kept: Map<string, Uint8Array>, life: number): StateSpace {
    const alive = (): Promise<void> => (life === this.life ? Promise.resolve() : new Promise(() => {}));
    const store = (changes: readonly StateChange[]): void => {
      for (const { key, value } of changes) {
        if (value === undefined) kept.delete(key);
        else kept.set(key, value);
      }
    };
    return {
      get: async (key) => {
        await alive();
        return kept.get(key);
      },
      async *entries() {
        await alive();
        yield* [...kept].toSorted(([a], [b]) => (a < b ? -1 : 1));
      },
      write: async (changes) => {
        await alive();
        const crash = this.crashAtWrite;
        if (crash !== 'before') store(changes);
        if (crash !== undefined) this.crash();
        await alive();
      },
    };
  }

  crash(): void {
    this.crashAtWrite = undefined;
    this.life += 1;
    this.#dispatcher = this.#boot();
  }

  report(index: number, good: boolean): void {
    this.good[index] = good;
    this.#registry.report(DEVICES[index] ?? parseDeviceId('none'), good ? 'good' : 'offline');
  }

  #write({ deviceId, point, value }: PointWrite, signal: AbortSignal): Promise<WriteResult> {
    const index = DEVICES.indexOf(deviceId);
    const sent = this.sent[Number(value)];
    const fault = (what: string): number => this.faults.push(`${what}: ${deviceId}.${point} by ${String(value)}`);
    if (sent === undefined) throw new Error('nobody sent that');
    if (this.#pending[index] !== undefined) fault('two at once');
    if (this.good[index] !== true) fault('to a device that is not good');
    if (this.clock.monotonicMs() >= sent.deadlineMs) fault('past its deadline');
    if (this.clock.wallMs() >= (sent.expiresAtMs ?? Number.POSITIVE_INFINITY)) fault('expired');
    if (sent.life !== this.life) fault('by a gateway that has ended');
    if (this.#writtenPoints.has(`${sent.number}.${point}`)) fault('twice');
    this.#writtenPoints.add(`${sent.number}.${point}`);
    if (sent.key !== undefined) {
      if ((this.done.get(sent.key) ?? sent.number) !== sent.number) fault('an id twice');
      this.done.set(sent.key, sent.number);
    }
    return new Promise<WriteResult>((resolve, reject) => {
      const pending: Pending = { resolve, reject, value };
      this.#pending[index] = pending;
      // The dead one gives up when it is told to; the others are in the middle of an exchange, which ends as it ends.
      if (index !== DEAD) return;
      signal.addEventListener('abort', () => {
        // The clock outlives the gateway: a deadline of a life that has ended ends nothing of this one.
        if (this.#pending[index] !== pending) return;
        this.#pending[index] = undefined;
        reject(new GatewayError('GW_TIMEOUT', 'No answer.'));
      });
    });
  }

  answer(index: number, how: 'good' | 'failure'): boolean {
    const pending = this.#pending[index];
    this.#pending[index] = undefined;
    if (how === 'good') pending?.resolve({ readBack: pending.value, quality: GOOD });
    else pending?.reject(new GatewayError('GW_MODBUS_EXCEPTION', 'No.', { details: { reason: 'exception_2' } }));
    return pending !== undefined;
  }

  send({ device: index, id, points, timeoutMs, expiresInMs }: Extract<Step, { kind: 'send' }>): void {
    const deviceId = DEVICES[index] ?? '';
    const expiresAtMs = expiresInMs === undefined ? undefined : this.clock.wallMs() + expiresInMs;
    const sent: Sent = {
      number: this.sent.length,
      life: this.life,
      device: index,
      key: id === undefined ? undefined : `${deviceId}/${id}`,
      deadlineMs: this.clock.monotonicMs() + (timeoutMs ?? 30_000),
      expiresAtMs,
    };
    this.sent.push(sent);
    const values = Object.fromEntries(POINTS.slice(0, points).map((point) => [point, sent.number]));
    const options = { actor: 'test', id: id?.toString(), timeoutMs, expiresAtMs };
    void this.#dispatcher.run({ kind: 'write', deviceId, values }, options).then((answer) => {
      sent.answer = answer;
      // What was not taken may come again.
      if (sent.key === undefined || answer.status === 429 || answer.status === 503) return;
      const before = this.settled.get(sent.key);
      if (before === undefined) this.settled.set(sent.key, answer);
      else if (!isDeepStrictEqual(answer, before)) this.faults.push(`${sent.key} answered in two ways`);
    });
  }

  /** Each good device that has work is at work: none waits for another. */
  async checkNobodyWaits(): Promise<void> {
    // A mark that a life before was writing goes first, which takes a turn or two.
    for (let turn = 0; turn < 20 && this.#idlers().length > 0; turn += 1) await settle();
    for (const name of this.#idlers()) this.faults.push(`${name} waits for nothing`);
  }

  #idlers(): readonly (string | undefined)[] {
    return [...DEVICES.keys()]
      .filter((index) => this.#pending[index] === undefined)
      .filter((index) =>
        this.sent.some((sent) => sent.device === index && sent.life === this.life && sent.answer === undefined),
      )
      .map((index) => DEVICES[index]);
  }
}

/** All that waits for no clock and no device has happened. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function play(steps: readonly Step[]): Promise<Site> {
  const site = new Site();
  for (const one of steps) {
    if (one.kind === 'send') site.send(one);
    else if (one.kind === 'wait') site.clock.advance(one.ms);
    else if (one.kind === 'answer') site.answer(one.device, one.how);
    else if (one.kind === 'state') site.report(one.device, one.good);
    else if (one.when === 'now') site.crash();
    else site.crashAtWrite = one.when;
    await settle();
    await site.checkNobodyWaits();
  }
  // Time passes, and whoever answers at all does.
  for (let more = true; more;) {
    site.clock.advance(PAST_ALL_MS);
    await settle();
    more = [0, 1].map((index) => site.answer(index, 'good')).includes(true);
    await settle();
  }
  return site;
}

it('does what it is told once, in time, and answers', async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
      const site = await play(steps);
      expect(site.faults).toEqual([]);
      for (const { life, answer, number } of site.sent) {
        if (life === site.life) expect(answer, `the answer to ${number}`).toBeDefined();
        const what = answer === undefined ? 'none' : `${answer.status} ${answer.code ?? ''}`;
        seen.set(what, (seen.get(what) ?? 0) + 1);
      }
      // Whatever was done is not done again by the next life, which has an answer all the same.
      site.crash();
      for (const [key, number] of site.done) {
        const [name, id] = key.split('/');
        const index = DEVICES.findIndex((one) => one === name);
        site.report(index, true);
        site.send({
          kind: 'send',
          device: index,
          id: Number(id),
          points: 1,
          timeoutMs: undefined,
          expiresInMs: undefined,
        });
        await settle();
        expect(site.sent.at(-1)?.answer, `the answer to ${key}, done as ${number}`).toBeDefined();
      }
      expect(site.faults).toEqual([]);
    }),
    { numRuns: 400 },
  );
  // The runs were worth something: each of these came up.
  for (const what of [
    '200 ',
    '408 GW_COMMAND_EXPIRED',
    '500 GW_COMMAND_UNKNOWN',
    '502 exception_2',
    '504 GW_TIMEOUT',
    '504 GW_DEVICE_OFFLINE',
    'none',
  ]) {
    expect(seen.get(what), what).toBeGreaterThan(0);
  }
}, 60_000);
