// Configuration of the MQTT adapter: a broker for leaf devices, or a client of a broker that is there already.
// What a schema cannot say is in check-config.ts.

import { z } from 'zod';
import {
  adapterShapeFields,
  captureFields,
  deviceShapeFields,
  listenAddressSchema,
  LIMITS,
  mqttClientFields,
  PASSWORD_HASH_PATTERN,
  PASSWORD_HASH_RULE,
  PATTERN_MAX_CHARS,
  pemField,
  pointShapeFields,
  scaleFields,
  simulateFields,
  writeFields,
} from '#sdk';
import { parsePointer } from './json-value.ts';
import { topicTemplateFault } from './topic-template.ts';

const POINT_NAME_PATTERN = /^(?!__proto__$)[\p{L}\p{N}_][\p{L}\p{N}_.:%()/-]{0,127}$/u;

/** Of a response, what patterns are matched against: they take their time. */
export const JUDGED_CHARS = 4096;

export const PRESET_NAMES = ['tasmota', 'shelly', 'zigbee2mqtt', 'homie', 'sparkplug'] as const;
export type PresetName = (typeof PRESET_NAMES)[number];

function template(options: Parameters<typeof topicTemplateFault>[1]): z.ZodString {
  return z.string().superRefine((text, context) => {
    const fault = topicTemplateFault(text, options);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
  });
}

const pointer = z.string().refine((text) => parsePointer(text) !== undefined, {
  error: 'must be a JSON pointer (RFC 6901) such as /temperature or /channels/0/value',
});

const addressSchema = listenAddressSchema.default('127.0.0.1').meta({
  title: 'Address',
  description: 'Address to listen on; `0.0.0.0` or `::` for all.',
});
const portSchema = z.int().min(1).max(65_535);

const certificateFields = {
  certificate: pemField('Certificate', 'Certificate (PEM) of the broker, with its chain.'),
  key: pemField('Key', 'Private key (PEM) of the certificate.', true),
  client_ca: pemField(
    'Client authority',
    'Authorities (PEM) of client certificates; with it every client must show one.',
  ),
};

const listenSchema = z
  .strictObject({
    address: addressSchema,
    port: portSchema.default(1883).meta({ title: 'Port', description: 'TCP port.' }),
  })
  .meta({ title: 'Listen', description: 'MQTT over TCP, in clear.' });

const listenTlsSchema = z
  .strictObject({
    address: addressSchema,
    port: portSchema.default(8883).meta({ title: 'Port', description: 'TCP port.' }),
    ...certificateFields,
  })
  .meta({ title: 'Listen with TLS', description: 'MQTT over TLS.' });

const listenWebSocketSchema = z
  .strictObject({
    address: addressSchema,
    port: portSchema.default(9001).meta({ title: 'Port', description: 'TCP port.' }),
    path: z
      .string()
      .regex(/^\/\S*$/, { error: 'must begin with a slash' })
      .default('/mqtt')
      .meta({
        title: 'Path',
        description: 'Path of the WebSocket.',
      }),
    ...certificateFields,
  })
  .meta({
    title: 'Listen for WebSockets',
    description: 'MQTT over WebSockets; with `certificate` and `key` over TLS (wss).',
  });

const clientSchema = z
  .strictObject({
    username: z.string().min(1).max(256).meta({ title: 'User name', description: 'As the client gives it.' }),
    password: z.string().min(1).optional().meta({
      title: 'Password',
      description:
        'In clear or, better, by reference. Hashed into the secrets of the data directory when it is loaded.',
      secret: true,
    }),
    password_hash: z.string().regex(PASSWORD_HASH_PATTERN, { error: PASSWORD_HASH_RULE }).optional().meta({
      title: 'Password hash',
      description: 'Instead of the password: `scrypt$N$r$p$SALT$HASH`, as `fieldpost hash-password` makes it.',
      secret: true,
    }),
    devices: z
      .array(z.string().min(1))
      .max(LIMITS.devices)
      .optional()
      .meta({
        title: 'Devices',
        description: 'Devices that it may publish as; `*` for all. Default: only the device of its user name.',
        examples: [['pump-3', 'pump-4'], ['*']],
      }),
  })
  .meta({ title: 'Client' });

const pointSchema = z
  .strictObject({
    pointer: pointer.meta({
      title: 'Pointer',
      description: 'Where the value stands in the JSON payload (RFC 6901); empty for a payload that is the value.',
    }),
    type: z.enum(['any', 'number', 'integer', 'boolean', 'string']).default('any').meta({
      title: 'Type',
      description:
        '`any` takes what JSON says; the others convert, or tell the point as bad, and refuse to be written otherwise.',
    }),
    unit: z.string().max(32).optional().meta({ title: 'Unit', description: 'Sent and shown with the value.' }),
    writable: z.boolean().default(false).meta({
      title: 'Writable',
      description: 'May be written, by the topic of `command`.',
    }),
    ...pointShapeFields,
    ...scaleFields,
    ...writeFields,
  })
  .meta({ title: 'Point' });

const topicSchema = z
  .strictObject({
    topic: template({ allowed: ['device_id'], required: ['device_id'], wildcards: true }).meta({
      title: 'Topic',
      description: 'Template of what devices publish to; `{device_id}` is the device, + and # are wildcards.',
      examples: ['sensors/{device_id}/telemetry'],
    }),
    content_type: z.string().max(128).optional().meta({
      title: 'Content type',
      description: 'Sent with payloads that pass through, for example `application/json`.',
    }),
    points: z
      .record(
        z.string().regex(POINT_NAME_PATTERN, { error: 'must be 1 to 128 letters, digits or _ . : % ( ) / -' }),
        pointSchema,
      )
      .optional()
      .meta({
        title: 'Points',
        description: 'Decodes JSON payloads to these points. Without it the payload passes through byte for byte.',
      }),
  })
  .meta({ title: 'Topic' });

const availabilitySchema = z
  .strictObject({
    topic: template({ allowed: ['device_id'], required: ['device_id'] }).meta({
      title: 'Topic',
      description: 'Where devices, or their wills, say whether they are there.',
    }),
    online: z.string().default('online').meta({ title: 'Online', description: 'Payload of a device that is there.' }),
    offline: z.string().default('offline').meta({ title: 'Offline', description: 'Payload of one that is not.' }),
  })
  .meta({ title: 'Availability', description: 'Retained states and last wills.' });

const patternSchema = z.string().min(1).max(PATTERN_MAX_CHARS);
const JUDGED = `Looked for in the first ${JUDGED_CHARS} characters.`;

const commandSchema = z
  .strictObject({
    topic: template({ allowed: ['device_id', 'point'], required: ['device_id'] }).meta({
      title: 'Topic',
      description: 'Where a device takes writes; may hold {point}.',
      examples: ['sensors/{device_id}/set'],
    }),
    payload: z.string().max(4096).default('{"{point}":{value}}').meta({
      title: 'Payload',
      description:
        '`{point}` is the name of the point, `{value}` its raw value (before `scale`) as JSON, `{text}` the same as text.',
    }),
    response_topic: template({ allowed: ['device_id'], required: ['device_id'] })
      .optional()
      .meta({
        title: 'Response topic',
        description: 'Where the device confirms. Without it the value of the point confirms the write.',
      }),
    response_pointer: pointer.default('').meta({
      title: 'Response pointer',
      description:
        'Where the value stands in the JSON response; it confirms the write when it is the one written. Empty: the response is the value.',
    }),
    response: patternSchema.optional().meta({
      title: 'Response',
      description: `Pattern (RE2) of a response that confirms without telling the value, instead of \`response_pointer\`. ${JUDGED}`,
      examples: ['^OK'],
    }),
    refusal: patternSchema.optional().meta({
      title: 'Refusal',
      description: `Pattern (RE2) of a response by which the device refuses: the write fails at once. ${JUDGED}`,
      examples: ['"error"'],
    }),
    confirm: z.boolean().default(true).meta({
      title: 'Confirm',
      description: '`false`: nothing confirms a write; its result is uncertain.',
    }),
    timeout_ms: z.int().min(100).max(60_000).default(5000).meta({
      title: 'Timeout',
      description: 'Longest wait for the confirmation.',
    }),
  })
  .meta({
    title: 'Command',
    description: 'How points are written. Commands are sent once, with QoS 0, never retained.',
  });

const connectSchema = z
  .strictObject({
    url: z
      .url({
        protocol: /^(?:mqtts?|wss?)$/,
        error: 'must be a URL that begins with mqtts://, mqtt://, wss:// or ws://',
      })
      .meta({
        title: 'URL',
        description: 'The broker: `mqtts://` (TLS), `mqtt://`, `wss://` (WebSocket with TLS) or `ws://`.',
        examples: ['mqtts://broker.plant.example:8883'],
      }),
    client_id: z.string().min(1).max(128).optional().meta({
      title: 'Client id',
      description:
        'Must stay the same: the broker keeps what came in while the gateway was away under it. No other client of the broker may have it. Default: `fieldpost-GATEWAY.ADAPTER`, past 64 characters cut, with a hash at the end.',
    }),
    ...mqttClientFields,
  })
  .meta({ title: 'Connect', description: 'Attaches to a broker that is there already, instead of being one.' });

const deviceSchema = z
  .strictObject({
    ...simulateFields,
    ...captureFields,
    preset: z.enum(PRESET_NAMES).optional().meta({
      title: 'Preset',
      description:
        'Which of the `presets` it is, for a simulation, which then has the points that such devices usually have. Default: the first, where `topics` have no points.',
    }),
    ...deviceShapeFields,
  })
  .meta({
    title: 'Device',
    description: 'A device that is expected; its id is the one of the topics.',
  });

export const mqttConfig = z
  .strictObject({
    listen: listenSchema.optional(),
    listen_tls: listenTlsSchema.optional(),
    listen_ws: listenWebSocketSchema.optional(),
    connect: connectSchema.optional(),
    allow_plaintext: z.boolean().default(false).meta({
      title: 'Allow plaintext',
      description: 'Off loopback, MQTT without TLS shows credentials and data to the network and needs this.',
    }),
    anonymous: z.enum(['none', 'loopback', 'all']).default('none').meta({
      title: 'Anonymous clients',
      description:
        'Who may connect without a user name: nobody, programs on this machine, or everybody. They publish as any device that is none of `clients`, and send no commands.',
    }),
    clients: z.array(clientSchema).max(LIMITS.devices).default([]).meta({
      title: 'Clients',
      description: 'Who may connect to the broker.',
    }),
    topics: z.array(topicSchema).max(64).default([]).meta({
      title: 'Topics',
      description: 'What of the traffic is taken in. Other topics pass between the clients only.',
    }),
    availability: z.array(availabilitySchema).max(16).default([]).meta({ title: 'Availability' }),
    command: commandSchema.optional(),
    presets: z.array(z.enum(PRESET_NAMES)).max(PRESET_NAMES.length).default([]).meta({
      title: 'Presets',
      description: 'Kinds of devices whose topics and payloads are known.',
    }),
    devices: z.record(z.string(), deviceSchema).default({}).meta({
      title: 'Devices',
      description: 'Devices that are expected, so that they show before they are first heard. Others show themselves.',
    }),
    ...adapterShapeFields,
    silent_after_secs: z.int().min(0).max(604_800).default(0).meta({
      title: 'Silent after',
      description: 'A device that was not heard for this long counts as offline. 0: only wills and sessions decide.',
    }),
    max_connections: z.int().min(1).max(LIMITS.mqtt_connections).default(1024).meta({
      title: 'Connections',
      description: 'Most clients at once.',
    }),
    max_connects_per_sec: z.int().min(0).max(10_000).default(200).meta({
      title: 'Connects a second',
      description: 'New connections a second from one address; more are closed at once. 0: no limit.',
    }),
    max_packet_bytes: z.int().min(1024).max(LIMITS.mqtt_packet_bytes).default(270_336).meta({
      title: 'Packet size',
      description: 'A client that sends a larger packet is disconnected.',
    }),
    max_messages_per_sec: z.int().min(0).max(1_000_000).default(1000).meta({
      title: 'Messages a second',
      description: 'A client that sends more is slowed down to this; nothing is lost. 0: no limit.',
    }),
  })
  .meta({
    title: 'MQTT',
    description:
      'A broker for leaf devices (MQTT 3.1.1 over TCP, TLS and WebSockets), or a client of an existing broker.',
  });

export type MqttConfig = z.output<typeof mqttConfig>;
export type PointConfig = z.output<typeof pointSchema>;
export type TopicConfig = z.output<typeof topicSchema>;
export type CommandConfig = z.output<typeof commandSchema>;
export type ConnectConfig = z.output<typeof connectSchema>;
export type ClientConfig = z.output<typeof clientSchema>;
