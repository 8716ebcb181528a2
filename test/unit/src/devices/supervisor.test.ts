import { afterEach, describe, expect, it } from 'vitest';
import type { Adapter, AdapterContext, PointWrite } from '../../../../src/core/adapter.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { GOOD } from '../../../../src/core/reading.ts';
import { AdapterSupervisor, type AdapterPlan } from '../../../../src/devices/adapter-supervisor.ts';
import { createDeviceRegistry } from '../../../../src/devices/device-registry.ts';
import { createDispatcher } from '../../../../src/devices/dispatcher.ts';
import { createPointCache } from '../../../../src/devices/point-cache.ts';
import type { EventName } from '../../../../src/observe/events.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { Ingress } from '../../../../src/pipeline/ingress.ts';
import { createRouter } from '../../../../src/pipeline/route.ts';
import { createTransform } from '../../../../src/pipeline/transform.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { timestamp } from '../../../support/builders.ts';
import { waitFor } from '../../../support/wait.ts';
import { memorySpace } from '../../../support/state.ts';

const NEVER = new AbortController().signal;
const meter = parseDeviceId('meter-1');

/** The smallest adapter: one device, one writable and one readable point; its faults are set by the test. */
class TestAdapter implements Adapter {
  readonly context: AdapterContext;
  starts = 0;
  stopped = false;
  failStarts = 0;
  written: PointWrite[] = [];
  write = (write: PointWrite, signal: AbortSignal) => {
    this.written.push(write);
    if (write.value === 'hang') {
      return new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new GatewayError('GW_ABORTED', 'Stopped.')), { once: true });
      });
    }
    return Promise.resolve({ readBack: write.value, quality: GOOD });
  };

  constructor(context: AdapterContext, failStarts: number) {
    this.context = context;
    this.failStarts = failStarts;
  }

  devices() {
    const points = [
      { name: 'setpoint', address: 'holding:0', writable: true },
      { name: 'voltage', address: 'input:0', writable: false },
    ];
    return [{ deviceId: meter, points }];
  }

  start(): Promise<void> {
    this.starts += 1;
    if (this.starts <= this.failStarts) {
      return Promise.reject(new GatewayError('GW_PORT_IN_USE', 'The port is taken.'));
    }
    return Promise.resolve();
  }

  stop(_signal: AbortSignal): Promise<void> {
    this.stopped = true;
    return Promise.resolve();
  }

  health() {
    return { status: 'running' } as const;
  }
}

describe('adapter supervisor and dispatcher', () => {
  const cleanups: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0)) await cleanup();
  });

  function setup(failStarts = 0) {
    const real = new SystemClock();
    // Restarts wait a second and more in the field; the order of waits is what matters here.
    const waits: number[] = [];
    const clock = Object.assign(Object.create(real) as SystemClock, {
      bootId: real.bootId,
      monotonicMs: () => real.monotonicMs(),
      wallMs: () => real.wallMs(),
      now: () => real.now(),
      after: (ms: number, callback: () => void) => real.after(Math.min(ms, 20), callback),
      sleep: (ms: number, signal?: AbortSignal) => {
        waits.push(ms);
        return real.sleep(1, signal);
      },
    });
    const router = createRouter({ endpoints: [{ name: '$upstream', order: 'live_first' }], routes: [] });
    const outbox = createMemoryOutbox({
      gatewayId: parseDeviceId('gateway'),
      clock: real,
      random: systemRandom,
      settings: {
        maxBytes: 1e7,
        maxAgeSecs: 0,
        minFreeBytes: 0,
        whenFull: 'drop_oldest',
        commitIntervalMs: 0,
        pollCommitIntervalMs: 0,
      },
      queues: router.queues,
    });
    const events: [EventName, Record<string, unknown>][] = [];
    const telemetry = { emit: (name: EventName, fields = {}) => void events.push([name, fields]) };
    const transform = createTransform();
    const ingress = new Ingress({ outbox, router, transform, clock: real, telemetry });
    const registry = createDeviceRegistry(real, telemetry);
    const points = createPointCache();
    const meters = { exchange: () => {}, poll: () => {} };
    const supervisor = new AdapterSupervisor({
      gatewayId: parseDeviceId('gateway'),
      ingress,
      transform,
      registry,
      points,
      meters,
      clock,
      log: silentLogger,
      telemetry,
      dataDirectory: '/nowhere',
      captureDirectory: '/nowhere',
      stateOf: () => memorySpace(),
    });
    const dispatcher = createDispatcher({
      registry,
      adapterOf: (id) => supervisor.adapterOf(id),
      clock,
      telemetry,
      commands: memorySpace(),
      audit: memorySpace(),
      writeRates: memorySpace(),
    });
    const made: TestAdapter[] = [];
    const plan: AdapterPlan = {
      adapterId: 'bus-1',
      type: 'test',
      create: (context) => {
        const adapter = new TestAdapter(context, failStarts);
        made.push(adapter);
        return Promise.resolve(adapter);
      },
    };
    cleanups.push(async () => {
      await supervisor.stop(NEVER);
      await outbox.close();
    });
    return { supervisor, dispatcher, registry, points, outbox, plan, made, events, waits };
  }

  it('starts again what could not start, with backoff, and shows why meanwhile', async () => {
    const { supervisor, plan, made, events, waits } = setup(6);
    await supervisor.add(plan);
    expect(supervisor.status()[0]?.health).toEqual({ status: 'failed', reason: 'The port is taken.' });
    await waitFor(() => supervisor.status()[0]?.health.status === 'running');
    expect(made).toHaveLength(1);
    expect(made[0]?.starts).toBe(7);
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000]);
    expect(events.filter(([name]) => name === 'adapter_failed')).toHaveLength(6);
  });

  it('stops while it waits for a restart, and keeps an adapter that cannot be built away from the others', async () => {
    const { supervisor, plan } = setup(1_000_000);
    await supervisor.add(plan);
    await supervisor.add({ ...plan, adapterId: 'bus-2', create: () => Promise.reject(new Error('Broken module.')) });
    expect(supervisor.status().map(({ health }) => health.reason)).toEqual(['The port is taken.', 'Broken module.']);
    await supervisor.stop(NEVER);
  });

  it('carries readings to cache and outbox, and states to the registry', async () => {
    const { supervisor, plan, made, points, registry, outbox } = setup();
    await supervisor.add(plan);
    const context = made[0]?.context as AdapterContext;
    context.publishReadings({
      deviceId: meter,
      time: timestamp(),
      readings: [{ point: 'voltage', value: 230, quality: GOOD }],
    });
    context.reportDevice(meter, 'good');
    expect(points.point(meter, 'voltage')?.value).toBe(230);
    expect(registry.get(meter)).toMatchObject({ adapterId: 'bus-1', state: 'good' });
    await waitFor(() => outbox.stats().messages === 1);
    // What was true once is stored, and is no present value.
    const readings = [{ point: 'voltage', value: 110, quality: GOOD }];
    await context.storeReadings({ deviceId: meter, time: timestamp(), readings, isHistorical: true });
    expect(points.point(meter, 'voltage')?.value).toBe(230);
    expect(outbox.stats().messages).toBe(2);
  });

  it('tells the caveat of a plan beside what the adapter says', async () => {
    const { supervisor, plan } = setup(1_000_000);
    await supervisor.add({ ...plan, caveat: 'It is replayed.' });
    expect(supervisor.status()[0]?.health).toEqual({ status: 'failed', reason: 'The port is taken. It is replayed.' });
  });

  it('leaves an adapter behind that does not stop, says so, and lets its successor work', async () => {
    const { supervisor, plan, made, registry, events } = setup();
    await supervisor.add(plan);
    const [stuck] = made;
    registry.report(meter, 'good');
    let end: () => void = () => {};
    const never = new Promise<void>((resolve) => (end = resolve));
    let hurried: AbortSignal | undefined;
    stuck!.stop = (signal) => {
      hurried = signal;
      return never;
    };
    const removed = supervisor.remove('bus-1', NEVER, { keepDevices: true });
    expect(supervisor.status()[0]?.health).toEqual({ status: 'draining', reason: 'It is being stopped.' });
    await removed;
    expect(hurried?.aborted).toBe(true);
    expect(supervisor.status()).toMatchObject([{ adapterId: 'bus-1', health: { status: 'failed' } }]);
    await supervisor.add(plan);
    expect(supervisor.status()).toMatchObject([{ adapterId: 'bus-1', health: { status: 'degraded' } }]);
    expect(supervisor.status()[0]?.health.reason).toContain('has not ended');
    expect(events.filter(([name]) => name === 'adapter_left_behind')).toEqual([
      ['adapter_left_behind', { adapter: 'bus-1' }],
    ]);
    stuck!.context.reportDevice(meter, 'offline');
    expect(registry.get(meter)?.state).toBe('good');
    end();
    await waitFor(() => supervisor.status()[0]?.health.status === 'running');
    expect(supervisor.status()).toHaveLength(1);
  });

  it('stops in its time whatever an adapter does, and waits for no start for ever', async () => {
    const { supervisor, plan, made, events } = setup();
    const stuck = new Promise<never>(() => {});
    const create: AdapterPlan['create'] = (context) => {
      const adapter = new TestAdapter(context, 0);
      made.push(adapter);
      adapter.start = () => stuck;
      return Promise.resolve(adapter);
    };
    await supervisor.add({ ...plan, adapterId: 'bus-2', create });
    await supervisor.add({ ...plan, adapterId: 'bus-3', create: () => stuck });
    await supervisor.add(plan);
    made[1]!.stop = () => stuck;
    await supervisor.remove('bus-1', NEVER);
    await supervisor.stop(NEVER);
    const left = events.filter(([name]) => name === 'adapter_left_behind').map(([, { adapter }]) => String(adapter));
    expect(left.toSorted((a, b) => a.localeCompare(b))).toEqual(['bus-1', 'bus-1', 'bus-2', 'bus-3']);
  });

  it('forgets devices with their adapter, but not when a new plan of it follows', async () => {
    const { supervisor, plan, registry, made } = setup();
    await supervisor.add(plan);
    registry.report(meter, 'good');
    await supervisor.remove('bus-1', NEVER, { keepDevices: true });
    expect(made[0]?.stopped).toBe(true);
    expect(registry.get(meter)?.state).toBe('good');
    await supervisor.add(plan);
    await supervisor.remove('bus-1', NEVER);
    expect(registry.list()).toEqual([]);
    expect(supervisor.adapterOf(meter)).toBeUndefined();
  });

  it('writes through one door: checked, told, bounded in time', async () => {
    const { supervisor, dispatcher, registry, plan, made, events } = setup();
    const write = (point: string, value: PointWrite['value'], deviceId = meter) =>
      // The clock of the test waits 20 ms at most; what a slow machine takes for the rest is within the time all the same.
      dispatcher.write({ deviceId, point, value }, { actor: 'test', timeoutMs: 20_000 });
    await expect(write('setpoint', 1)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await supervisor.add(plan);
    await expect(write('setpoint', 1)).rejects.toMatchObject({ code: 'GW_DEVICE_OFFLINE' });
    registry.report(meter, 'good');
    await expect(write('setpoint', 1)).resolves.toMatchObject({ readBack: 1 });
    await expect(write('missing', 1)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await expect(write('voltage', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write('setpoint', 1, parseDeviceId('meter-2'))).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await expect(write('setpoint', 'hang')).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
    expect(made[0]?.written.map(({ value }) => value)).toEqual([1, 'hang']);
    expect(events.filter(([name]) => name === 'point_written')).toHaveLength(1);
    expect(events.filter(([name]) => name === 'point_write_failed')).toHaveLength(6);
  });
});
