// The serial module: what it is called, how it is configured, and where the code is that a configuration loads.

import { defineAdapter, defineScan } from '#sdk';
import { checkSerialConfig } from './check-config.ts';
import { serialConfig } from './config.ts';
import { serialClaims } from './find-port.ts';
import { scanOptions } from './scan-options.ts';

export const serial = defineAdapter({
  type: 'serial',
  config: serialConfig,
  check: checkSerialConfig,
  claims: serialClaims,
  load: async () => (await import('./adapter.ts')).createSerialAdapter,
  scan: defineScan({ options: scanOptions, load: async () => (await import('./scan.ts')).scanSerial }),
});
