// MQTT 3.1.1 of the local hub, as Azure IoT Hub speaks it.

import type { HeadDefinition } from '#sdk';

export const hubMqtt: HeadDefinition = {
  kind: 'head',
  type: 'mqtt',
  load: async () => (await import('./head.ts')).createMqttHead,
};
