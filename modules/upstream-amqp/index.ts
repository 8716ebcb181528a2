// AMQP upstream: sends to any AMQP 1.0 broker.

import { defineUpstream } from '#sdk';
import { amqpUpstreamConfig, checkAmqpUpstream } from './config.ts';

export const upstreamAmqp = defineUpstream({
  type: 'amqp',
  config: amqpUpstreamConfig,
  check: checkAmqpUpstream,
  load: async () => (await import('./transport.ts')).createAmqpTransport,
});
