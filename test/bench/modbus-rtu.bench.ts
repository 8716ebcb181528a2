// How much of a slow serial line's time the adapter uses when there is always something to ask.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChild, type Child } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { serialLine } from '../support/serial-line.ts';
import { atLeast, type BenchContext, type BenchRow } from './bench.ts';
import { spawnDaemon } from './daemon.ts';
import { floatPoints, isListening, modbusConfiguration } from './modbus-config.ts';

const ADDRESS = '127.0.80.4';
const BAUD_RATE = 19_200;
const UNITS = 8;
const WARM_UP_MS = 5000;
const BAR_PERCENT = 90;

interface LineReport {
  readonly transactions: number;
  readonly usedShare: number;
  readonly hastyRequests: number;
  readonly elapsedMs: number;
}

function isLineReport(report: unknown): report is LineReport {
  return typeof report === 'object' && report !== null && 'usedShare' in report;
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  return [await measure(context, 30, 'reads of 60 registers'), await measure(context, 1, 'reads of 2 registers')];
}

/** `points` float32 values in one block on each of the units, all due much sooner than the line can carry them. */
async function measure(context: BenchContext, points: number, name: string): Promise<BenchRow> {
  const measureMs = context.quick ? 15_000 : 45_000;
  await using broker = await startMosquitto({ address: ADDRESS, lines: ['log_type none'] });
  await using line = await serialLine();
  await using server = startChild(join(import.meta.dirname, 'modbus-line-child.ts'), {
    args: [line.far, String(BAUD_RATE)],
  });
  await server.next(isListening);
  const webPort = await freePort(ADDRESS);
  await using daemon = spawnDaemon({
    daemon: context.daemon,
    directory: join(context.directory, `rtu-${points}`),
    config: configuration(line.near, points, broker.url, webPort),
    web: `${ADDRESS}:${webPort}`,
  });
  await daemon.ready();
  await sleep(WARM_UP_MS);
  await lineReport(server);
  await sleep(measureMs);
  const result = await lineReport(server);
  await daemon.stop();
  return {
    what: `RTU at ${BAUD_RATE} baud, share of the bus time that frames and specified gaps leave, ${name}`,
    measured: `${result.transactions} transactions of ${UNITS} units in ${(result.elapsedMs / 1000).toFixed(0)} s; ${result.hastyRequests} requests before the silence of 3.5 characters was over`,
    value: result.usedShare * 100,
    unit: '%',
    bar: atLeast(BAR_PERCENT),
  };
}

async function lineReport(server: Child): Promise<LineReport> {
  server.send({ report: true });
  return server.next(isLineReport);
}

function configuration(path: string, points: number, url: string, webPort: number): string {
  return modbusConfiguration({
    transport: `{ kind: rtu, path: ${path}, baud_rate: ${BAUD_RATE}, parity: none }`,
    devices: Array.from(
      { length: UNITS },
      (_, index) => `meter-${index}: { unit_id: ${index + 1}, poll_interval_ms: 20, points: ${floatPoints(points)} }`,
    ),
    url,
    web: { address: ADDRESS, port: webPort },
  });
}
