// Modbus RTU devices on a serial port, in a process of their own, at the pace of a slow line.
// `node modbus-serial-device.ts PATH CHAR_MS UNITS` prints `ready`, and ends with its standard input.

import { SerialPort } from 'serialport';
import { ModbusServer } from './modbus-server.ts';

const [path = '', charMs = '0', units = '1'] = process.argv.slice(2);
const server = new ModbusServer({ framing: 'rtu', charMs: Number(charMs), keepRequests: 0 });
for (let unitId = 1; unitId <= Number(units); unitId += 1) server.addDevice(unitId, { size: 1000 });
const port = new SerialPort({ path, baudRate: 115_200 });
port.once('open', () => {
  server.serve(port);
  process.stdout.write('ready\n');
});
process.stdin.on('end', () => process.exit(0)).resume();
