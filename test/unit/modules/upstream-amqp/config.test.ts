import { describe, expect, it } from 'vitest';
import { fillAddress, hasDevice } from '../../../../modules/upstream-amqp/address-template.ts';
import { amqpUpstreamConfig, checkAmqpUpstream, saslMechanism } from '../../../../modules/upstream-amqp/config.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----';
const BASE = { url: 'amqps://broker.example', address: 'fieldpost.{device_id}' };

function faults(config: Record<string, unknown>): string[] {
  const parsed = amqpUpstreamConfig.safeParse({ ...BASE, ...config });
  if (!parsed.success) return parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return checkAmqpUpstream(parsed.data).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('the configuration of an AMQP upstream', () => {
  it('takes a URL and an address and fills in the rest', () => {
    expect(faults({})).toEqual([]);
    expect(amqpUpstreamConfig.parse(BASE)).toMatchObject({
      window: 256,
      idle_timeout_secs: 60,
      command_expiry: 'required',
      allow_plaintext: false,
    });
  });

  it.each([
    [{ address: undefined }, /^address: /],
    [{ url: 'amqp://10.0.0.5' }, /^url: sends credentials and data in clear to 10\.0\.0\.5/],
    [{ url: 'amqpws://broker.example' }, /^url: sends credentials/],
    [{ url: 'mqtts://broker.example' }, /^url: must be a URL that begins with amqps/],
    [{ url: 'amqps://user:pass@broker.example' }, /^url: must not hold credentials/],
    [{ url: 'amqps://broker.example/queue' }, /^url: has a path/],
    [
      { address: 'a.{devise_id}' },
      /^address: unknown placeholder \{devise_id\}; allowed: \{gateway_id\}, \{device_id\}/,
    ],
    [{ address: 'a.{device_id' }, /^address: a brace stands alone/],
    [{ address: '' }, /^address: an address must have at least one character/],
    [{ address: 'x'.repeat(2000) }, /^address: an address has at most 1024/],
    [
      { command_address: 'a.{device_id}' },
      /^command_address: unknown placeholder \{device_id\}; allowed: \{gateway_id\}/,
    ],
    [{ address: 'plant', command_address: 'plant' }, /^command_address: is `address` too/],
    [{ certificate: PEM }, /^certificate: needs `key` as well/],
    [{ url: 'amqp://127.0.0.1', ca: PEM }, /^ca: has no effect without amqps/],
    [{ username: 'a' }, /^username: needs `password` as well/],
    [{ password: 'a' }, /^password: has no effect with SASL `anonymous`/],
    [{ username: 'a', password: 'b', sasl: 'none' }, /^username: has no effect with SASL `none`/],
    [{ username: 'a', password: 'b\0c' }, /^username: .*NUL/],
    [{ sasl: 'plain' }, /^sasl: `plain` needs `username`/],
    [{ sasl: 'external' }, /^sasl: `external` needs `certificate`/],
    [{ proxy: { url: 'http://user:pass@proxy.example' } }, /^proxy\.url: must not hold credentials/],
  ])('refuses %j', (config, wanted) => {
    expect(faults(config).join('\n')).toMatch(wanted);
  });

  it('knows the mechanism that is meant', () => {
    const mechanism = (more: object): string => saslMechanism(amqpUpstreamConfig.parse({ ...BASE, ...more }));
    expect(mechanism({})).toBe('anonymous');
    expect(mechanism({ username: 'a', password: 'b', certificate: PEM, key: PEM })).toBe('plain');
    expect(mechanism({ certificate: PEM, key: PEM })).toBe('external');
  });

  it('fills addresses', () => {
    const [gateway, device] = [parseDeviceId('plant-7'), 'meter-1'];
    expect(fillAddress('a.{gateway_id}.{device_id}.{device_id}', gateway, device)).toBe('a.plant-7.meter-1.meter-1');
    expect([hasDevice('a.{gateway_id}'), hasDevice('a.{device_id}')]).toEqual([false, true]);
  });
});
