import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hubConfig, hubSchema } from '../../../../src/config/hub-schema.ts';
import { createAuthority, type Authority, type KeyPair } from '../../../support/certificates.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

const KEY = Buffer.alloc(32, 1).toString('base64');
const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';

let dir: TempDir;
let authority: Authority;
let leaf: KeyPair;

beforeAll(async () => {
  dir = createTempDir('hub-schema');
  authority = await createAuthority(dir.path);
  leaf = await authority.issue({ name: 'leaf' });
});
afterAll(() => dir.remove());

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
      acceptedHostNames: [],
      ports: { mqtts: 8883, amqps: 5671, https: 443 },
      events: { partitions: 4, retentionSecs: 86_400, maxBytes: 536_870_912, consumerGroups: ['$Default'] },
      policies: [],
      authorities: [],
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
      certificates: [{ certificate: leaf.certificate, key: leaf.key }],
      authorities: [authority.certificate],
    });
    expect(hub?.ports.amqp).toBe(5672);
    expect(hub?.events.consumerGroups).toEqual(['$Default', 'analytics']);
    expect(hub?.policies).toEqual([
      { name: 'reader', permissions: ['ServiceConnect'], primaryKey: KEY, secondaryKey: undefined },
    ]);
    expect(hub?.certificates).toEqual([{ certificate: leaf.certificate, key: leaf.key }]);
    expect(hub?.authorities).toEqual([authority.certificate]);
  });

  it('says of certificates why they cannot be used', () => {
    const faultsOf = (values: object) =>
      hubSchema.safeParse(values).error?.issues.map(({ path, message }) => `${path.join('.')} ${message}`);
    const pair = { certificate: leaf.certificate, key: authority.key };
    expect(faultsOf({ certificates: [pair] })).toEqual([
      'certificates.0.certificate does not belong to the key beside it',
    ]);
    expect(faultsOf({ certificates: [{ ...pair, key: PEM }] })).toEqual([
      expect.stringMatching(/^certificates\.0\.certificate cannot be read, or its key cannot \(/),
    ]);
    expect(faultsOf({ authorities: [authority.certificate, leaf.certificate] })).toEqual([
      'authorities.1 must hold authorities only: CN=leaf is none (basicConstraints CA)',
    ]);
    expect(faultsOf({ authorities: [leaf.key] })).toEqual([
      'authorities.0 must hold a certificate (-----BEGIN CERTIFICATE-----)',
    ]);
    expect(faultsOf({ authorities: [PEM] })).toEqual([
      expect.stringMatching(/^authorities\.0 holds a certificate that cannot be read \(/),
    ]);
    expect(faultsOf({ authorities: [authority.certificate.repeat(26)] })).toEqual([
      'authorities at most 25 authorities',
    ]);
    expect(faultsOf({ authorities: ['/etc/ca.pem'] })).toEqual([expect.stringMatching(/use `!file PATH`/)]);
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
