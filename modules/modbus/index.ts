// The Modbus module: what it is called, how it is configured, and where the code is that a configuration loads.

import { defineAdapter } from '#sdk';
import { checkModbusConfig } from './check-config.ts';
import { modbusConfig } from './config.ts';

export const modbus = defineAdapter({
  type: 'modbus',
  config: modbusConfig,
  check: checkModbusConfig,
  load: async () => (await import('./adapter.ts')).createModbusAdapter,
});
