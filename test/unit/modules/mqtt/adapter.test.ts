import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../../../modules/mqtt/adapter.ts';
import { checkMqtt } from '../../../../modules/mqtt/check-config.ts';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import { record } from './harness.ts';

const topic = 'pumps/{device_id}/state';

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
  expect(checkMqtt(config)).toEqual([]);
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
  [
    {
      listen: {},
      anonymous: 'loopback',
      topics: [{ topic, points: { flow: { pointer: '/flow', write: { max: 1 } } } }],
    },
    'is not `writable: true`',
  ],
])('finds the fault of %j', (settings, words) => {
  const faults = checkMqtt(mqttConfig.parse({ topics: [{ topic }], ...settings }));
  expect(faults.map(({ message }) => message).join('; ')).toContain(words);
});

it('finds faults of shaping once, where they stand', () => {
  const broker = { listen: {}, anonymous: 'loopback' };
  const faultsOf = (settings: object): string[] =>
    checkMqtt(
      mqttConfig.parse({ ...broker, topics: [{ topic, points: { flow: { pointer: '/flow' } } }], ...settings }),
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
