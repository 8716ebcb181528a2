import { describe, expect, it } from 'vitest';
import { parseSaslUser } from '../../../../modules/hub-amqp/sasl-user.ts';

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
