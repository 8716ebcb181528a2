// The largest test that Neuron publishes: 500 Modbus TCP devices with 30 points each, once a second, to a local broker.

import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { siteHost } from '../sim/modbus-site.ts';
import { startChild, type Child } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, atMost, type BenchContext, type BenchRow } from './bench.ts';
import { calibrate } from './calibration.ts';
import { spawnDaemon, type BenchDaemon } from './daemon.ts';
import { floatPoints, isListening, modbusConfiguration } from './modbus-config.ts';
import { cpuPercentDuring, rssMb } from './process-meter.ts';

const ADDRESS = '127.0.80.3';
const DEVICES = 500;
const POINTS = 30;
const PERIOD_MS = 1000;
const WARM_UP_MS = 15_000;

interface Spacing {
  readonly requests: number;
  readonly expected: number;
  readonly onTimeShare: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

function isSpacing(report: unknown): report is Spacing {
  return typeof report === 'object' && report !== null && 'onTimeShare' in report;
}

function configuration(port: number, url: string, webPort: number): string {
  return modbusConfiguration({
    transport: `{ kind: tcp, port: ${port} }`,
    devices: Array.from(
      { length: DEVICES },
      (_, index) =>
        `meter-${index}: { unit_id: 1, host: ${siteHost(index)}, poll_interval_ms: ${PERIOD_MS}, points: ${floatPoints(POINTS)} }`,
    ),
    url,
    web: { address: ADDRESS, port: webPort },
  });
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const measureMs = context.quick ? 20_000 : 60_000;
  const port = await freePort(siteHost(0));
  const webPort = await freePort(ADDRESS);
  await using broker = await startMosquitto({ address: ADDRESS, lines: ['log_type none'] });
  await using site = startChild(join(import.meta.dirname, 'modbus-site-child.ts'), {
    args: [String(DEVICES), String(port), String(POINTS * 2)],
  });
  await site.next(isListening);
  await using daemon = spawnDaemon({
    ...context,
    config: configuration(port, broker.url, webPort),
    web: `${ADDRESS}:${webPort}`,
  });
  await daemon.ready();
  await waitFor(async () => (await delivered(daemon)) > 2 * DEVICES, { timeoutMs: 60_000, what: 'all devices' });
  context.progress(`${DEVICES} devices answer`);
  await sleep(WARM_UP_MS);
  await spacing(site);
  const calibration = calibrate();
  const before = await delivered(daemon);
  const cpuPercent = await cpuPercentDuring(daemon.pid, () => sleep(measureMs));
  const perSecond = ((await delivered(daemon)) - before) / (measureMs / 1000);
  const result = await spacing(site);
  const memoryMb = rssMb(daemon.pid);
  await daemon.stop();
  const seconds = measureMs / 1000;
  return [
    {
      what: '500 Modbus TCP devices × 30 float32 × 1 s: polls within 10 % of the period',
      measured: `arrival at the devices in ${seconds} s: ${result.requests} of ${result.expected} polls; off the grid p50 ${result.p50Ms.toFixed(1)} ms, p99 ${result.p99Ms.toFixed(1)} ms, p99.9 ${result.p999Ms.toFixed(1)} ms, at most ${result.maxMs.toFixed(0)} ms`,
      value: result.onTimeShare * 100,
      unit: '%',
      bar: atLeast(99.9),
    },
    {
      what: 'the same: share of one core',
      measured: `${perSecond.toFixed(0)} messages a second delivered; RSS ${memoryMb.toFixed(0)} MB; calibration loop beside it ${calibration.ms.toFixed(0)} ms`,
      value: cpuPercent,
      unit: '%',
      bar: atMost(60),
    },
  ];
}

async function spacing(site: Child): Promise<Spacing> {
  site.send({ report: true });
  return site.next(isSpacing);
}

async function delivered(daemon: BenchDaemon): Promise<number> {
  return (await daemon.metrics()).value('fieldpost_messages_delivered_total', { endpoint: '$upstream' }) ?? 0;
}
