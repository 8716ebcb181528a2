// Configuration of an AMQP upstream or endpoint.

import { z } from 'zod';
import { brokerClientFaults, brokerClientFields, type ConfigFault, httpProxySchema, LIMITS } from '#sdk';
import { addressTemplateFault } from './address-template.ts';

const addressTemplate = (allowed: Parameters<typeof addressTemplateFault>[1]): z.ZodString =>
  z.string().superRefine((template, context) => {
    const fault = addressTemplateFault(template, allowed);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
  });

export const amqpUpstreamConfig = z
  .strictObject({
    url: z
      .url({
        protocol: /^(?:amqps?|(?:amqp)?wss?)$/,
        error: 'must be a URL that begins with amqps://, amqp://, wss:// or ws://',
      })
      .meta({
        title: 'URL',
        description:
          'The broker: `amqps://` (TLS, port 5671), `amqp://` (port 5672), `wss://` or `amqpwss://` (WebSocket with TLS, port 443), `ws://` or `amqpws://` (port 80).',
        examples: ['amqps://broker.example:5671', 'wss://broker.example/amqp'],
      }),
    allow_plaintext: z.boolean().default(false).meta({
      title: 'Allow plaintext',
      description: '`amqp://` and `ws://` to another machine send credentials and data in clear and need this.',
    }),
    address: addressTemplate(['gateway_id', 'device_id']).meta({
      title: 'Address',
      description:
        'Where messages go: a queue or topic of the broker, in its own spelling. May hold {gateway_id} and {device_id}.',
      examples: ['fieldpost.{device_id}', '/exchange/amq.topic/fieldpost.{device_id}'],
    }),
    command_address: addressTemplate(['gateway_id'])
      .optional()
      .meta({
        title: 'Command address',
        description:
          'Queue from which commands are taken; may hold {gateway_id}. Only under `upstream`. Without it there are none. Whoever may send there may write every point with `writable: true`: let the broker allow that to few.',
        examples: ['fieldpost.{gateway_id}.commands'],
      }),
    command_expiry: z.enum(['required', 'optional']).default('required').meta({
      title: 'Command expiry',
      description:
        'A queue keeps commands while the gateway is away. `required` refuses one that does not say until when it holds (`expires_at`, absolute-expiry-time or ttl).',
    }),
    container_id: z.string().min(1).max(255).optional().meta({
      title: 'Container id',
      description:
        'Name of this client at the broker. Default: the gateway id for `upstream`, gateway id and endpoint name elsewhere.',
    }),
    host_name: z.string().min(1).max(255).optional().meta({
      title: 'Host name',
      description: 'The virtual host; RabbitMQ wants `vhost:NAME`. Default: the host of the URL.',
    }),
    sasl: z.enum(['plain', 'external', 'anonymous', 'none']).optional().meta({
      title: 'SASL',
      description:
        'How to say who this is. `external`: by the client certificate; `none` leaves SASL out. Default: `plain` with a user name, else `external` with a certificate, else `anonymous`.',
    }),
    ...brokerClientFields,
    idle_timeout_secs: z.int().min(5).max(3600).default(60).meta({
      title: 'Idle timeout',
      description:
        'A broker that is silent this long is taken for dead; it is asked for a sign of life twice as often.',
    }),
    connect_timeout_ms: z.int().min(500).max(120_000).default(10_000).meta({
      title: 'Connect timeout',
      description:
        'Longest wait for each step of a connect: TCP, TLS, AMQP, and a proxy where there is one; and for each link.',
    }),
    window: z.int().min(1).max(LIMITS.queue_in_flight_messages).default(256).meta({
      title: 'Window',
      description: 'Messages that may be unsettled at once; less where the broker gives less credit.',
    }),
    ack_timeout_ms: z.int().min(1000).max(600_000).default(20_000).meta({
      title: 'Acknowledgement timeout',
      description: 'A link on which nothing is settled for so long is made anew.',
    }),
    link_idle_secs: z.int().min(1).max(86_400).default(300).meta({
      title: 'Link idle time',
      description: 'Where each device has an address of its own, its link is closed after so long without a message.',
    }),
    proxy: httpProxySchema.optional(),
  })
  .meta({ title: 'AMQP', description: 'Sends messages to an AMQP 1.0 broker, unsettled until the broker has them.' });

export type AmqpUpstreamConfig = z.output<typeof amqpUpstreamConfig>;

/** The mechanism that is meant. */
export function saslMechanism(config: AmqpUpstreamConfig): NonNullable<AmqpUpstreamConfig['sasl']> {
  return (
    config.sasl ??
    (config.username !== undefined ? 'plain' : config.certificate !== undefined ? 'external' : 'anonymous')
  );
}

/** Faults that the schema cannot express. */
export function checkAmqpUpstream(config: AmqpUpstreamConfig): readonly ConfigFault[] {
  const faults = [...brokerClientFaults(config, 'amqps', 'the address goes into `address`'), ...saslFaults(config)];
  if (config.command_address === undefined || config.command_address !== config.address) return faults;
  const message = 'is `address` too: the gateway would take its own messages for commands';
  return [...faults, { path: ['command_address'], message }];
}

function saslFaults(config: AmqpUpstreamConfig): readonly ConfigFault[] {
  const mechanism = saslMechanism(config);
  const { certificate, password, username } = config;
  if (mechanism === 'plain') {
    if (username === undefined) return [{ path: ['sasl'], message: '`plain` needs `username` and `password`' }];
    if (password === undefined) return [{ path: ['username'], message: 'needs `password` as well' }];
    // RFC 4616, 2.
    if (`${username}${password}`.includes('\0')) {
      return [{ path: ['username'], message: 'user name and password must not hold a NUL character' }];
    }
    return [];
  }
  const unused = username !== undefined ? 'username' : password !== undefined ? 'password' : undefined;
  if (unused !== undefined) return [{ path: [unused], message: `has no effect with SASL \`${mechanism}\`` }];
  if (mechanism === 'external' && certificate === undefined) {
    return [{ path: ['sasl'], message: '`external` needs `certificate` and `key`' }];
  }
  return [];
}
