// The simulated site: something to poll for who has no device yet.

import { defineAdapter, listenClaim } from '#sdk';
import { simulatorConfig } from './config.ts';

export const simulator = defineAdapter({
  type: 'simulator',
  config: simulatorConfig,
  claims: ({ listen }) => [listenClaim(['listen', 'port'], listen)],
  load: async () => (await import('./adapter.ts')).createSimulator,
});
