import { expect, it } from 'vitest';
import { checkMqtt } from '../../../../modules/mqtt/check-config.ts';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import { createConfiguredDialect } from '../../../../modules/mqtt/configured-dialect.ts';

function faults(settings: object): string[] {
  const config = mqttConfig.parse({ listen: {}, anonymous: 'loopback', ...settings });
  return checkMqtt(config, { gatewayId: 'plant-7' }).map(({ path, message }) => `${path.join('.')} ${message}`);
}

const listed = (...topics: string[]) => ({ topics: topics.map((topic) => ({ topic })) });

it.each([
  ['a/{device_id}/#', 'a/{device_id}/b'],
  ['a/{device_id}/#', 'a/{device_id}'],
  ['a/{device_id}/#', 'a/{device_id}/b/#'],
  ['a/{device_id}/#', 'a/b/{device_id}'],
  ['a/{device_id}/b', 'a/{device_id}/b'],
  ['a/+/{device_id}', 'a/{device_id}/+'],
  ['a/+/{device_id}', 'a/x/dev-{device_id}'],
  ['{device_id}/#', 'dev-{device_id}'],
])('tells that %s leaves nothing for %s', (first, second) => {
  expect(faults(listed('z/{device_id}', first, second))).toEqual([
    `topics.2.topic never takes anything in: all of it goes to "${first}" (topics.1.topic), which is asked before`,
  ]);
});

it.each([
  ['a/{device_id}/b', 'a/{device_id}/#'],
  ['a/{device_id}/+', 'a/{device_id}/#'],
  ['a/{device_id}/+/+', 'a/{device_id}/#'],
  ['a/dev-{device_id}', 'a/{device_id}'],
  ['a/x/{device_id}', 'a/+/{device_id}'],
  ['a/{device_id}/b', 'a/{device_id}/c'],
  ['a/{device_id}', 'a/{device_id}/b'],
])('leaves %s before %s alone', (first, second) => {
  expect(faults(listed(first, second))).toEqual([]);
});

it('tells that availability and responses come first', () => {
  const shadowed = {
    ...listed('a/{device_id}/state', 'a/{device_id}/done'),
    availability: [{ topic: 'a/{device_id}/state' }],
    command: { topic: 'a/{device_id}/set', response_topic: 'a/{device_id}/done' },
  };
  expect(faults(shadowed).map((fault) => fault.split(', ')[0])).toEqual([
    'topics.0.topic never takes anything in: all of it goes to "a/{device_id}/state" (availability.0.topic)',
    'topics.1.topic never takes anything in: all of it goes to "a/{device_id}/done" (command.response_topic)',
  ]);
});

it.each([{ listen: {} }, { listen: undefined, anonymous: 'none', connect: { url: 'mqtt://127.0.0.1' } }])(
  'tells that a topic of values is one of commands: %j',
  (carrier) => {
    const command = { topic: 'a/{device_id}/{point}' };
    expect(faults({ ...carrier, ...listed('a/{device_id}/flow', 'a/{device_id}'), command })).toEqual([
      expect.stringMatching(/^topics\.0\.topic is a topic of `command`/),
    ]);
  },
);

it('takes in nothing of a command that a wildcard covers', () => {
  const dialect = createConfiguredDialect(
    mqttConfig.parse({ ...listed('a/{device_id}/#'), command: { topic: 'a/{device_id}/set' } }),
  );
  const hear = (topic: string) => dialect.understand({ topic, payload: Buffer.from('{}'), replayed: false })?.told;
  expect(hear('a/pump/set')).toEqual([]);
  expect(hear('a/pump/state')).toMatchObject([{ device: 'pump' }]);
  expect(dialect.owner('a/pump/set')).toBe('pump');
  expect([dialect.isCommand('a/pump/set'), dialect.isCommand('a/pump/state')]).toEqual([true, false]);
});

it('tells of clients that could publish as no device', () => {
  const password = 'secret';
  const clients = [
    { username: 'a b/c#', password },
    { username: 'screen 1', password, devices: [] },
    { username: 'bridge 1', password, devices: ['pump', 'a/b', '*'] },
  ];
  expect(faults({ ...listed('a/{device_id}'), clients })).toEqual([
    expect.stringMatching(/^clients\.0\.username can be the id of no device/),
    'clients.2.devices.1 can be the id of no device',
  ]);
});
