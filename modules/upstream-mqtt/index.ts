// MQTT upstream: publishes to any MQTT 3.1.1 or 5 broker.

import { defineUpstream } from '#sdk';
import { checkMqttUpstream, mqttUpstreamConfig } from './config.ts';

export const upstreamMqtt = defineUpstream({
  type: 'mqtt',
  config: mqttUpstreamConfig,
  check: checkMqttUpstream,
  load: async () => (await import('./transport.ts')).createMqttTransport,
});
