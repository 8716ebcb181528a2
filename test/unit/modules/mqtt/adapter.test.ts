import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../../../modules/mqtt/adapter.ts';
import { checkMqtt } from '../../../../modules/mqtt/check-config.ts';
import { createConfiguredDialect } from '../../../../modules/mqtt/configured-dialect.ts';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import type { Judge, WritePlan } from '../../../../modules/mqtt/dialect.ts';
import { record } from './harness.ts';

const topic = 'pumps/{device_id}/state';
const SITE = { gatewayId: 'plant-7' };

it('carries what is configured of points and devices to the pipeline and the dispatcher', () => {
  const config = mqttConfig.parse({
    listen: {},
    anonymous: 'loopback',
    topics: [
      {
        topic,
        points: { flow: { pointer: '/flow', unit: 'l/min', min_interval_ms: 500, writable: true, write: { max: 10 } } },
      },
    ],
    command: { topic: 'pumps/{device_id}/set' },
    devices: { 'pump-3': { messages: { format: 'cbor' } } },
  });
  expect(checkMqtt(config, SITE)).toEqual([]);
  expect(createMqttAdapter(config, record().context).devices()).toMatchObject([
    {
      deviceId: 'pump-3',
      points: [{ name: 'flow', unit: 'l/min', writable: true, shape: { minIntervalMs: 500 }, writeRules: { max: 10 } }],
      shape: { messages: { format: 'cbor' } },
    },
  ]);
});

it.each([
  [{}, 'needs `listen`'],
  [{ listen: {}, connect: { url: 'mqtt://127.0.0.1' } }, 'cannot stand beside'],
  [{ listen: {} }, 'is empty and `anonymous` is none'],
  [{ listen: { address: '0.0.0.0' }, anonymous: 'loopback' }, 'in clear'],
  [{ connect: { url: 'mqtt://broker.example' } }, 'in clear'],
  [{ listen: {}, clients: [{ username: 'a' }] }, 'needs either `password`'],
  [{ listen: {}, anonymous: 'loopback', command: { topic } }, 'is a topic of `command`'],
  [
    {
      listen: {},
      anonymous: 'loopback',
      topics: [{ topic, points: { flow: { pointer: '/flow', write: { max: 1 } } } }],
    },
    'is not `writable: true`',
  ],
])('finds the fault of %j', (settings, words) => {
  const faults = checkMqtt(mqttConfig.parse({ topics: [{ topic }], ...settings }), SITE);
  expect(faults.map(({ message }) => message).join('; ')).toContain(words);
});

it('lets no client publish as the gateway itself', () => {
  const password = 'secret';
  const clients = [
    { username: 'plant-7', password },
    { username: 'bridge', password, devices: ['pump-3', 'plant-7'] },
    { username: 'plant-7', password, devices: ['pump-3'] },
    { username: 'tool', password, devices: ['*'] },
  ];
  const faults = checkMqtt(mqttConfig.parse({ listen: {}, topics: [{ topic }], clients }), SITE);
  expect(faults.map(({ path, message }) => `${path.join('.')}: ${message.slice(0, 40)}`)).toEqual([
    'clients.2.username: stands twice: plant-7',
    'clients.0.username: would let it publish as the gateway itse',
    'clients.1.devices.1: would let it publish as the gateway itse',
  ]);
});

it('has the usual points for a simulation of devices that tell theirs only when they speak', () => {
  const presets = ['tasmota', 'shelly'];
  const devices = {
    plug: {},
    'shellyplus1pm-a8032ab12345': { preset: 'shelly' },
    'shelly1-B929CC': { preset: 'shelly', point_defaults: { deadband: 1 } },
  };
  const config = mqttConfig.parse({ listen: {}, anonymous: 'loopback', presets, devices });
  expect(checkMqtt(config, SITE)).toEqual([]);
  const adapter = createMqttAdapter(config, record().context);
  expect(adapter.devices().map(({ points }) => points.length)).toEqual([0, 0, 0]);
  const typical = adapter.typicalDevices?.() ?? [];
  expect(typical.map(({ deviceId }) => deviceId)).toEqual(Object.keys(devices));
  expect(typical.map(({ points }) => points[0]?.name)).toEqual(['POWER', 'switch:0.output', 'relay/0']);
  expect(typical[2]?.points[1]?.shape?.deadband).toBe(1);
  const wrong = mqttConfig.parse({ listen: {}, presets, devices: { plug: { preset: 'homie' } }, anonymous: 'all' });
  expect(checkMqtt(wrong, SITE).map(({ path }) => path.join('.'))).toEqual(['devices.plug.preset']);
});

it('finds faults of shaping once, where they stand', () => {
  const broker = { listen: {}, anonymous: 'loopback' };
  const faultsOf = (settings: object): string[] =>
    checkMqtt(
      mqttConfig.parse({ ...broker, topics: [{ topic, points: { flow: { pointer: '/flow' } } }], ...settings }),
      SITE,
    ).map(({ path, message }) => `${path.join('.')}: ${message}`);
  const devices = { 'pump-3': {}, 'pump-4': { computed: { double: { expression: 'flux * 2' } } } };
  expect(faultsOf({ devices })).toEqual([
    expect.stringMatching(/^devices\.pump-4\.computed\.double\.expression: .*"flux"/),
  ]);
  // What a preset finds is known when it speaks.
  expect(faultsOf({ devices, presets: ['tasmota'] })).toEqual([]);
  const points = { flow: { pointer: '/flow', clamp: { min: 2, max: 1 } } };
  expect(faultsOf({ devices: { 'pump-3': {}, 'pump-4': {} }, topics: [{ topic, points }] })).toEqual([
    expect.stringMatching(/^topics\.0\.points\.flow\.clamp\.min: /),
  ]);
});

it('tells what values its points have', () => {
  const points = { a: { pointer: '/a', type: 'integer' }, b: { pointer: '/b' } };
  const config = mqttConfig.parse({ listen: {}, topics: [{ topic, points }], devices: { 'pump-3': {} } });
  const [device] = createMqttAdapter(config, record().context).devices();
  expect(device?.points.map(({ values }) => values)).toEqual([{ kind: 'integer' }, undefined]);
});

function judgeOf(plan: WritePlan | undefined): Judge {
  if (plan?.confirmedBy !== 'answer' || plan.judge === undefined) throw new Error('It is not confirmed by an answer.');
  return plan.judge;
}

it('scales values where it decodes them, and turns writes back', () => {
  const points = {
    level: { pointer: '/level', type: 'integer', scale: 0.01, offset: -1, writable: true },
    mode: { pointer: '/mode', scale: 2 },
  };
  const config = mqttConfig.parse({
    listen: {},
    topics: [{ topic, points }],
    command: { topic: 'pumps/{device_id}/set', response_topic: 'pumps/{device_id}/done' },
    devices: { 'pump-3': {} },
  });
  const dialect = createConfiguredDialect(config);
  const payload = Buffer.from('{"level":1234,"mode":"auto"}');
  const understood = dialect.understand({ topic: 'pumps/pump-3/state', payload, replayed: false });
  expect(understood?.told[0]?.readings?.map(({ value }) => value)).toEqual([11.34, 'auto']);
  const plan = dialect.planWrite('pump-3', 'level', 11.34);
  expect(plan?.publish.map((publish) => Buffer.from(publish.payload).toString())).toEqual(['{"level":1234}']);
  expect(judgeOf(plan)('1234')).toEqual({ value: 11.34 });
  for (const wrong of [true, 11.345]) {
    expect(() => dialect.planWrite('pump-3', 'level', wrong)).toThrow(/"level" of "pump-3" takes a/);
  }
  const [device] = createMqttAdapter(config, record().context).devices();
  expect(device?.points.map(({ values, shape }) => [values?.kind, shape?.scale, shape?.offset])).toEqual([
    ['number', undefined, undefined],
    ['number', undefined, undefined],
  ]);
});
