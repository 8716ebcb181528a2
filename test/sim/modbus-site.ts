// Many Modbus TCP devices in a process of their own, for benches: one address of 127.41.0.0/16 each, one port, unit 1.
// `node modbus-site.ts DEVICES PORT REGISTERS` prints one line of JSON when all listen, and ends with its standard input.

import { ModbusServer } from './modbus-server.ts';

/** How often the values move. */
const MOVE_MS = 250;

/** Address of a device, from 0. */
export function siteHost(index: number): string {
  return `127.41.${Math.floor(index / 250)}.${(index % 250) + 1}`;
}

async function main(): Promise<void> {
  const [devices = 500, port = 5502, registers = 128] = process.argv.slice(2).map(Number);
  const servers = Array.from({ length: devices }, (_, index) => {
    return new ModbusServer({ host: siteHost(index), port, keepRequests: 0 });
  });
  const tables = servers.map((server) => server.addDevice(1, { size: registers }));
  const bytes = new DataView(new ArrayBuffer(4));
  const move = (): void => {
    const seconds = performance.now() / 1000;
    for (const [index, { input, holding }] of tables.entries()) {
      for (let register = 0; register + 1 < registers; register += 2) {
        bytes.setFloat32(0, 230 + 10 * Math.sin(seconds / 7 + index + register));
        input[register] = bytes.getUint16(0);
        input[register + 1] = bytes.getUint16(2);
      }
      holding.set(input);
    }
  };
  move();
  setInterval(move, MOVE_MS);
  await Promise.all(servers.map((server) => server.listen()));
  process.stdout.write(`${JSON.stringify({ devices, port })}\n`);
  process.stdin.on('end', () => process.exit(0)).resume();
}

if (import.meta.main) await main();
