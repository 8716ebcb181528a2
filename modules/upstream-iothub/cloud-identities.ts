// What a local hub that stands in for Azure IoT Hub asks of the leaf devices' identities there.

import type { CloudIdentities, DeviceId } from '#sdk';
import { identityOf } from './identity.ts';
import { carrierOf, leafIdentity } from './leaf-devices.ts';
import type { IotHubUpstreamConfig } from './config.ts';

export function createCloudIdentities(config: IotHubUpstreamConfig, gatewayId: DeviceId): CloudIdentities {
  const identity = identityOf(config, gatewayId);
  return {
    hostName: identity.hostName,
    keyOf: (deviceId) => {
      // For whom the gateway speaks has no identity, and the gateway's own is nobody else's to use.
      if (carrierOf(config.leaf_devices, { gatewayId, identity }, deviceId) !== deviceId || deviceId === gatewayId) {
        return Promise.resolve(undefined);
      }
      return Promise.resolve(leafIdentity(config.leaf_devices, identity, deviceId).sharedAccessKey);
    },
  };
}
