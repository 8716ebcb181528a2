import { describe, expect, it } from 'vitest';
import { parseHubUserName, writeHubUserName } from '../../../../src/iothub/user-name.ts';

describe('the user name of a CONNECT', () => {
  const d1 = { hostName: 'hub.local', identity: { deviceId: 'd1' } };
  const m1 = { hostName: 'hub.local', identity: { deviceId: 'd1', moduleId: 'm1' } };

  it('is written as the SDKs do', () => {
    expect(writeHubUserName('hub.local', { deviceId: 'd1' }, 'a b/1')).toBe(
      'hub.local/d1/?api-version=2021-04-12&DeviceClientType=a%20b%2F1',
    );
    for (const known of [d1, m1]) {
      const text = writeHubUserName(known.hostName, known.identity, 'fieldpost');
      expect(parseHubUserName(text)).toEqual({ ...known, apiVersion: '2021-04-12', clientType: 'fieldpost' });
    }
  });

  it.each([
    ['hub.local/d1', d1],
    ['hub.local/d1/', d1],
    ['hub.local/d1/?api-version=2021-04-12', { ...d1, apiVersion: '2021-04-12' }],
    ['hub.local/d1?api-version=2021-04-12', { ...d1, apiVersion: '2021-04-12' }],
    ['hub.local/d1/api-version=2016-11-14', { ...d1, apiVersion: '2016-11-14' }],
    ['hub.local:8883/d1/?api-version=1', { ...d1, apiVersion: '1' }],
    ['hub.local/d1/?api-version=1&api-version=2&x', { ...d1, apiVersion: '1' }],
    ['hub.local/d1/m1', m1],
    ['hub.local/d1/m1/?api-version=1', { ...m1, apiVersion: '1' }],
    [
      'hub.local/d1/?api-version=1&model-id=dtmi:com:ex:T;1&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)',
      { ...d1, apiVersion: '1', modelId: 'dtmi:com:ex:T;1', clientType: 'azure-iot-device/1.18.4 (node v20)' },
    ],
    ['hub.local/d1/?api-version=1&DeviceClientType=50%', { ...d1, apiVersion: '1', clientType: '50%' }],
    ['hub.local/a?b=c/?api-version=1', { hostName: 'hub.local', identity: { deviceId: 'a?b=c' }, apiVersion: '1' }],
  ])('%s is taken', (text, parsed) => {
    expect(parseHubUserName(text)).toEqual(parsed);
  });

  it.each([
    '',
    'hub.local',
    'hub.local/',
    '/d1',
    'hub.local/d 1',
    'hub.local/d1/m1/x',
    'hub.local/d+1',
    'x'.repeat(5000),
  ])('%s is refused', (text) => {
    expect(parseHubUserName(text)).toBeUndefined();
  });
});
