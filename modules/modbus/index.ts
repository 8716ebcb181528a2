// The Modbus module: what it is called, how it is configured, and where the code is that a configuration loads.

import { defineAdapter, defineScan } from '#sdk';
import { checkModbusConfig } from './check-config.ts';
import { modbusConfig } from './config.ts';
import { scanOptions } from './scan-options.ts';

export const modbus = defineAdapter({
  type: 'modbus',
  config: modbusConfig,
  check: checkModbusConfig,
  load: async () => (await import('./adapter.ts')).createModbusAdapter,
  scan: defineScan({ options: scanOptions, load: async () => (await import('./scan.ts')).scanModbus }),
});
