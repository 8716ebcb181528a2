// Many Modbus TCP devices in a process of their own that note when each was asked: `node modbus-site-child.ts DEVICES PORT
// REGISTERS`. On each command it reports how the requests since the one before were spaced.

import { onCommand, report } from '../support/child.ts';
import { ModbusServer } from '../sim/modbus-server.ts';
import { siteHost } from '../sim/modbus-site.ts';
import { quantile } from './bench.ts';

const PERIOD_MS = 1000;
/** A tenth of the period, early or late. */
const ON_TIME_MS = PERIOD_MS / 10;

const [devices = 500, port = 5502, registers = 64] = process.argv.slice(2).map(Number);
const arrivalsMs: number[][] = Array.from({ length: devices }, () => []);

/** How far each request came from the device's own grid, in ms. The grid's phase is the median of all. */
function deviationsMs(times: readonly number[]): number[] {
  const [first] = times;
  if (first === undefined) return [];
  const phases = times.map((time) => {
    const rest = (time - first) % PERIOD_MS;
    return rest > PERIOD_MS / 2 ? rest - PERIOD_MS : rest;
  });
  const phase = quantile(phases, 0.5);
  return phases.map((each) => each - phase);
}

function measure(sinceMs: number): object {
  const elapsedMs = performance.now() - sinceMs;
  const all = arrivalsMs.flatMap(deviationsMs).map(Math.abs);
  const onTime = all.filter((deviation) => deviation <= ON_TIME_MS).length;
  // A poll that never came is one that was not on time. The window cuts each grid at two places.
  const expected = Math.max(all.length, devices * Math.floor(elapsedMs / PERIOD_MS));
  return {
    requests: all.length,
    expected,
    onTimeShare: onTime / expected,
    p50Ms: quantile(all, 0.5),
    p99Ms: quantile(all, 0.99),
    p999Ms: quantile(all, 0.999),
    maxMs: Math.max(...all),
  };
}

const servers = arrivalsMs.map((times, index) => {
  const server = new ModbusServer({ host: siteHost(index), port, keepRequests: 0 });
  const { input } = server.addDevice(1, { size: registers });
  const value = new DataView(new ArrayBuffer(4));
  for (let register = 0; register + 1 < registers; register += 2) {
    value.setFloat32(0, 230 + Math.sin(index + register));
    input[register] = value.getUint16(0);
    input[register + 1] = value.getUint16(2);
  }
  server.behave(({ atMs }) => {
    times.push(atMs);
    // Values move, so that every poll has something to say.
    input[1] = (input[1] ?? 0) + 1;
    return undefined;
  });
  return server;
});
await Promise.all(servers.map((server) => server.listen()));
let sinceMs = performance.now();
onCommand(() => {
  report(measure(sinceMs));
  for (const times of arrivalsMs) times.length = 0;
  sinceMs = performance.now();
});
process.stdin.on('end', () => process.exit(0));
report({ listening: devices });
