// The upstream transport to Azure IoT Hub, by the protocol that the configuration names.

import type { EndpointContext, UpstreamTransport } from '#sdk';
import type { IotHubUpstreamConfig } from './config.ts';
import { createMqttHubTransport } from './mqtt-transport.ts';

export function createIotHubTransport(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  return createMqttHubTransport(config, context);
}
