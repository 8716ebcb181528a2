// Local upstream: an MQTT broker inside the gateway, so that a newcomer sees messages without any account.

import { defineUpstream, listenClaim } from '#sdk';
import { checkLocalUpstream, localUpstreamConfig } from './config.ts';

export const upstreamLocal = defineUpstream({
  type: 'local',
  config: localUpstreamConfig,
  check: checkLocalUpstream,
  claims: ({ listen }) => [listenClaim(['listen', 'port'], listen)],
  load: async () => (await import('./transport.ts')).createLocalTransport,
});
