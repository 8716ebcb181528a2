import { afterEach, describe, expect, it } from 'vitest';
import { GatewayError, type ErrorCode } from '../../../../src/core/errors.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { Loss, Outbox, OutboxSettings } from '../../../../src/core/outbox.ts';
import { GOOD } from '../../../../src/core/reading.ts';
import type { EventName } from '../../../../src/observe/events.ts';
import { Ingress } from '../../../../src/pipeline/ingress.ts';
import { createRouter } from '../../../../src/pipeline/route.ts';
import { createTransform } from '../../../../src/pipeline/transform.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { message, timestamp } from '../../../support/builders.ts';
import { waitFor } from '../../../support/wait.ts';

const SETTINGS: OutboxSettings = {
  maxBytes: 64 * 1024 * 1024,
  maxAgeSecs: 0,
  minFreeBytes: 0,
  whenFull: 'reject',
  commitIntervalMs: 0,
  pollCommitIntervalMs: 0,
};
const NEVER = new AbortController().signal;

/** The memory outbox behind a gate that makes appends fail or wait: the disk's faults, not a model of the outbox. */
function gated(outbox: Outbox) {
  const gate = { failures: [] as ErrorCode[], hold: Promise.resolve(), calls: [] as number[] };
  const append: Outbox['append'] = async (entries, options) => {
    gate.calls.push(entries.length);
    await gate.hold;
    const code = gate.failures.shift();
    if (code !== undefined) throw new GatewayError(code, 'The gate is closed.', { details: { policy: 'reject' } });
    return outbox.append(entries, options);
  };
  return { gate, append };
}

describe('ingress', () => {
  let memory: Outbox | undefined;
  afterEach(() => memory?.close());

  function setup(options: { upstream?: boolean } = {}) {
    const clock = new SystemClock();
    const endpoints = options.upstream === false ? [] : [{ name: '$upstream', order: 'live_first' } as const];
    const router = createRouter({ endpoints, routes: [] });
    memory = createMemoryOutbox({
      gatewayId: parseDeviceId('gateway'),
      clock,
      random: systemRandom,
      settings: SETTINGS,
      queues: router.queues,
    });
    const { gate, append } = gated(memory);
    const browse = memory.browse.bind(memory);
    const lost: Loss[] = [];
    const events: [EventName, Record<string, unknown>][] = [];
    const telemetry = { emit: (name: EventName, fields = {}) => void events.push([name, fields]) };
    const ingress = new Ingress({
      outbox: { append, reportLost: (losses) => void lost.push(...losses) },
      router,
      transform: createTransform(),
      clock,
      telemetry,
    });
    const stored = async (): Promise<string[]> =>
      (await browse({ limit: 100_000 })).map((one) => Buffer.from(one.message.body).toString());
    return { ingress, gate, stored, events, lost };
  }

  function reading(value: number) {
    const readings = [{ point: 'v', value, quality: GOOD }];
    return { deviceId: parseDeviceId('meter-1'), time: timestamp(), readings };
  }

  it('stores polled values in order, those of one tick in one append, numbered by the commit', async () => {
    const { ingress, gate, stored } = setup();
    for (let value = 1; value <= 5; value += 1) ingress.readings(reading(value));
    await waitFor(async () => (await stored()).length === 5);
    expect(gate.calls).toEqual([5]);
    expect((await stored()).map((body) => JSON.parse(body) as unknown)).toMatchObject(
      [1, 2, 3, 4, 5].map((value) => ({ seq: value, values: { v: value } })),
    );
  });

  it.each(['GW_OUTBOX_FULL', 'GW_OUTBOX_BUSY'] as const)(
    'keeps polled values through %s, pauses sources meanwhile, and loses no order',
    async (code) => {
      const { ingress, gate, stored, events, lost } = setup();
      gate.failures = [code, code];
      ingress.readings(reading(1));
      await waitFor(() => ingress.stats().paused);
      ingress.readings(reading(2));
      let resumed = false;
      const ready = ingress.ready(NEVER).then(() => (resumed = true));
      expect(resumed).toBe(false);
      await ready;
      await waitFor(async () => (await stored()).length === 2);
      expect((await stored()).map((body) => (JSON.parse(body) as { values: unknown }).values)).toEqual([
        { v: 1 },
        { v: 2 },
      ]);
      expect(events.map(([name]) => name)).toEqual(expect.arrayContaining(['ingress_paused', 'ingress_resumed']));
      expect(lost).toEqual([]);
    },
  );

  it('keeps what was packed before readings whose sender waits, in order, and though these are refused', async () => {
    const { ingress, gate, stored } = setup();
    ingress.setMessages({ pack: { maxBytes: 4096, maxMs: 60_000 } });
    ingress.readings(reading(1));
    await ingress.storeReadings(reading(2));
    ingress.readings(reading(3));
    gate.failures = ['GW_OUTBOX_FULL'];
    await expect(ingress.storeReadings(reading(4))).rejects.toMatchObject({ code: 'GW_OUTBOX_FULL' });
    await waitFor(async () => (await stored()).length === 3);
    expect((await stored()).map((body) => /"v":(\d)/.exec(body)?.[1])).toEqual(['1', '2', '3']);
  });

  it('has sources go on while the store fails, and counts what it cannot keep as lost to it', async () => {
    const { ingress, gate, stored, lost } = setup();
    gate.failures = ['GW_STORE_WRITE', 'GW_STORE_WRITE'];
    for (let value = 0; value < LIMITS.ingress_waiting_batches; value += 1) ingress.readings(reading(value));
    await waitFor(() => gate.calls.length === 1);
    for (let value = 0; value < 3; value += 1) ingress.readings(reading(LIMITS.ingress_waiting_batches + value));
    expect(ingress.stats()).toMatchObject({ waitingBatches: LIMITS.ingress_waiting_batches, paused: false });
    expect(lost).toEqual(Array.from({ length: 3 }, () => ({ deviceId: 'meter-1', count: 1, reason: 'store_error' })));
    await ingress.ready(NEVER);
    await waitFor(async () => (await stored()).length === LIMITS.ingress_waiting_batches);
  }, 60_000);

  it('bounds what waits: the oldest is counted as lost, never silently', async () => {
    const { ingress, gate, stored, lost } = setup();
    let open = (): void => {};
    gate.hold = new Promise((resolve) => (open = resolve));
    // The first append takes up to 1024 with it; the list then holds its limit.
    for (let value = 0; value < 1024; value += 1) ingress.readings(reading(value));
    await waitFor(() => gate.calls.length === 1);
    for (let value = 1024; value < 1024 + LIMITS.ingress_waiting_batches + 3; value += 1)
      ingress.readings(reading(value));
    expect(ingress.stats()).toEqual({
      waitingBatches: LIMITS.ingress_waiting_batches,
      paused: false,
      packingBytes: 0,
      unroutedInRow: 0,
    });
    expect(lost).toEqual(Array.from({ length: 3 }, () => ({ deviceId: 'meter-1', count: 1, reason: 'busy' })));
    open();
    await waitFor(() => ingress.stats().waitingBatches === 0);
    await ingress.stop(NEVER);
    const values = (await stored()).map((body) => (JSON.parse(body) as { values: { v: number } }).values.v);
    expect(values).toHaveLength(1024 + LIMITS.ingress_waiting_batches);
    expect(values.slice(1020, 1030)).toEqual([1020, 1021, 1022, 1023, 1027, 1028, 1029, 1030, 1031, 1032]);
  }, 60_000);

  it('tells a waiting sender of a failure and stores nothing of it', async () => {
    const { ingress, gate, stored } = setup();
    gate.failures = ['GW_STORE_WRITE'];
    await expect(ingress.messages([message()])).rejects.toMatchObject({ code: 'GW_STORE_WRITE' });
    await expect(ingress.messages([message({ body: Buffer.alloc(300_000) })])).rejects.toMatchObject({
      code: 'GW_MESSAGE_INVALID',
    });
    expect(await stored()).toEqual([]);
    await ingress.messages([message({ text: 'a' }), message({ text: 'b' })]);
    expect(await stored()).toEqual(['a', 'b']);
  });

  it('counts what no route takes', async () => {
    const { ingress, stored, events } = setup({ upstream: false });
    await ingress.messages([message()]);
    expect(await stored()).toEqual([]);
    expect(events.map(([name]) => name)).toContain('messages_unrouted');
    expect(ingress.stats().unroutedInRow).toBe(1);
  });

  it('stores what waits before it stops, and counts what it cannot store in time', async () => {
    const { ingress, gate, stored, lost } = setup();
    ingress.readings(reading(1));
    await ingress.stop(NEVER);
    expect(await stored()).toHaveLength(1);

    gate.failures = Array.from({ length: 1000 }, () => 'GW_STORE_WRITE' as const);
    ingress.readings(reading(2));
    await ingress.stop(AbortSignal.timeout(100));
    expect(lost).toEqual([{ deviceId: 'meter-1', count: 1, reason: 'store_error' }]);
  });
});
