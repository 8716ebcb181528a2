// Configuration of an upstream to Azure IoT Hub. What a later version will have is refused by its name, never ignored.

import { z } from 'zod';
import {
  errorText,
  httpProxyFault,
  httpProxySchema,
  isDeviceId,
  LIMITS,
  parseConnectionString,
  pemField,
  QUOTAS,
  type ConfigFault,
} from '#sdk';
import { hubNameOf, identityFaults, isSharedKey, KEY_RULE } from './identity.ts';
import { leafDevicesFaults, leafDevicesSchema } from './leaf-devices.ts';
import { notYet } from './not-yet.ts';

const PROTOCOLS = ['auto', 'amqp', 'amqp_ws', 'mqtt', 'mqtt_ws'] as const;

export const iotHubUpstreamConfig = z
  .strictObject({
    connection_string: z.string().min(1).optional().meta({
      title: 'Connection string',
      description:
        'Of the gateway’s own device at the hub: `HostName=…;DeviceId=…;SharedAccessKey=…`, or with `x509=true`.',
      secret: true,
    }),
    host_name: z
      .string()
      .min(1)
      .max(253)
      .optional()
      .meta({
        title: 'Host name',
        description: 'Name of the hub, without a connection string.',
        examples: ['plant.azure-devices.net'],
      }),
    device_id: z
      .string()
      .refine(isDeviceId, { error: "must be 1 to 128 letters, digits or - . % _ * ? ! ( ) , : = @ $ '" })
      .optional()
      .meta({
        title: 'Device id',
        description:
          'The gateway’s own device at the hub. Default: that of the connection string, else the gateway id.',
      }),
    shared_access_key: z.string().min(1).optional().meta({
      title: 'Shared access key',
      description: 'The device’s primary or secondary key, without a connection string.',
      secret: true,
    }),
    certificate: pemField(
      'Client certificate',
      'Certificate (PEM) of the device, with its chain where the hub needs it.',
    ),
    key: pemField('Client key', 'Private key (PEM) of the client certificate.', true),
    ca: pemField('Authority', 'Certificates (PEM) of the authorities to trust instead of the system’s.'),
    gateway_host_name: z.string().min(1).max(253).optional().meta({
      title: 'Gateway host name',
      description:
        'Whom to connect to instead of the hub itself: an IoT Edge gateway, or a hub behind another name. Default: that of the connection string.',
    }),
    protocol: z.enum(PROTOCOLS, { error: notYet('the protocol', [], PROTOCOLS) }).meta({
      title: 'Protocol',
      description:
        '`auto`: the best of `amqp`, `amqp_ws` and, where it does not change under whose identity messages travel, `mqtt_ws` that goes through. `amqp`: AMQP on port 5671, which carries all leaf devices under their own identities on one connection. `mqtt`: MQTT on port 8883. `amqp_ws` and `mqtt_ws`: the same in WebSockets on port 443, which passes most firewalls.',
    }),
    port: z.int().min(1).max(65_535).optional().meta({
      title: 'Port',
      description: 'Default: 5671 for `amqp`, 8883 for `mqtt`, 443 for `amqp_ws` and `mqtt_ws`; `auto` takes these.',
    }),
    leaf_devices: leafDevicesSchema.prefault({}),
    token_lifetime_secs: z.int().min(300).max(86_400).default(3600).meta({
      title: 'Token lifetime',
      description: 'How long a token made from the shared access key is good; it is renewed after 80 % of it.',
    }),
    keepalive_secs: z
      .int()
      .min(5)
      .max(Math.floor(QUOTAS.keep_alive_max_ms / 1500))
      .default(30)
      .meta({
        title: 'Keep-alive',
        description: 'A silent connection is asked for a sign of life this often.',
      }),
    connect_timeout_ms: z.int().min(500).max(120_000).default(20_000).meta({
      title: 'Connect timeout',
      description: 'Longest wait for each step of a connect: TCP, TLS, CONNACK, and a proxy where there is one.',
    }),
    ack_timeout_ms: z.int().min(1000).max(600_000).default(30_000).meta({
      title: 'Acknowledgement timeout',
      description: 'A hub that leaves the oldest message unanswered this long is taken for dead.',
    }),
    window: z.int().min(1).max(LIMITS.queue_in_flight_messages).optional().meta({
      title: 'Window',
      description: 'Messages that may be unanswered at once. Default: 64 over MQTT, 1024 over AMQP.',
    }),
    max_devices_per_connection: z.int().min(1).max(1000).optional().meta({
      title: 'Devices per connection',
      description:
        'Over AMQP, devices with identities of their own share a connection, up to this many; then another is made. Default: 995.',
    }),
    link_idle_secs: z.int().min(1).max(86_400).optional().meta({
      title: 'Link idle time',
      description: 'Over AMQP, the link for a device’s messages is closed after so long without one. Default: 300.',
    }),
    commands: z.boolean().default(true).meta({
      title: 'Commands',
      description:
        'Whether direct methods and cloud-to-device messages are taken. Whoever may send these at the hub may write every point with `writable: true`. Only under `upstream`.',
    }),
    proxy: httpProxySchema.optional(),
  })
  .meta({ title: 'Azure IoT Hub', description: 'Sends messages to Azure IoT Hub, and takes its commands.' });

export type IotHubUpstreamConfig = z.output<typeof iotHubUpstreamConfig>;

/** Faults that the schema cannot express. */
export function checkIotHubUpstream(config: IotHubUpstreamConfig): readonly ConfigFault[] {
  const faults = [
    ...identityFaults(config),
    ...leafDevicesFaults(config.leaf_devices, config.protocol),
    ...protocolFaults(config),
    ...registryFaults(config),
  ];
  const proxyFault = config.proxy === undefined ? undefined : httpProxyFault(config.proxy);
  if (proxyFault !== undefined) faults.push({ path: ['proxy', 'url'], message: proxyFault });
  return faults;
}

function registryFaults(config: IotHubUpstreamConfig): readonly ConfigFault[] {
  const { identity, registry } = config.leaf_devices;
  if (identity !== 'registry' || registry === undefined || identityFaults(config).length > 0) return [];
  const message = policyFault(registry, hubNameOf(config));
  return message === undefined ? [] : [{ path: ['leaf_devices', 'registry'], message }];
}

function policyFault(text: string, hostName: string): string | undefined {
  try {
    const given = parseConnectionString(text);
    if (given.kind !== 'policy') return 'must be the connection string of a policy, with a SharedAccessKeyName';
    if (!isSharedKey(given.sharedAccessKey)) return KEY_RULE;
    return given.hostName.toLowerCase() === hostName.toLowerCase()
      ? undefined
      : `is of the hub ${given.hostName}, and the gateway’s own device is at ${hostName}`;
  } catch (error) {
    return errorText(error);
  }
}

/** What is tried with `auto`, the best first. MQTT joins only where it changes nobody's identity. */
export function autoProtocols({ leaf_devices: { identity, per_device: perDevice } }: IotHubUpstreamConfig) {
  const amqp = ['amqp', 'amqp_ws'] as const;
  return identity === 'gateway' || perDevice ? ([...amqp, 'mqtt_ws'] as const) : amqp;
}

/** What AMQP alone has, and `auto` has not. */
function protocolFaults(config: IotHubUpstreamConfig): readonly ConfigFault[] {
  if (config.protocol === 'auto' && config.port !== undefined) {
    return [{ path: ['port'], message: 'has no effect with the protocol `auto`, which takes the port of each' }];
  }
  if (!config.protocol.startsWith('mqtt')) return [];
  return (['max_devices_per_connection', 'link_idle_secs'] as const)
    .filter((name) => config[name] !== undefined)
    .map((name) => ({ path: [name], message: `has no effect with the protocol \`${config.protocol}\`` }));
}
