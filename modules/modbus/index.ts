// The Modbus module: what it is called, how it is configured, and where the code is that a configuration loads.

import { join } from 'node:path';
import { defineAdapter, defineScan } from '#sdk';
import { checkModbusConfig, modbusClaims } from './check-config.ts';
import { modbusConfig } from './config.ts';
import { checkProfile, profileSchema } from './profile.ts';
import { scanOptions } from './scan-options.ts';

export const modbus = defineAdapter({
  type: 'modbus',
  config: modbusConfig,
  check: checkModbusConfig,
  claims: modbusClaims,
  // Beside this file in the sources, and beside the bundle.
  profiles: { folder: join(import.meta.dirname, 'profiles'), schema: profileSchema, check: checkProfile },
  load: async () => (await import('./adapter.ts')).createModbusAdapter,
  scan: defineScan({ options: scanOptions, load: async () => (await import('./scan.ts')).scanModbus }),
});
