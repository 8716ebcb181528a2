// Local MQTT: the broker for leaf devices, or a client of an existing one.

import { defineAdapter } from '#sdk';
import { checkMqtt, mqttClaims } from './check-config.ts';
import { mqttConfig } from './config.ts';
import { heardTopics } from './heard-topics.ts';

export const mqtt = defineAdapter({
  type: 'mqtt',
  config: mqttConfig,
  check: checkMqtt,
  claims: mqttClaims,
  hears: heardTopics,
  // On a desk nothing is asked of another broker, which belongs to a plant.
  servesOthers: ({ connect }) => connect === undefined,
  load: async () => (await import('./adapter.ts')).createMqttAdapter,
});
