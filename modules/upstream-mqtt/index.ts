// MQTT upstream: publishes to any MQTT 3.1.1 or 5 broker.

import { brokerUrl, defineUpstream } from '#sdk';
import { checkMqttUpstream, mqttUpstreamConfig } from './config.ts';

export const upstreamMqtt = defineUpstream({
  type: 'mqtt',
  config: mqttUpstreamConfig,
  check: checkMqttUpstream,
  publishes: ({ url, topic }) => ({ ...brokerUrl(url), template: topic }),
  load: async () => (await import('./transport.ts')).createMqttTransport,
});
