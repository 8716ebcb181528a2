import { describe, expect, it } from 'vitest';
import { hubConfig, hubSchema } from '../../../../src/config/hub-schema.ts';

const KEY = Buffer.alloc(32, 1).toString('base64');
const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';

function configured(values: object) {
  return hubConfig(hubSchema.parse({ enabled: true, ...values }));
}

describe('the section of the hub', () => {
  it('is off by default', () => {
    expect(hubConfig(hubSchema.parse({}))).toBeUndefined();
  });

  it('has the ports and limits of Azure IoT Hub', () => {
    expect(configured({})).toEqual({
      hubId: 'hub',
      address: '127.0.0.1',
      hostName: 'localhost',
      ports: { mqtts: 8883, amqps: 5671, https: 443 },
      events: { partitions: 4, retentionSecs: 86_400, maxBytes: 536_870_912, consumerGroups: ['$Default'] },
      policies: [],
      autoRegister: true,
      faultInjection: false,
      maxHandshakesPerSec: 100,
      commands: { defaultTtlMs: 3_600_000, maxDeliveryCount: 10 },
      feedback: { ttlMs: 3_600_000, lockMs: 60_000, maxDeliveryCount: 10 },
    });
  });

  it('takes policies, certificates, a plain port and consumer groups', () => {
    const hub = configured({
      amqp_port: 5672,
      events: { consumer_groups: ['analytics'] },
      policies: { reader: { rights: ['ServiceConnect'], primary_key: KEY } },
      certificates: [{ certificate: PEM, key: PEM }],
    });
    expect(hub?.ports.amqp).toBe(5672);
    expect(hub?.events.consumerGroups).toEqual(['$Default', 'analytics']);
    expect(hub?.policies).toEqual([
      { name: 'reader', permissions: ['ServiceConnect'], primaryKey: KEY, secondaryKey: undefined },
    ]);
    expect(hub?.certificates).toEqual([{ certificate: PEM, key: PEM }]);
  });

  it.each([
    { host_name: 'a b' },
    { host_name: '-a' },
    { address: 'nowhere at all' },
    { events: { partitions: 33 } },
    { events: { consumer_groups: ['a/b'] } },
    { policies: { p: { rights: [] } } },
    { policies: { p: { rights: ['Everything'] } } },
    { policies: { p: { rights: ['ServiceConnect'], primary_key: 'short' } } },
    { policies: { 'a b': { rights: ['ServiceConnect'] } } },
    { certificates: [] },
    { certificates: [{ certificate: '/etc/cert.pem', key: PEM }] },
    { commands: { default_ttl_secs: 172_801 } },
    { max_handshakes_per_sec: 0 },
    { unknown: 1 },
  ])('refuses %j', (values) => {
    expect(hubSchema.safeParse(values).success).toBe(false);
  });
});
