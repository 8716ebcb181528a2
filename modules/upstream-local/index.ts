// Local upstream: an MQTT broker inside the gateway, so that a newcomer sees messages without any account.

import { defineUpstream } from '#sdk';
import { checkLocalUpstream, localUpstreamConfig } from './config.ts';

export const upstreamLocal = defineUpstream({
  type: 'local',
  config: localUpstreamConfig,
  check: checkLocalUpstream,
  load: async () => (await import('./transport.ts')).createLocalTransport,
});
