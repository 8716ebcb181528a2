// Azure IoT Hub as upstream.

import { defineUpstream } from '#sdk';
import { checkIotHubUpstream, iotHubUpstreamConfig } from './config.ts';

export const upstreamIotHub = defineUpstream({
  type: 'iothub',
  config: iotHubUpstreamConfig,
  check: checkIotHubUpstream,
  load: async () => (await import('./transport.ts')).createIotHubTransport,
});
