import { describe, expect, it } from 'vitest';
import { checkMqttUpstream, mqttUpstreamConfig } from '../../../../modules/upstream-mqtt/config.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----';

function faults(config: Record<string, unknown>): string[] {
  const parsed = mqttUpstreamConfig.safeParse({ url: 'mqtts://broker.example', ...config });
  if (!parsed.success) return parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return checkMqttUpstream(parsed.data).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('the configuration of an MQTT upstream', () => {
  it('takes a URL alone and fills in the rest', () => {
    expect(faults({})).toEqual([]);
    expect(mqttUpstreamConfig.parse({ url: 'mqtts://broker.example' })).toMatchObject({
      topic: 'fieldpost/{gateway_id}/{device_id}/telemetry',
      protocol_version: 5,
      window: 256,
      keepalive_secs: 30,
      allow_plaintext: false,
      envelope: 'none',
    });
  });

  it.each([
    [{ url: 'mqtt://10.0.0.5' }, /^url: sends credentials and data in clear to 10\.0\.0\.5/],
    [{ url: 'ws://broker.example' }, /^url: sends credentials/],
    [{ url: 'mqtt://127.0.0.1.example' }, /^url: sends credentials/],
    [{ url: 'mqtt://localhost.example' }, /^url: sends credentials/],
    [{ url: 'http://broker.example' }, /^url: must be a URL that begins with mqtts/],
    [{ url: 'broker.example' }, /^url: /],
    [{ url: 'mqtts://user:pass@broker.example' }, /^url: must not hold credentials/],
    [{ url: 'mqtts://broker.example/topic' }, /^url: has a path/],
    [{ topic: 'a/{devise_id}' }, /^topic: unknown placeholder \{devise_id\}; allowed: \{gateway_id\}, \{device_id\}/],
    [{ topic: 'a/#' }, /^topic: .*wildcards/],
    [{ topic: 'a/+/b' }, /^topic: .*wildcards/],
    [{ topic: 'a/{device_id' }, /^topic: a brace stands alone/],
    [{ topic: '' }, /^topic: a topic must have at least one character/],
    [{ topic: 'a\0b' }, /^topic: .*NUL/],
    [{ topic: 'x'.repeat(65_400) + '{device_id}{gateway_id}' }, /^topic: a topic has at most 65535 bytes/],
    [{ will: { topic: 'state/{device_id}', payload: 'off' } }, /^will\.topic: unknown placeholder \{device_id\}/],
    [{ certificate: PEM }, /^certificate: needs `key` as well/],
    [{ key: PEM }, /^key: needs `certificate` as well/],
    [{ ca: '/etc/ca.pem' }, /^ca: must be PEM text .*!file/],
    [{ url: 'mqtt://127.0.0.1', ca: PEM }, /^ca: has no effect/],
    [{ protocol_version: '3.1.1', password: 'x' }, /^password: needs `username`/],
    [{ protocol_version: 4 }, /^protocol_version: /],
    [{ window: 0 }, /^window: /],
    [{ proxy: { url: 'socks5://proxy' } }, /^proxy\.url: must be a URL such as http:/],
    [{ proxy: { url: 'http://user:pw@proxy:1' } }, /^proxy\.url: must not hold credentials/],
    [{ passwort: 'x' }, /passwort/],
  ])('refuses %j', (config, pattern) => {
    const found = faults(config);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(pattern);
  });

  it.each([
    { url: 'mqtt://127.0.0.1' },
    { url: 'mqtt://127.9.8.7:1884' },
    { url: 'mqtt://localhost' },
    { url: 'mqtt://[::1]' },
    { url: 'mqtt://10.0.0.5', allow_plaintext: true },
    { url: 'wss://broker.example/mqtt?x=1' },
    { protocol_version: '3.1.1', username: 'a', password: 'b' },
    { protocol_version: 5, password: 'token' },
  ])('takes %j', (config) => {
    expect(faults(config)).toEqual([]);
  });

  it('marks every secret', () => {
    for (const field of ['password', 'key'] as const) {
      expect(mqttUpstreamConfig.shape[field].meta()).toMatchObject({ secret: true });
    }
  });
});
