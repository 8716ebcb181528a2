// The upstream transport to Azure IoT Hub, by the protocol that the configuration names.

import {
  GatewayError,
  parseConnectionString,
  type DeviceId,
  type EndpointContext,
  type PolicyConnectionString,
  type UpstreamTransport,
} from '#sdk';
import { createAmqpHubTransport } from './amqp-transport.ts';
import { createAutoTransport } from './auto-transport.ts';
import { createCloudIdentities } from './cloud-identities.ts';
import { autoProtocols, type IotHubUpstreamConfig } from './config.ts';
import { createHubDialer } from './hub-dialer.ts';
import { identityOf } from './identity.ts';
import { createMqttHubTransport } from './mqtt-transport.ts';
import { RegisteredDevices } from './registered-devices.ts';
import { createHubRegistry } from './registry.ts';
import { createServiceCall } from './service-call.ts';
import { createServiceTwins } from './service-twins.ts';

export function createIotHubTransport(config: IotHubUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const { identity, registry } = config.leaf_devices;
  if (identity === 'registry' && registry !== undefined) return withRegistry(config, registry, context);
  const transport = transportOf(config, context);
  return Object.assign(transport, { identities: createCloudIdentities(config, context.gatewayId) });
}

/** The transport knows a device like one of the configuration from the moment that the registry has given its key. */
function withRegistry(given: IotHubUpstreamConfig, policyText: string, context: EndpointContext): UpstreamTransport {
  const { clock, gatewayId, secrets } = context;
  const devices = { ...given.leaf_devices.devices };
  const config = { ...given, leaf_devices: { ...given.leaf_devices, devices } };
  const recall = async (deviceId: DeviceId): Promise<boolean> => (await registered.recall(deviceId)) !== undefined;
  const transport = transportOf(config, context, recall);
  const gateway = identityOf(config, gatewayId);
  const policy = parseConnectionString(policyText) as PolicyConnectionString;
  const dialer = createHubDialer({
    config: { ...config, port: given.leaf_devices.registry_port },
    host: gateway.dialHost,
    scheme: 'wss',
  });
  const callService = createServiceCall({ policy, clock, dial: (signal) => dialer.dial(undefined, signal) });
  const registered = new RegisteredDevices({
    registry: createHubRegistry(callService, policy),
    secrets,
    clock,
    onKey: (deviceId, key) => {
      devices[deviceId] = { key };
    },
    hasIdentity: (deviceId) =>
      deviceId === gatewayId || deviceId === gateway.deviceId || Object.hasOwn(given.leaf_devices.devices, deviceId),
  });
  const send = transport.send.bind(transport);
  const close = transport.close.bind(transport);
  return Object.assign(transport, {
    identities: {
      ...createCloudIdentities(given, gatewayId, registered),
      ...createServiceTwins(callService, policy),
    },
    send: ((batch, signal) => registered.send(send, batch, signal)) satisfies UpstreamTransport['send'],
    close: async () => {
      registered.stop();
      await close();
    },
  });
}

/** @param recall has the device known that was somebody before; resolves whether it was. */
function transportOf(
  config: IotHubUpstreamConfig,
  context: EndpointContext,
  recall?: (deviceId: DeviceId) => Promise<boolean>,
): UpstreamTransport {
  switch (config.protocol) {
    case 'amqp':
    case 'amqp_ws':
      return createAmqpHubTransport(config, context, recall);
    case 'auto': {
      const [first, ...others] = autoProtocols(config).map((protocol) => ({
        name: protocol,
        transport: transportOf({ ...config, protocol }, context, recall),
      }));
      if (first === undefined) throw new GatewayError('GW_INTERNAL', 'There is no protocol to choose.');
      return createAutoTransport([first, ...others], context);
    }
    case 'mqtt':
    case 'mqtt_ws':
      return createMqttHubTransport(config, context, recall);
  }
}
