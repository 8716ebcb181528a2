import { createModbusAdapter } from '../../modules/modbus/adapter.ts';
import { modbusConfig } from '../../modules/modbus/config.ts';
import type { AdapterContext } from '../../src/core/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { type ModbusServer, startModbusServer } from '../sim/modbus-server.ts';
import { type AdapterSubject, describeAdapter } from './adapter.suite.ts';

const HOST = '127.0.42.3';
const METER = 'meter-1' as DeviceId;

async function create(context: AdapterContext): Promise<AdapterSubject> {
  let accepted = 0;
  const memory = await startModbusServer({ host: HOST });
  const { port } = memory;
  const device = memory.addDevice(1);
  let server: ModbusServer | undefined = memory;
  const count = (listening: ModbusServer): void =>
    listening.behave(() => void (accepted = Math.max(accepted, listening.connections)));
  count(memory);
  const config = modbusConfig.parse({
    transport: { kind: 'tcp', host: HOST, port, connect_timeout_ms: 1000 },
    timeout_ms: 5000,
    retries: 0,
    devices: {
      [METER]: {
        poll_interval_ms: 50,
        timeout_ms: 150,
        circuit_breaker: { probe_interval_min_ms: 100, probe_interval_max_ms: 200 },
        points: { setpoint: { register: 'holding:1', writable: true }, voltage: { register: 'input:7' } },
      },
    },
  });
  return {
    adapter: createModbusAdapter(config, context),
    point: { deviceId: METER, point: 'setpoint', value: 42 },
    readOnly: { deviceId: METER, point: 'voltage', value: 1 },
    accepted: () => Math.max(accepted, server?.connections ?? 0),
    silence: () => server?.setAnswering(false),
    async vanish() {
      await server?.close();
      server = undefined;
    },
    async restore() {
      if (server === undefined) {
        server = await startModbusServer({ host: HOST, port });
        server.revive(1, device);
        count(server);
      }
      server.setAnswering(true);
    },
    async dispose() {
      await server?.close();
    },
  };
}

describeAdapter('modbus', create);
