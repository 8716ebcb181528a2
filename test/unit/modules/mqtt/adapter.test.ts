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
])('finds the fault of %j', (settings, words) => {
  const faults = checkMqtt(mqttConfig.parse({ topics: [{ topic }], ...settings }));
  expect(faults.map(({ message }) => message).join('; ')).toContain(words);
});
