// AMQP 1.0 of the local hub, as Azure IoT Hub and its Event Hubs-compatible endpoint speak it.

import type { HeadDefinition } from '#sdk';

export const hubAmqp: HeadDefinition = {
  kind: 'head',
  type: 'amqp',
  load: async () => (await import('./head.ts')).createAmqpHead,
};
