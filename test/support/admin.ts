// The admin port over real parts, with two devices and an outbox in memory, for tests of whoever asks it.

import { createAdmin, type AdminOptions } from '../../src/admin/admin.ts';
import { createHubAdmin } from '../../src/admin/hub-admin.ts';
import type { Adapter, PointWrite, WriteResult } from '../../src/core/adapter.ts';
import type { AdminApi, ConfigAdmin } from '../../src/core/admin.ts';
import { parseDeviceId, type DeviceId } from '../../src/core/device.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { Outbox } from '../../src/core/outbox.ts';
import { GOOD } from '../../src/core/reading.ts';
import type { HealthReport } from '../../src/core/service.ts';
import { createDeviceRegistry, type DeviceRegistry } from '../../src/devices/device-registry.ts';
import { createDispatcher } from '../../src/devices/dispatcher.ts';
import { createPointCache, type PointCache } from '../../src/devices/point-cache.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { createTelemetry, type TelemetryHub } from '../../src/observe/telemetry.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { startEventLoopMeter } from '../../src/platform/event-loop.ts';
import { createHostMonitor } from '../../src/platform/host.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createMemoryOutbox } from '../../src/store/memory-outbox.ts';
import { message } from './builders.ts';
import { memorySpace } from './state.ts';

export interface AdminHarness extends AsyncDisposable {
  readonly admin: AdminApi;
  readonly outbox: Outbox;
  readonly registry: DeviceRegistry;
  readonly points: PointCache;
  readonly telemetry: TelemetryHub;
  /** Writes that reached the adapter. */
  readonly writes: PointWrite[];
  /** What the outbox, as an essential part, says of itself. */
  outboxHealth: HealthReport;
  stalled: string[];
  started: boolean;
  /** A new reading of `voltage` and `energy` of meter-1. */
  read(voltage: number, energy?: bigint): void;
  /** Stores that many messages of meter-1. */
  store(count: number, body?: Uint8Array): Promise<void>;
  /** Has the upstream queue refuse its next message for good. */
  quarantineOne(reason: string): Promise<void>;
}

const METER = parseDeviceId('meter-1');
const PUMP = parseDeviceId('pump-3');

/** A slave in memory: holds what is written. */
function createAdapter(writes: PointWrite[]): Adapter {
  return {
    devices: () => [],
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    health: () => ({ status: 'running' }),
    write(write): Promise<WriteResult> {
      writes.push(write);
      if (write.value === 13)
        return Promise.reject(new GatewayError('GW_DEVICE_OFFLINE', 'Pump pump-3 does not answer.'));
      return Promise.resolve({ readBack: write.value, quality: GOOD });
    },
  };
}

function checkBase(base: number): void {
  if (base !== 4) throw new GatewayError('GW_CONFIG_CONFLICT', 'Generation 4 is the newest.');
}

const config: ConfigAdmin = {
  view: () => ({ generation: 4, state: 'healthy', path: '/x/fieldpost.yaml', degraded: false, faults: [] }),
  generations: () => Promise.resolve([{ number: 4, state: 'healthy', actor: 'file', at: '2026-01-02T03:04:05.678Z' }]),
  read: (generation) =>
    generation === 4
      ? Promise.resolve('version: 1\n')
      : Promise.reject(new GatewayError('GW_NOT_FOUND', 'No such generation.')),
  check: (text) => Promise.resolve({ faults: text === 'bad' ? ['x.yaml:1: bad'] : [], changes: [] }),
  checkBase,
  propose: async ({ base, actor }) => {
    checkBase(base);
    return Promise.resolve({ number: 5, state: 'healthy', actor, at: '2026-01-02T03:04:05.678Z', base });
  },
  confirm: () => Promise.resolve(),
  revert: () => Promise.resolve(),
};

export function createAdminHarness(overrides: Partial<AdminOptions> = {}): AdminHarness {
  const clock = new SystemClock();
  const metrics = createMetrics();
  const telemetry = createTelemetry({ log: silentLogger, clock, counters: metrics.counters });
  const registry = createDeviceRegistry(clock, telemetry);
  const points = createPointCache();
  const writes: PointWrite[] = [];
  const adapter = createAdapter(writes);
  const outbox = createMemoryOutbox({
    gatewayId: parseDeviceId('plant-7'),
    clock,
    random: systemRandom,
    settings: {
      maxBytes: 1024 * 1024 * 1024,
      maxAgeSecs: 0,
      minFreeBytes: 0,
      whenFull: 'drop_oldest',
      commitIntervalMs: 0,
      pollCommitIntervalMs: 0,
    },
    queues: [{ name: '$upstream', takes: 'all', order: 'live_first' }],
  });
  const eventLoop = startEventLoopMeter(clock);
  const voltage = { name: 'voltage', address: 'input:0 float32', unit: 'V', writable: false };
  const energy = { name: 'energy', address: 'holding:2 uint64', unit: 'kWh', writable: false };
  const setpoint = { name: 'setpoint', address: 'holding:0 uint16', writable: true };
  const devices = [
    { deviceId: METER, points: [voltage, energy] },
    { deviceId: PUMP, points: [setpoint, { ...setpoint, name: 'sealed', writable: false }] },
  ];
  registry.setAdapter('bus-1', devices);
  for (const device of devices) points.setDevice(device);
  // Nothing is written to a device that is not good.
  registry.report(PUMP, 'good');

  const harness: AdminHarness = {
    outbox,
    registry,
    points,
    telemetry,
    writes,
    outboxHealth: { status: 'running' },
    stalled: [],
    started: true,
    read(volts, counter = 2n ** 60n) {
      const readings = [
        { point: 'voltage', value: volts, quality: GOOD },
        { point: 'energy', value: counter, quality: GOOD },
      ];
      points.update({ deviceId: METER, time: clock.now(), readings });
    },
    async store(count, body = Buffer.from('{"a":1}')) {
      const entries = Array.from({ length: count }, () => ({
        message: message({ device: METER, body, time: clock.now() }),
        queues: [],
      }));
      await outbox.append(entries);
    },
    async quarantineOne(reason) {
      const queue = outbox.queue('$upstream');
      const [first] = await queue.take('live', { maxMessages: 1, maxBytes: 1_000_000 });
      if (first === undefined) throw new Error('There is no message to refuse.');
      await queue.settle([{ offset: first.offset, outcome: 'rejected', reason }]);
    },
    admin: createAdmin({
      gatewayId: parseDeviceId('plant-7'),
      version: '0.1.0',
      clock,
      outbox,
      outboxHealth: () => harness.outboxHealth,
      registry,
      points,
      dispatcher: createDispatcher({
        registry,
        adapterOf: (_deviceId: DeviceId) => adapter,
        clock,
        telemetry,
        commands: memorySpace(),
        audit: memorySpace(),
        writeRates: memorySpace(),
      }),
      adapters: () => [
        { adapterId: 'bus-1', type: 'modbus', health: { status: 'running' }, lastProgressMs: undefined },
      ],
      endpoints: () => [],
      config,
      hub: createHubAdmin({ hub: () => undefined, config: () => undefined, clock }),
      scan: () => Promise.reject(new GatewayError('GW_NOT_FOUND', 'Nothing can be scanned here.')),
      parts: () => [],
      stalled: () => harness.stalled,
      started: () => harness.started,
      metrics,
      telemetry,
      eventLoop,
      host: createHostMonitor(clock, '/'),
      ...overrides,
    }),
    async [Symbol.asyncDispose]() {
      eventLoop.stop();
      telemetry.close();
      await outbox.close();
    },
  };
  return harness;
}
