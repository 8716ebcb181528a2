import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { modbus } from '../../../../modules/modbus/index.ts';
import { mqtt } from '../../../../modules/mqtt/index.ts';
import { serial } from '../../../../modules/serial/index.ts';
import type { AdapterConfig } from '../../../../src/config/config.ts';
import type { Adapter, AdapterContext, PointInfo, ValueKind } from '../../../../src/core/adapter.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { Message } from '../../../../src/core/message.ts';
import { GOOD } from '../../../../src/core/reading.ts';
import type { WriteRules } from '../../../../src/core/write-rules.ts';
import { simulatedValue } from '../../../../src/devices/simulated-value.ts';
import { adapterPlan } from '../../../../src/gateway/modules.ts';
import { message, timestamp } from '../../../support/builders.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';
import { NEVER, record, type Recording } from '../../modules/modbus/harness.ts';

const METER = parseDeviceId('meter');

const points = {
  voltage: { register: 'input:0', type: 'float32', unit: 'V' },
  energy: { register: 'input:2', type: 'uint32', scale: 0.1, unit: 'kWh' },
  relay: { register: 'coil:0', writable: true },
  setpoint: { register: 'holding:0', type: 'int16', scale: 0.5, min: 10, max: 30, unit: '°C', writable: true },
  state: { register: 'holding:1', enum: { 0: 'off', 1: 'on' } },
  serial: { register: 'holding:2', type: 'string', length_registers: 4 },
};

function config(devices: Record<string, object>, simulate = false): AdapterConfig {
  const settings = modbus.config.parse({
    transport: { kind: 'tcp', host: '127.0.67.1', port: 9 },
    devices,
  });
  return { id: 'bus-1', type: 'modbus', enabled: true, simulate, settings };
}

async function build(adapter: AdapterConfig, recording: Recording, simulateAll = false): Promise<Adapter> {
  return adapterPlan(adapter, [modbus], simulateAll).create(recording.context);
}

describe('a simulated device', () => {
  it('gives values of the right kinds at the rate of its polls, and never touches the wire', async () => {
    const clock = new ManualClock();
    const recording = record({ clock });
    const adapter = await build(config({ meter: { simulate: true, poll_interval_ms: 500, points } }), recording);
    await adapter.start(NEVER);
    for (let step = 0; step < 4; step += 1) clock.advance(500);
    expect(recording.batches).toHaveLength(5);
    expect(recording.exchanges).toEqual([]);
    expect(recording.states).toMatchObject([{ device: 'meter', state: 'good', reason: 'simulated' }]);
    expect(adapter.health()).toEqual({ status: 'degraded', reason: '1 of its devices is simulated.' });
    expect(adapter.devices()).toMatchObject([
      { deviceId: 'meter', points: [{ name: 'voltage', unit: 'V' }, {}, {}, {}, {}, {}] },
    ]);
    const values = (name: string) =>
      recording.batches.map(({ readings }) => readings.find(({ point }) => point === name)?.value);
    for (const volts of values('voltage')) expect(Math.abs(Number(volts) - 230)).toBeLessThan(5);
    expect(new Set(values('voltage')).size).toBeGreaterThan(1);
    const energy = values('energy').map(Number);
    expect(energy).toEqual(energy.toSorted((a, b) => a - b));
    expect(values('relay')).toEqual([false, false, false, false, false]);
    expect(['off', 'on']).toContain(values('state')[0]);
    expect(typeof values('serial')[0]).toBe('string');
    await adapter.stop(NEVER);
    clock.advance(10_000);
    expect(recording.batches).toHaveLength(5);
    expect(adapter.health()).toEqual({ status: 'stopped' });
  });

  it('makes up no value of a computed point, which the pipeline computes', async () => {
    const recording = record({ clock: new ManualClock() });
    const computed = { double: { expression: 'voltage * 2' } };
    const adapter = await build(config({ meter: { simulate: true, points, computed } }), recording);
    await adapter.start(NEVER);
    expect(adapter.devices()[0]?.points.map(({ name }) => name)).toContain('double');
    expect(recording.batches[0]?.readings.map(({ point }) => point)).toEqual(Object.keys(points));
  });

  it('keeps what is written, and refuses what a real one would', async () => {
    const clock = new ManualClock();
    const recording = record({ clock });
    const adapter = await build(config({ meter: { simulate: true, points } }), recording);
    await adapter.start(NEVER);
    const write = (point: string, value: number | boolean | string) =>
      adapter.write?.({ deviceId: METER, point, value }, NEVER);
    expect(await write('relay', true)).toEqual({
      readBack: true,
      quality: { level: 'uncertain', reason: 'simulated' },
    });
    expect(await write('setpoint', 21.5)).toMatchObject({ readBack: 21.5 });
    clock.advance(1000);
    expect(recording.value('meter', 'relay')).toBe(true);
    expect(recording.value('meter', 'setpoint')).toBe(21.5);
    await expect(write('setpoint', 31)).rejects.toMatchObject({
      code: 'GW_WRITE_REFUSED',
      message: expect.stringContaining('at most 30'),
    });
    await expect(write('setpoint', 9)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write('relay', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write('voltage', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write('absent', 1)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    await adapter.stop(NEVER);
  });

  it.each([
    ['made_up', 'takes at most 30'],
    ['real', 'it takes 10 to 30'],
  ])('tells what cannot be written before it is, and so does a real one beside it (%s)', async (device, words) => {
    const adapter = await build(config({ made_up: { simulate: true, points }, real: { points } }), record());
    const check = (value: number) =>
      adapter.checkWrite?.({ deviceId: parseDeviceId(device), point: 'setpoint', value });
    expect(() => check(30)).not.toThrow();
    expect(() => check(31)).toThrow(words);
    await adapter.stop(NEVER);
  });

  it('stands beside real ones', async () => {
    const recording = record();
    const adapter = await build(config({ made_up: { simulate: true, points }, real: { points } }), recording);
    expect(
      adapter
        .devices()
        .map(({ deviceId }) => deviceId)
        .toSorted(),
    ).toEqual(['made_up', 'real']);
    await adapter.stop(NEVER);
  });

  it.each([
    ['the adapter', true, false],
    ['the gateway', false, true],
  ])('is every device when %s says so, but one that replays', async (_who, ofAdapter, ofGateway) => {
    const recording = record();
    const devices = { a: { points }, b: { points }, c: { replay: { file: 'c.jsonl' }, points } };
    const adapter = await build(config(devices, ofAdapter), recording, ofGateway);
    await adapter.start(NEVER);
    expect(recording.states.map(({ device, reason }) => [device, reason])).toEqual([
      ['a', 'simulated'],
      ['b', 'simulated'],
    ]);
    expect(adapter.health().reason).toContain('2 of its devices are simulated.');
    await adapter.stop(NEVER);
  });
});

describe('a simulated value', () => {
  const point = (fields: {
    unit?: string;
    values?: ValueKind;
    writable?: boolean;
    writeRules?: WriteRules;
  }): PointInfo => ({
    name: 'x',
    address: '',
    writable: false,
    ...fields,
  });
  const year = Array.from({ length: 200 }, (_, index) => Date.UTC(2026, 2, 1) + index * 17_000);

  it.each([
    [{ unit: 'Hz' }, 49.9, 50.1],
    [{ unit: '°C', values: { kind: 'integer' } as const }, 18, 26],
    [{ unit: 'l', values: { kind: 'number', min: 0, max: 100 } as const }, 0, 100],
    [{ unit: 'V', values: { kind: 'number', min: 23, max: 25 } as const }, 23, 25],
    [{ values: { kind: 'number', max: 10 } as const }, -1000, 10],
    [{ unit: 'l', writeRules: { min: 10, max: 1000 } }, 10, 1000],
    [{ unit: 'l', values: { kind: 'number', min: 0, max: 50 } as const, writeRules: { min: 40, max: 1000 } }, 40, 50],
  ])('of %j stays within %d and %d, and moves', (fields, min, max) => {
    const values = year.map((atMs) => Number(simulatedValue(point(fields), 'meter', atMs)));
    expect(Math.min(...values)).toBeGreaterThanOrEqual(min);
    expect(Math.max(...values)).toBeLessThanOrEqual(max);
    if (min > -1000) expect(new Set(values).size).toBeGreaterThan(3);
  });

  it.each([
    [undefined, [1, 2, 3], '1'],
    [{ kind: 'integer' } as const, [-1, '9007199254740993', 7], '9007199254740993'],
    [{ kind: 'text' } as const, [1, 'auto'], 'auto'],
    [{ kind: 'boolean' } as const, [true], 'true'],
  ])('of %j with only %j allowed is %s', (values, allowed, wanted) => {
    const fields = { ...(values !== undefined && { values }), writable: true, writeRules: { min: 0, allowed } };
    expect(String(simulatedValue(point(fields), 'meter', 0))).toBe(wanted);
  });

  it('differs from device to device, and is the same again at the same time', () => {
    const at = (device: string) => simulatedValue(point({ unit: 'W' }), device, year[0] ?? 0);
    expect(at('a')).toBe(at('a'));
    expect(at('a')).not.toBe(at('b'));
  });
});

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

describe('the other adapters', () => {
  const decode = { kind: 'regex', pattern: '^W (?<weight>[0-9.]+) kg$', types: { weight: 'number' } };
  const topics = [
    { topic: 'site/{device_id}/state', points: { lamp: { pointer: '/lamp', type: 'boolean', writable: true } } },
  ];

  it('simulates a serial instrument at its pace without its port', async () => {
    const clock = new ManualClock();
    const recording = record({ clock });
    const devices = {
      scale: { simulate: true, request: 'W', decode, poll_interval_ms: 200, points: { weight: { unit: 'kg' } } },
    };
    const settings = serial.config.parse({ path: '/nowhere', devices });
    const plan = adapterPlan({ id: 'line', type: 'serial', enabled: true, simulate: false, settings }, [serial]);
    const adapter = await plan.create(recording.context);
    await adapter.start(NEVER);
    clock.advance(200);
    expect(recording.batches.map(({ readings }) => readings)).toMatchObject([
      [{ point: 'weight', unit: 'kg', quality: { level: 'uncertain', reason: 'simulated' } }],
      [{ point: 'weight' }],
    ]);
    expect(typeof recording.value('scale', 'weight')).toBe('number');
    await adapter.stop(NEVER);
  });

  it('simulates one MQTT device beside real ones, which may not speak as it', async () => {
    const seen: string[] = [];
    const recording = record({ addDevice: ({ deviceId }) => void seen.push(deviceId) });
    const devices = { 'greenhouse-1': { simulate: true }, 'greenhouse-2': {} };
    const settings = mqtt.config.parse({
      listen: { port: 1 },
      topics,
      command: { topic: 'site/{device_id}/set' },
      devices,
    });
    const plan = adapterPlan({ id: 'broker', type: 'mqtt', enabled: true, simulate: false, settings }, [
      {
        ...mqtt,
        load: () =>
          Promise.resolve((_config: unknown, context: AdapterContext) => ({
            devices: () =>
              Object.keys((_config as { devices: object }).devices).map((id) => ({
                deviceId: parseDeviceId(id),
                points: [],
              })),
            start: () => {
              for (const id of ['greenhouse-1', 'greenhouse-3'])
                context.addDevice({ deviceId: parseDeviceId(id), points: [] });
              return Promise.resolve();
            },
            stop: () => Promise.resolve(),
            health: () => ({ status: 'running' as const }),
          })),
      },
    ]);
    const adapter = await plan.create(recording.context);
    await adapter.start(NEVER);
    expect(seen).toEqual(['greenhouse-3']);
    expect(adapter.devices().map(({ deviceId }) => deviceId)).toEqual(['greenhouse-2', 'greenhouse-1']);
    await adapter.stop(NEVER);
  });

  it('runs the broker although every configured device is simulated, and asks nothing of another broker', async () => {
    const devicesOf = (others: unknown): object => (others as { readonly devices: object }).devices;
    const startedWith = async (carrier: object): Promise<unknown[]> => {
      const started: unknown[] = [];
      const settings = mqtt.config.parse({ ...carrier, topics, devices: { pump: {} } });
      const load = () =>
        Promise.resolve((others: unknown) => ({
          devices: () => Object.keys(devicesOf(others)).map((id) => ({ deviceId: parseDeviceId(id), points: [] })),
          start: () => Promise.resolve(void started.push(devicesOf(others))),
          stop: () => Promise.resolve(),
          health: () => ({ status: 'running' as const }),
        }));
      const config = { id: 'broker', type: 'mqtt', enabled: true, simulate: false, settings };
      const adapter = await adapterPlan(config, [{ ...mqtt, load }], true).create(record().context);
      await adapter.start(NEVER);
      await adapter.stop(NEVER);
      return started;
    };
    expect(await startedWith({ listen: { port: 1 } })).toEqual([{}]);
    expect(await startedWith({ connect: { url: 'mqtt://127.0.0.1' } })).toEqual([]);
  });

  it('marks what a capture says, and health tells of it', async () => {
    const messages: Message[] = [];
    const publishMessages = (all: readonly Message[]) => Promise.resolve(void messages.push(...all));
    const recording = record({ publishMessages });
    const settings = { devices: { plug: { replay: { file: 'plug.jsonl' } }, pump: {} } };
    const [plug, pump] = [parseDeviceId('plug'), parseDeviceId('pump')];
    const load = () =>
      Promise.resolve((_config: unknown, context: AdapterContext) => ({
        devices: () => [],
        async start() {
          for (const deviceId of [plug, pump]) {
            const lost = { point: 'lost', quality: { level: 'bad', reason: 'timeout' } } as const;
            const readings = [{ point: 'power', value: 7, quality: GOOD }, lost];
            context.publishReadings({ deviceId, time: timestamp(), readings });
            context.reportDevice(deviceId, 'good');
            await context.publishMessages([message({ deviceId })]);
          }
        },
        stop: () => Promise.resolve(),
        health: () => ({ status: 'running' as const }),
      }));
    const plan = adapterPlan({ id: 'b', type: 'mqtt', enabled: true, simulate: false, settings }, [{ ...mqtt, load }]);
    expect(plan.caveat).toBe('1 of its devices is replayed.');
    const adapter = await plan.create(recording.context);
    await adapter.start(NEVER);
    const replayed = { level: 'uncertain', reason: 'replayed' };
    const lost = { level: 'bad', reason: 'timeout' };
    expect(recording.batches.map(({ readings }) => readings.map(({ quality }) => quality))).toEqual([
      [replayed, lost],
      [GOOD, lost],
    ]);
    expect(messages.map(({ properties }) => properties['fieldpost-quality'])).toEqual([
      'uncertain:replayed',
      undefined,
    ]);
    expect(recording.states.map(({ reason }) => reason)).toEqual(['replayed', undefined]);
  });

  it('connects to no other broker on a desk, not even for devices that nobody configured', async () => {
    const connected: string[] = [];
    const started = async (name: string, simulateAll: boolean): Promise<Adapter> => {
      const server = createServer((socket) => {
        connected.push(name);
        socket.destroy();
      }).listen(0, '127.0.0.1');
      servers.push(server);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const settings = mqtt.config.parse({ connect: { url: `mqtt://127.0.0.1:${port}` }, presets: ['tasmota'] });
      const config = { id: name, type: 'mqtt', enabled: true, simulate: false, settings };
      const adapter = await adapterPlan(config, [mqtt], simulateAll).create(record().context);
      await adapter.start(NEVER);
      return adapter;
    };
    const desk = await started('desk', true);
    expect(desk.health()).toEqual({ status: 'degraded', reason: expect.stringContaining('is simulated') as string });
    const site = await started('site', false);
    await waitFor(() => connected.includes('site'));
    expect(connected).not.toContain('desk');
    await Promise.all([desk.stop(NEVER), site.stop(NEVER)]);
  });
});
