import { describe, expect, it } from 'vitest';
import { isHubName, parseSaslUser } from '../../../../modules/hub-amqp/sasl-user.ts';

describe('parseSaslUser', () => {
  it.each([
    ['d1@sas.hub', { claimed: { deviceId: 'd1' }, hubName: 'hub' }],
    ['d1/m1@sas.hub', { claimed: { deviceId: 'd1', moduleId: 'm1' }, hubName: 'hub' }],
    ['d1/modules/m1@sas.hub', { claimed: { deviceId: 'd1', moduleId: 'm1' }, hubName: 'hub' }],
    ['d1/modules@sas.hub', { claimed: { deviceId: 'd1', moduleId: 'modules' }, hubName: 'hub' }],
    ['a@b@sas.hub', { claimed: { deviceId: 'a@b' }, hubName: 'hub' }],
    ['iothubowner@sas.root.hub', { claimed: { policy: 'iothubowner' }, hubName: 'hub' }],
  ])('reads %s', (text, expected) => {
    expect(parseSaslUser(text)).toEqual(expected);
  });

  it.each([
    [''],
    ['d1'],
    ['@sas.hub'],
    ['d1@sas.'],
    ['a/b/c@sas.hub'],
    ['a/modules/b/c@sas.hub'],
    ['a/modules/@sas.hub'],
    [`${'x'.repeat(400)}@sas.hub`],
    ['d 1@sas.hub'],
  ])('refuses %s', (text) => {
    expect(parseSaslUser(text)).toBeUndefined();
  });
});

describe('isHubName', () => {
  const names = ['Hub.example.com', 'gateway.local', ''];

  it.each(['hub', 'HUB.example.com', 'gateway', 'gateway.local'])('knows %s', (text) => {
    expect(isHubName(text, names)).toBe(true);
  });

  it.each(['other', 'hub.other.com', 'hub.', 'ample', 'example.com'])('refuses %s', (text) => {
    expect(isHubName(text, names)).toBe(false);
  });
});
