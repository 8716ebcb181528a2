// Who leaf devices are at the hub: nobody, so that the gateway speaks for them, or devices with a proof of their own.

import { z } from 'zod';
import { deriveDeviceKey, hmacSha256, isDeviceId, pemField, type ConfigFault, type DeviceId } from '#sdk';
import { isSharedKey, KEY_RULE, type HubIdentity } from './identity.ts';
import { notYet } from './not-yet.ts';

const IDENTITIES = ['gateway', 'own', 'group_key', 'registry'] as const;

const leafDeviceSchema = z
  .strictObject({
    key: z.string().min(1).optional().meta({
      title: 'Shared access key',
      description: 'The device’s own primary or secondary key at the hub.',
      secret: true,
    }),
    certificate: pemField('Certificate', 'Certificate (PEM) of the device instead of a key.'),
    private_key: pemField('Private key', 'Private key (PEM) of its certificate.', true),
  })
  .meta({ title: 'Leaf device', description: 'What proves one leaf device.' });

export const leafDevicesSchema = z
  .strictObject({
    identity: z
      .enum(IDENTITIES, { error: notYet('the identity', [], IDENTITIES) })
      .default('gateway')
      .meta({
        title: 'Identity',
        description:
          '`gateway`: leaf devices have no identity at the hub; their messages come from the gateway’s own, with the property `device_id`. `own`: those under `devices` have one, by their own proof. `group_key`: all have one, by a key derived from that of their group. `registry`: all have one, made in the hub’s registry when their first message comes.',
      }),
    per_device: z.boolean().default(false).meta({
      title: 'Connection per device',
      description:
        'Over MQTT, a connection for each leaf device with an identity: an MQTT connection has one identity.',
    }),
    group_key: z.string().min(1).optional().meta({
      title: 'Group key',
      description: 'Primary or secondary key of the enrolment group that the leaf devices’ keys are derived from.',
      secret: true,
    }),
    registry: z.string().min(1).optional().meta({
      title: 'Registry',
      description:
        'Connection string of a policy of the hub that may read and write its registry, and with ServiceConnect the twins of the devices: `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.',
      secret: true,
    }),
    registry_port: z.int().min(1).max(65_535).optional().meta({
      title: 'Registry port',
      description: 'Of HTTPS at the hub. Default: 443.',
    }),
    devices: z
      .record(z.string().refine(isDeviceId, { error: 'is no device id' }), leafDeviceSchema)
      .default({})
      .meta({ title: 'Devices', description: 'Leaf devices with a proof of their own, by their ids.' }),
  })
  .meta({ title: 'Leaf devices', description: 'Under which identity the messages of leaf devices reach the hub.' });

export type LeafDevicesConfig = z.output<typeof leafDevicesSchema>;

/** Faults that the schema cannot express. */
export function leafDevicesFaults(config: LeafDevicesConfig, protocol: string): readonly ConfigFault[] {
  const faults: ConfigFault[] = [];
  const { identity, per_device: perDevice, group_key: groupKey, devices } = config;
  const fault = (path: readonly string[], message: string): void =>
    void faults.push({ path: ['leaf_devices', ...path], message });
  const isMqtt = protocol.startsWith('mqtt');
  if (identity !== 'gateway' && !perDevice && isMqtt) {
    fault(['per_device'], `must be true with the identity \`${identity}\`: an MQTT connection has one identity`);
  }
  if (perDevice && protocol.startsWith('amqp')) {
    fault(['per_device'], 'has no effect with AMQP, whose connections have many identities');
  } else if (identity === 'gateway' && perDevice) {
    fault(['per_device'], 'has no effect with the identity `gateway`; use `own` or `group_key`');
  }
  if (identity === 'group_key' && groupKey === undefined) fault(['group_key'], 'is missing');
  if (identity !== 'group_key' && groupKey !== undefined) {
    fault(['group_key'], 'has no effect without `identity: group_key`');
  }
  if (identity === 'registry' && config.registry === undefined) fault(['registry'], 'is missing');
  for (const name of ['registry', 'registry_port'] as const) {
    if (identity !== 'registry' && config[name] !== undefined) {
      fault([name], 'has no effect without `identity: registry`');
    }
  }
  if (groupKey !== undefined && !isSharedKey(groupKey)) fault(['group_key'], KEY_RULE);
  if (identity === 'gateway' && Object.keys(devices).length > 0) {
    fault(['devices'], 'has no effect with the identity `gateway`; use `own` or `group_key`');
  }
  for (const [deviceId, device] of Object.entries(devices)) {
    const message = deviceFault(device);
    if (message !== undefined) fault(['devices', deviceId], message);
  }
  return faults;
}

function deviceFault({ key, certificate, private_key: privateKey }: z.output<typeof leafDeviceSchema>) {
  if ((certificate === undefined) !== (privateKey === undefined))
    return 'needs `certificate` and `private_key` together';
  if ((key === undefined) === (certificate === undefined)) {
    return 'needs one proof: `key`, or `certificate` and `private_key`';
  }
  return key === undefined || isSharedKey(key) ? undefined : KEY_RULE;
}

/**
 * Under whose identity the messages of a device travel, whatever the protocol: its own where it is somebody at the hub, else that
 * of the gateway, which speaks for it.
 */
export function carrierOf(
  { group_key: groupKey, devices }: LeafDevicesConfig,
  gateway: { readonly gatewayId: DeviceId; readonly identity: HubIdentity },
  deviceId: string,
): DeviceId {
  const isGateway = deviceId === gateway.gatewayId || deviceId === gateway.identity.deviceId;
  const isSomebody = groupKey !== undefined || Object.hasOwn(devices, deviceId);
  return isSomebody && !isGateway && isDeviceId(deviceId) ? deviceId : gateway.gatewayId;
}

/** Who a leaf device is at the gateway's hub, where `carrierOf` names it. */
export function leafIdentity(
  config: LeafDevicesConfig,
  { hostName, dialHost }: HubIdentity,
  deviceId: DeviceId,
): HubIdentity {
  const at = { hostName, dialHost, deviceId };
  const own = Object.hasOwn(config.devices, deviceId) ? config.devices[deviceId] : undefined;
  if (own?.certificate !== undefined && own.private_key !== undefined) {
    return { ...at, certificate: own.certificate, privateKey: own.private_key };
  }
  const sharedAccessKey = own?.key ?? deriveDeviceKey(config.group_key ?? '', deviceId, { hmacSha256 });
  return { ...at, sharedAccessKey };
}

/** Devices that are named with a proof of their own. */
export function configuredDevices({ devices }: LeafDevicesConfig): readonly DeviceId[] {
  return Object.keys(devices).filter(isDeviceId);
}
