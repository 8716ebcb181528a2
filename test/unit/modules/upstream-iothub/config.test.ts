import { describe, expect, it } from 'vitest';
import { checkIotHubUpstream, iotHubUpstreamConfig } from '../../../../modules/upstream-iothub/config.ts';
import { identityOf } from '../../../../modules/upstream-iothub/identity.ts';
import {
  carrierOf,
  leafDevicesFaults,
  leafDevicesSchema,
  leafIdentity,
} from '../../../../modules/upstream-iothub/leaf-devices.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----';
const KEY = Buffer.alloc(32, 7).toString('base64');
const STRING = `HostName=plant.azure-devices.net;DeviceId=plant-7;SharedAccessKey=${KEY}`;
const GATEWAY = parseDeviceId('gateway-1');

function own(devices: Record<string, unknown>): Record<string, unknown> {
  return { connection_string: STRING, leaf_devices: { identity: 'own', per_device: true, devices } };
}

function faults(config: Record<string, unknown>): string[] {
  const parsed = iotHubUpstreamConfig.safeParse({ protocol: 'mqtt', ...config });
  if (!parsed.success) return parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return checkIotHubUpstream(parsed.data).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

function identity(config: Record<string, unknown>): unknown {
  expect(faults(config)).toEqual([]);
  return identityOf(iotHubUpstreamConfig.parse({ protocol: 'mqtt', ...config }), GATEWAY);
}

const registry = (policy: string): Record<string, unknown> => ({
  connection_string: STRING,
  leaf_devices: { identity: 'registry', per_device: true, registry: policy },
});

describe('the identity of the gateway at its hub', () => {
  it('comes from a connection string, whose device id wins over the gateway id', () => {
    const own = { hostName: 'plant.azure-devices.net', dialHost: 'plant.azure-devices.net', deviceId: 'plant-7' };
    expect(identity({ connection_string: STRING })).toEqual({ ...own, sharedAccessKey: KEY });
    expect(identity({ connection_string: STRING, device_id: 'plant-7', host_name: 'PLANT.azure-devices.net' })).toEqual(
      {
        ...own,
        sharedAccessKey: KEY,
      },
    );
    expect(identity({ connection_string: `${STRING};GatewayHostName=edge.local` })).toMatchObject({
      hostName: 'plant.azure-devices.net',
      dialHost: 'edge.local',
    });
    const x509 = 'HostName=h.example;DeviceId=d;x509=true';
    expect(identity({ connection_string: x509, certificate: PEM, key: PEM })).toEqual({
      hostName: 'h.example',
      dialHost: 'h.example',
      deviceId: 'd',
      certificate: PEM,
      privateKey: PEM,
    });
  });

  it('comes field by field, with the gateway id by default', () => {
    const fields = { host_name: 'h.example', shared_access_key: KEY };
    expect(identity(fields)).toMatchObject({ hostName: 'h.example', deviceId: 'gateway-1', sharedAccessKey: KEY });
    expect(identity({ ...fields, device_id: 'other', gateway_host_name: '127.0.0.1' })).toMatchObject({
      dialHost: '127.0.0.1',
      deviceId: 'other',
    });
    expect(identity({ host_name: 'h.example', certificate: PEM, key: PEM })).not.toHaveProperty('sharedAccessKey');
  });
});

describe('the identity of a leaf device', () => {
  const gateway = { hostName: 'h.example', dialHost: 'edge.local', deviceId: 'plant-7' };
  // contract/dps.md, 2.
  const groupKey = '8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==';
  const meter = parseDeviceId('sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6');

  it('is derived from the key of its group, or its own', () => {
    const leaves = leafDevicesSchema.parse({
      identity: 'group_key',
      per_device: true,
      group_key: groupKey,
      devices: { pump: { key: KEY }, valve: { certificate: PEM, private_key: PEM } },
    });
    expect(leafDevicesFaults(leaves, 'mqtt')).toEqual([]);
    expect(leafIdentity(leaves, gateway, meter)).toEqual({
      hostName: 'h.example',
      dialHost: 'edge.local',
      deviceId: meter,
      sharedAccessKey: 'Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=',
    });
    expect(leafIdentity(leaves, gateway, parseDeviceId('pump')).sharedAccessKey).toBe(KEY);
    const valve = leafIdentity(leaves, gateway, parseDeviceId('valve'));
    expect(valve).toMatchObject({ certificate: PEM, privateKey: PEM });
    expect(valve.sharedAccessKey).toBeUndefined();
    const carriers = (config: typeof leaves, ...ids: string[]): string[] =>
      ids.map((id) => carrierOf(config, { gatewayId: GATEWAY, identity: gateway }, parseDeviceId(id)));
    // Whatever the group's key could be made to say of the gateway's own device.
    expect(carriers(leaves, 'meter-1', GATEWAY, gateway.deviceId)).toEqual(['meter-1', GATEWAY, GATEWAY]);
    const some = leafDevicesSchema.parse({ identity: 'own', per_device: true, devices: { pump: { key: KEY } } });
    expect(carriers(some, 'meter-1', 'pump', 'constructor')).toEqual([GATEWAY, 'pump', GATEWAY]);
  });
});

describe('the configuration of an upstream to Azure IoT Hub', () => {
  it.each([
    [{ shared_access_key: KEY }, /^host_name: is missing; give it, or a `connection_string`/],
    [{ connection_string: STRING, device_id: 'plant-8' }, /^device_id: is not that of the connection string, plant-7/],
    [{ connection_string: STRING, device_id: 'Plant-7' }, /^device_id: is not that/],
    [{ connection_string: STRING, host_name: 'other.example' }, /^host_name: is not that .*plant\.azure-devices\.net/],
    [{ connection_string: STRING, shared_access_key: KEY }, /^shared_access_key: stands in the connection string/],
    [{ connection_string: STRING, certificate: PEM, key: PEM }, /^certificate: contradicts the shared access key/],
    [{ connection_string: 'HostName=h.example;DeviceId=d;x509=true' }, /^connection_string: says x509=true and needs/],
    [{ connection_string: 'nonsense' }, /^connection_string: cannot be used: .*not NAME=VALUE/],
    [
      { connection_string: `HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey=${KEY}` },
      /^connection_string: is that of a policy of the hub, not of a device/,
    ],
    [
      { connection_string: `${STRING};ModuleId=m` },
      /^connection_string: is that of a module, which is not in this version/,
    ],
    [
      { connection_string: 'HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=x' },
      /^connection_string: holds a token, which cannot be renewed/,
    ],
    [{ connection_string: 'HostName=h;DeviceId=d;SharedAccessKey=short' }, /^connection_string: has a key that is not/],
    [
      { connection_string: `HostName=h/x;DeviceId=d;SharedAccessKey=${KEY}` },
      /^connection_string: has a HostName that/,
    ],
    [{ connection_string: `HostName=h;DeviceId=a b;SharedAccessKey=${KEY}` }, /^connection_string: has a DeviceId/],
    [{ host_name: 'https://h.example', shared_access_key: KEY }, /^host_name: must be a host name alone/],
    [{ host_name: 'h.example', shared_access_key: '***' }, /^shared_access_key: has a key that is not the base64/],
    [{ host_name: 'h.example', shared_access_key: KEY, device_id: 'a/b' }, /^device_id: must be 1 to 128/],
    [{ host_name: 'h.example', certificate: PEM }, /^certificate: needs `key` as well/],
    [{ connection_string: STRING, gateway_host_name: 'a:8883' }, /^gateway_host_name: must be a host name alone/],
    [
      { connection_string: STRING, protocol: undefined },
      /^protocol: is missing: `auto` or `amqp` or `amqp_ws` or `mqtt` or `mqtt_ws`/,
    ],
    [{ connection_string: STRING, protocol: 'auto', port: 1 }, /^port: has no effect with the protocol `auto`/],
    [{ ...own({ 'meter-1': { key: KEY } }), protocol: 'amqp' }, /^leaf_devices\.per_device: has no effect with AMQP/],
    [{ connection_string: STRING, link_idle_secs: 5 }, /^link_idle_secs: has no effect with the protocol `mqtt`/],
    [{ connection_string: STRING, protocol: 'http' }, /^protocol: must be `auto` or `amqp`/],
    [
      { connection_string: STRING, leaf_devices: { registry: 'x' } },
      /^leaf_devices\.registry: has no effect without `identity: registry`/,
    ],
    [registry(STRING), /^leaf_devices\.registry: must be the connection string of a policy/],
    [registry('hello'), /^leaf_devices\.registry: /],
    [
      registry(`HostName=other.azure-devices.net;SharedAccessKeyName=p;SharedAccessKey=${KEY}`),
      /^leaf_devices\.registry: is of the hub other\.azure-devices\.net, and the gateway’s own device is at plant/,
    ],
    [
      { connection_string: STRING, leaf_devices: { identity: 'registry', per_device: true } },
      /^leaf_devices\.registry: is missing/,
    ],
    [{ connection_string: STRING, leaf_devices: { identity: 'mine' } }, /^leaf_devices\.identity: must be `gateway`/],
    [{ connection_string: STRING, leaf_devices: { identity: 'own' } }, /^leaf_devices\.per_device: must be true with/],
    [{ connection_string: STRING, leaf_devices: { per_device: true } }, /^leaf_devices\.per_device: has no effect/],
    [
      { connection_string: STRING, leaf_devices: { identity: 'group_key', per_device: true } },
      /^leaf_devices\.group_key: is missing/,
    ],
    [
      { connection_string: STRING, leaf_devices: { identity: 'group_key', per_device: true, group_key: 'x' } },
      /^leaf_devices\.group_key: has a key that is not the base64/,
    ],
    [
      { connection_string: STRING, leaf_devices: { identity: 'own', per_device: true, group_key: KEY } },
      /^leaf_devices\.group_key: has no effect without/,
    ],
    [{ connection_string: STRING, leaf_devices: { devices: { m: { key: KEY } } } }, /^leaf_devices\.devices: has no/],
    [own({ m: { key: 'x' } }), /^leaf_devices\.devices\.m: has a key that is not/],
    [own({ m: {} }), /^leaf_devices\.devices\.m: needs one proof/],
    [own({ m: { key: KEY, certificate: PEM, private_key: PEM } }), /^leaf_devices\.devices\.m: needs one proof/],
    [own({ m: { certificate: PEM } }), /^leaf_devices\.devices\.m: needs `certificate` and `private_key` together/],
    [own({ 'a/b': { key: KEY } }), /^leaf_devices\.devices\.a\/b: /],
    [{ connection_string: STRING, keepalive_secs: 1200 }, /^keepalive_secs: /],
    [{ connection_string: STRING, proxy: { url: 'http://u:p@proxy:1' } }, /^proxy\.url: must not hold credentials/],
  ])('refuses %j', (config, pattern) => {
    const found = faults(config);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(pattern);
    expect(found[0]).not.toContain(KEY);
  });

  it('says of a shared key that is missing what may prove the device', () => {
    expect(faults({ host_name: 'h.example' })).toEqual([
      'shared_access_key: is missing: a key, a connection string with one, or `certificate` and `key` prove the device',
    ]);
  });
});
