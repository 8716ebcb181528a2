// Configuration of an MQTT upstream or endpoint.

import { z } from 'zod';
import { brokerClientFaults, type ConfigFault, httpProxySchema, LIMITS, mqttClientFields } from '#sdk';
import { commandTemplateFault } from './command-topics.ts';
import { topicTemplateFault } from './topic-template.ts';

const topicTemplate = z.string().superRefine((template, context) => {
  const fault = topicTemplateFault(template);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const willSchema = z
  .strictObject({
    topic: z
      .string()
      .superRefine((template, context) => {
        const fault = topicTemplateFault(template, ['gateway_id']);
        if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
      })
      .meta({ title: 'Topic', description: 'Where the broker publishes the will; may hold {gateway_id}.' }),
    payload: z.string().max(65_535).meta({ title: 'Payload', description: 'Text of the will.' }),
    qos: z.literal([0, 1]).default(1).meta({ title: 'QoS', description: 'Quality of service of the will.' }),
    retain: z.boolean().default(false).meta({ title: 'Retain', description: 'Whether the broker keeps the will.' }),
  })
  .meta({ title: 'Will', description: 'A message that the broker publishes when the connection breaks.' });

const commandTopic = z.string().superRefine((template, context) => {
  const fault = topicTemplateFault(template, ['gateway_id', 'device_id', 'command']) ?? commandTemplateFault(template);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const responseTopic = z.string().superRefine((template, context) => {
  const fault = topicTemplateFault(template, ['gateway_id', 'device_id', 'id']);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const commandsSchema = z
  .strictObject({
    enabled: z.boolean().default(true).meta({
      title: 'Enabled',
      description:
        'Whether commands are taken. Whoever may publish to the command topics may write every point with `writable: true`: let the broker allow that to few.',
    }),
    topic: commandTopic.default('fieldpost/{gateway_id}/{device_id}/command/{command}').meta({
      title: 'Topic',
      description:
        'Where commands come from; must hold {device_id} and {command} (`write` or an action) as whole levels.',
    }),
    response_topic: responseTopic.default('fieldpost/{gateway_id}/{device_id}/response/{id}').meta({
      title: 'Response topic',
      description:
        'Where answers go; may hold {gateway_id}, {device_id} and {id}, the id of the command. A response topic that comes with a command (MQTT 5) goes before.',
    }),
  })
  .meta({
    title: 'Commands',
    description: 'The way down: writing points and invoking actions. Only under `upstream`.',
  });

export const mqttUpstreamConfig = z
  .strictObject({
    url: z
      .url({
        protocol: /^(?:mqtts?|wss?)$/,
        error: 'must be a URL that begins with mqtts://, mqtt://, wss:// or ws://',
      })
      .meta({
        title: 'URL',
        description:
          'The broker: `mqtts://` (TLS, port 8883), `mqtt://` (port 1883), `wss://` (WebSocket with TLS, port 443) or `ws://` (port 80).',
        examples: ['mqtts://broker.example:8883', 'wss://broker.example/mqtt'],
      }),
    allow_plaintext: z.boolean().default(false).meta({
      title: 'Allow plaintext',
      description: '`mqtt://` and `ws://` to another machine send credentials and data in clear and need this.',
    }),
    topic: topicTemplate.default('fieldpost/{gateway_id}/{device_id}/telemetry').meta({
      title: 'Topic',
      description: 'Template of the topic to publish to; may hold {gateway_id} and {device_id}.',
    }),
    client_id: z.string().min(1).max(65_535).optional().meta({
      title: 'Client id',
      description:
        'MQTT client id; two clients with the same one take the connection from each other. Default: the gateway id for `upstream`, gateway id and endpoint name elsewhere.',
    }),
    ...mqttClientFields,
    alpn: z.array(z.string().min(1).max(255)).max(8).optional().meta({
      title: 'ALPN',
      description: 'Protocols to offer by ALPN; AWS IoT Core wants `x-amzn-mqtt-ca` on port 443.',
    }),
    protocol_version: z.literal(['3.1.1', 5]).default(5).meta({
      title: 'MQTT version',
      description: '5 carries properties and tells why it refuses; 3.1.1 for brokers without MQTT 5.',
    }),
    envelope: z.enum(['none', 'json']).default('none').meta({
      title: 'Envelope',
      description:
        '`json` wraps bodies that pass through in JSON with device, time, epoch, seq and properties, for MQTT 3.1.1, which carries no properties. Bodies made by Fieldpost carry these already.',
    }),
    window: z.int().min(1).max(LIMITS.queue_in_flight_messages).default(256).meta({
      title: 'Window',
      description: 'Messages that may be unanswered at once; a smaller Receive Maximum of the broker is kept to.',
    }),
    ack_timeout_ms: z.int().min(1000).max(600_000).default(20_000).meta({
      title: 'Acknowledgement timeout',
      description: 'A broker that leaves the oldest message unanswered this long is taken for dead.',
    }),
    commands: commandsSchema.prefault({}),
    will: willSchema.optional(),
    proxy: httpProxySchema.optional(),
  })
  .meta({ title: 'MQTT', description: 'Publishes messages to an MQTT broker with QoS 1.' });

export type MqttUpstreamConfig = z.output<typeof mqttUpstreamConfig>;

/** Faults that the schema cannot express. */
export function checkMqttUpstream(config: MqttUpstreamConfig): readonly ConfigFault[] {
  const faults = brokerClientFaults(config, 'mqtts', 'the topic goes into `topic`');
  if (config.password === undefined || config.username !== undefined || config.protocol_version === 5) return faults;
  // MQTT 3.1.1, 3.1.2.9: no password without a user name.
  return [...faults, { path: ['password'], message: 'needs `username` as well in MQTT 3.1.1' }];
}
