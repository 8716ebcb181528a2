// Local upstream: an MQTT broker inside the gateway, so that a newcomer sees messages without any account.

import { defineUpstream, listenClaim } from '#sdk';
import { checkLocalUpstream, localUpstreamConfig } from './config.ts';

export const upstreamLocal = defineUpstream({
  type: 'local',
  config: localUpstreamConfig,
  check: checkLocalUpstream,
  publishes: ({ listen }) => ({
    host: listen.address,
    port: listen.port,
    template: 'fieldpost/{gateway_id}/{device_id}/telemetry',
  }),
  claims: ({ listen }) => [listenClaim(['listen', 'port'], listen)],
  load: async () => (await import('./transport.ts')).createLocalTransport,
});
