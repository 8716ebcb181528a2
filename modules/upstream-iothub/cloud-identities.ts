// What a local hub that stands in for Azure IoT Hub asks of the leaf devices' identities there.

import type { CloudIdentities, DeviceId } from '#sdk';
import { identityOf } from './identity.ts';
import { carrierOf, leafIdentity } from './leaf-devices.ts';
import type { IotHubUpstreamConfig } from './config.ts';
import type { RegisteredDevices } from './registered-devices.ts';

/** @param registered where the registry knows the keys of those who have none in the configuration. */
export function createCloudIdentities(
  config: IotHubUpstreamConfig,
  gatewayId: DeviceId,
  registered?: Pick<RegisteredDevices, 'recall' | 'find'>,
): CloudIdentities {
  const identity = identityOf(config, gatewayId);
  // The gateway's own identity is nobody else's to use.
  const isGateway = (deviceId: DeviceId): boolean => deviceId === gatewayId || deviceId === identity.deviceId;
  const isConfigured = (deviceId: DeviceId): boolean => Object.hasOwn(config.leaf_devices.devices, deviceId);
  return {
    hostName: identity.hostName,
    keysOf: async (deviceId) => {
      if (isGateway(deviceId)) return undefined;
      if (registered !== undefined && !isConfigured(deviceId)) return registered.recall(deviceId);
      // For whom the gateway speaks has no identity.
      if (carrierOf(config.leaf_devices, { gatewayId, identity }, deviceId) !== deviceId) return undefined;
      const { sharedAccessKey } = leafIdentity(config.leaf_devices, identity, deviceId);
      return sharedAccessKey === undefined ? undefined : [sharedAccessKey];
    },
    ...(registered !== undefined && {
      askKeysOf: async (deviceId: DeviceId) =>
        isGateway(deviceId) || isConfigured(deviceId) ? undefined : registered.find(deviceId),
    }),
  };
}
