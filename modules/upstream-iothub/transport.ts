// The upstream transport to Azure IoT Hub, by the protocol that the configuration names.

import { GatewayError, type EndpointContext, type UpstreamTransport } from '#sdk';
import { createAmqpHubTransport } from './amqp-transport.ts';
import { createAutoTransport } from './auto-transport.ts';
import { createCloudIdentities } from './cloud-identities.ts';
import { autoProtocols, type IotHubUpstreamConfig } from './config.ts';
import { createMqttHubTransport } from './mqtt-transport.ts';

export function createIotHubTransport(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const transport = transportOf(config, context);
  return Object.assign(transport, { identities: createCloudIdentities(config, context.gatewayId) });
}

function transportOf(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  switch (config.protocol) {
    case 'amqp':
    case 'amqp_ws':
      return createAmqpHubTransport(config, context);
    case 'auto': {
      const [first, ...others] = autoProtocols(config).map((protocol) => ({
        name: protocol,
        transport: transportOf({ ...config, protocol }, context),
      }));
      if (first === undefined) throw new GatewayError('GW_INTERNAL', 'There is no protocol to choose.');
      return createAutoTransport([first, ...others], context);
    }
    case 'mqtt':
    case 'mqtt_ws':
      return createMqttHubTransport(config, context);
  }
}
