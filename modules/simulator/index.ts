// The simulated site: something to poll for who has no device yet.

import { defineAdapter } from '#sdk';
import { simulatorConfig } from './config.ts';

export const simulator = defineAdapter({
  type: 'simulator',
  config: simulatorConfig,
  load: async () => (await import('./adapter.ts')).createSimulator,
});
