import { describe, expect, it } from 'vitest';
import { commandTarget, parseCommandTarget, parseLinkAddress } from '../../../../src/iothub/link-addresses.ts';

const d1 = { deviceId: 'd1' };
const m1 = { deviceId: 'd1', moduleId: 'm1' };

describe('a link address', () => {
  it.each([
    ['$cbs', { kind: 'cbs' }],
    ['/devices/d1/messages/events', { kind: 'device-events', of: d1 }],
    ['devices/d1/messages/events/', { kind: 'device-events', of: d1 }],
    ['amqps://hub.local/devices/d1/messages/deviceBound', { kind: 'device-commands', of: d1 }],
    ['amqps://hub.local:5671/Devices/D1/Twin', { kind: 'device-twin', of: { deviceId: 'D1' } }],
    ['/devices/a%40b%25/methods/devicebound', { kind: 'device-methods', of: { deviceId: 'a@b%' } }],
    ['/devices/d1/modules/m1/methods/deviceBound', { kind: 'device-methods', of: m1 }],
    ['/devices/d1/modules/m1/messages/events', { kind: 'device-events', of: m1 }],
    ['/devices/d1/messages/serviceBound/feedback', { kind: 'device-feedback', of: d1 }],
    ['/messages/devicebound', { kind: 'service-commands' }],
    ['amqps://hub.local/messages/serviceBound/feedback', { kind: 'service-feedback' }],
    ['/messages/servicebound/filenotifications', { kind: 'service-file-notifications' }],
    ['messages/events/', { kind: 'redirected-events', rest: '' }],
    ['amqps://h/messages/events/$management', { kind: 'redirected-events', rest: '$management' }],
    ['$management', { kind: 'management' }],
    ['amqps://h:5671/hub/$management', { kind: 'management', eventHub: 'hub' }],
    [
      'hub/ConsumerGroups/$Default/Partitions/3',
      { kind: 'partition', eventHub: 'hub', consumerGroup: '$Default', partition: '3' },
    ],
    ['hub', { kind: 'event-hub', eventHub: 'hub' }],
    ['hub/Partitions/0', { kind: 'event-hub', eventHub: 'hub', partition: '0' }],
  ])('%s is known', (address, parsed) => {
    expect(parseLinkAddress(address)).toEqual(parsed);
  });

  it.each([
    '',
    '/',
    'amqps://hub.local',
    '/devices',
    '/devices/d1',
    '/devices/d1/modules/m1',
    '/devices/d1/messages',
    '/devices/%zz/twin',
    '/messages/other',
    'hub/ConsumerGroups/$Default',
    'hub/a/b',
    `/devices/${'x'.repeat(3000)}/twin`,
  ])('%s is not', (address) => {
    expect(parseLinkAddress(address)).toBeUndefined();
  });
});

it('reads the target of a command, as it writes it', () => {
  for (const of of [d1, m1, { deviceId: "a%@$'" }]) expect(parseCommandTarget(commandTarget(of))).toEqual(of);
  expect(parseCommandTarget('/devices/dev%201/messages/devicebound')).toEqual({ deviceId: 'dev 1' });
  expect(parseCommandTarget('/messages/devicebound')).toBeUndefined();
});
