// The upstream transport to Azure IoT Hub, by the protocol that the configuration names.

import type { EndpointContext, UpstreamTransport } from '#sdk';
import { createCloudIdentities } from './cloud-identities.ts';
import type { IotHubUpstreamConfig } from './config.ts';
import { createMqttHubTransport } from './mqtt-transport.ts';

export function createIotHubTransport(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const transport = createMqttHubTransport(config, context);
  return Object.assign(transport, { identities: createCloudIdentities(config, context.gatewayId) });
}
