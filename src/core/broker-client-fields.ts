// The configuration of a connection to a broker, as every client of one has it: fragments that a module spreads into its
// own schema, so that user, certificates and waits are written the same way for an upstream and for a field broker.

import { z } from 'zod';
import type { BrokerPlace } from './module.ts';
import { PEM_PATTERN, PEM_RULE } from './pem.ts';

/** Registered for MQTT and AMQP (IANA), and those of HTTP for WebSockets. */
const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  'mqtt:': 1883,
  'mqtts:': 8883,
  'amqp:': 5672,
  'amqps:': 5671,
  'ws:': 80,
  'amqpws:': 80,
  'wss:': 443,
  'amqpwss:': 443,
};

/** Where the broker of a valid URL listens; an IPv6 address comes without brackets. */
export function brokerUrl(url: string): BrokerPlace {
  const { protocol, hostname, port } = new URL(url);
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? (DEFAULT_PORTS[protocol] ?? 0) : Number(port),
  };
}

/** An optional PEM text; with `secret` a private key. */
export function pemField(title: string, description: string, secret = false): z.ZodOptional<z.ZodString> {
  return z
    .string()
    .regex(PEM_PATTERN, { error: PEM_RULE })
    .optional()
    .meta({ title, description, ...(secret && { secret }) });
}

/** Who the client is, and whom it trusts. */
export const brokerClientFields = {
  username: z.string().min(1).optional().meta({ title: 'User name', description: 'For the broker.' }),
  password: z.string().optional().meta({ title: 'Password', description: 'For the broker.', secret: true }),
  ca: pemField('Authority', 'Certificates (PEM) of the authorities to trust instead of the system’s.'),
  certificate: pemField('Client certificate', 'Own certificate (PEM), with its chain where the broker needs it.'),
  key: pemField('Client key', 'Private key (PEM) of the client certificate.', true),
  server_name: z.string().min(1).optional().meta({
    title: 'Server name',
    description: 'Name that the certificate of the broker must hold. Default: the host of the URL.',
  }),
};

export const mqttClientFields = {
  ...brokerClientFields,
  keepalive_secs: z.int().min(5).max(65_535).default(30).meta({
    title: 'Keep-alive',
    description: 'A silent connection is asked for a sign of life this often.',
  }),
  connect_timeout_ms: z.int().min(500).max(120_000).default(10_000).meta({
    title: 'Connect timeout',
    description: 'Longest wait for each step of a connect: TCP, TLS, CONNACK, and a proxy where there is one.',
  }),
};
