// The serial module: what it is called, how it is configured, and where the code is that a configuration loads.

import { defineAdapter } from '#sdk';
import { checkSerialConfig } from './check-config.ts';
import { serialConfig } from './config.ts';

export const serial = defineAdapter({
  type: 'serial',
  config: serialConfig,
  check: checkSerialConfig,
  load: async () => (await import('./adapter.ts')).createSerialAdapter,
});
