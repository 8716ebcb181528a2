// The largest test that Neuron publishes (500 Modbus TCP devices, 30 values each, every second) on the whole daemon, and
// how much of a slow serial line the scheduler leaves unused.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectAsync } from 'mqtt';
import { adapterFor, NEVER, record } from '../unit/modules/modbus/harness.ts';
import { serialLine } from '../unit/modules/modbus/pty.ts';
import { siteHost } from '../sim/modbus-site.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { type PrometheusText, parsePrometheus } from '../support/prometheus.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, atMost, type BenchContext, type BenchRow } from './bench.ts';
import { type BenchDaemon, spawnDaemon } from './daemon.ts';
import { cpuPercentDuring, rssMb } from './process-meter.ts';

const DEVICES = 500;
const POINTS = 30;
const PERIOD_MS = 1000;
const SITE_PORT = 25_502;
const WEB = '127.0.42.5:8080';

/** 11 bits a character. */
const BAUD_RATE = 19_200;
const CHAR_MS = 11_000 / BAUD_RATE;
const UNITS = 4;
/** Unit, function, address, quantity, CRC. */
const REQUEST_CHARS = 8;
/** Unit, function, byte count, CRC. */
const ANSWER_CHARS = 5;
/** Modbus over Serial Line V1.02, 2.5.1.1: before the answer, and before the next request. */
const GAP_CHARS = 2 * 3.5;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  return [...(await manyDevices(context)), ...(await slowLine(context))];
}

type Peer = ChildProcessByStdio<Writable, Readable, null>;

/** A server in a process of its own; resolves when it serves. */
async function startPeer(script: string, ...args: (string | number)[]): Promise<Peer> {
  const path = join(import.meta.dirname, '..', 'sim', script);
  const peer = spawn(process.execPath, [path, ...args.map(String)], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(peer.stdout, 'data');
  return peer;
}

async function endPeer(peer: Peer): Promise<void> {
  const ended = once(peer, 'exit');
  peer.stdin.end();
  await ended;
}

function siteConfig(upstream: string): string {
  const points = Object.fromEntries(
    Array.from({ length: POINTS }, (_, index) => [`p${index}`, { register: `input:${index * 2}`, type: 'float32' }]),
  );
  const devices = Object.fromEntries(
    Array.from({ length: DEVICES }, (_, index) => [
      `meter-${index}`,
      { host: siteHost(index), poll_interval_ms: PERIOD_MS, points },
    ]),
  );
  const [address, port] = WEB.split(':');
  // JSON is YAML.
  return JSON.stringify({
    gateway: { id: 'bench' },
    adapters: { site: { type: 'modbus', transport: { kind: 'tcp', port: SITE_PORT }, devices } },
    upstream: { type: 'mqtt', url: upstream, topic: 'bench/{device_id}' },
    web: { address, port: Number(port) },
  });
}

async function manyDevices(context: BenchContext): Promise<readonly BenchRow[]> {
  const { directory, daemon: path, quick } = context;
  const seconds = quick ? 15 : 60;
  const site = await startPeer('modbus-site.ts', DEVICES, SITE_PORT, POINTS * 2);
  await using broker = await startMosquitto({ address: '127.0.42.5' });
  const subscriber = await connectAsync(broker.url);
  let arrived = 0;
  subscriber.on('message', () => (arrived += 1));
  await subscriber.subscribeAsync('bench/#', { qos: 0 });
  await using daemon = spawnDaemon({
    daemon: path,
    directory: join(directory, 'site'),
    config: siteConfig(broker.url),
    web: WEB,
  });
  try {
    await daemon.ready();
    await waitFor(() => arrived >= 3 * DEVICES, { timeoutMs: 60_000, what: 'the first messages' });
    // The first scrape loads the metrics' library, once in the life of a daemon.
    await scrape(daemon);
    await sleep(2000);
    context.progress(`${DEVICES} devices are polled; measuring ${seconds} s`);
    const before = await scrape(daemon);
    const arrivedBefore = arrived;
    const cpuPercent = await cpuPercentDuring(daemon.pid, () => sleep(seconds * 1000));
    const messagesPerSecond = (arrived - arrivedBefore) / seconds;
    const after = await scrape(daemon);
    const polls = after.polls - before.polls;
    const onTimePercent = (100 * (after.onTime - before.onTime)) / polls;
    const missed = after.missed - before.missed;
    const what = `${DEVICES} Modbus TCP devices × ${POINTS} float32 × ${PERIOD_MS / 1000} s to Mosquitto`;
    return [
      {
        what: `${what}: polls within 10 % of the period`,
        measured: `${polls} polls in ${seconds} s, ${missed} missed, ${messagesPerSecond.toFixed(1)} messages/s delivered`,
        value: (onTimePercent * polls) / (polls + missed),
        unit: '%',
        bar: atLeast(99.9),
      },
      {
        what: `${what}: CPU of the daemon`,
        measured: `of one core; ${rssMb(daemon.pid).toFixed(0)} MB resident`,
        value: cpuPercent,
        unit: '%',
        bar: atMost(60),
      },
    ];
  } finally {
    await subscriber.endAsync(true);
    await endPeer(site);
  }
}

async function scrape(daemon: BenchDaemon): Promise<{ polls: number; onTime: number; missed: number }> {
  const metrics: PrometheusText = parsePrometheus(await (await daemon.get('/metrics')).text());
  const tenth = String(PERIOD_MS / 10_000);
  return {
    polls: metrics.value('fieldpost_poll_lateness_seconds_count') ?? 0,
    onTime: metrics.value('fieldpost_poll_lateness_seconds_bucket', { le: tenth }) ?? 0,
    missed: metrics.value('fieldpost_polls_missed_total') ?? 0,
  };
}

/** Exchanges made, over those that fit on the line with nothing between them but what the specification asks for. */
async function slowLine(context: BenchContext): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const registers of [POINTS * 2, 10]) {
    await using line = await serialLine();
    const server = await startPeer('modbus-serial-device.ts', line.far, CHAR_MS, UNITS);
    const recording = record();
    const points = Object.fromEntries(
      Array.from({ length: registers / 2 }, (_, index) => [
        `p${index}`,
        { register: `input:${index * 2}`, type: 'float32' },
      ]),
    );
    // Polls are due faster than the line can carry them, so that it never rests.
    const devices = Object.fromEntries(
      Array.from({ length: UNITS }, (_, index) => [
        `unit-${index + 1}`,
        { unit_id: index + 1, poll_interval_ms: 10, points },
      ]),
    );
    const transport = { kind: 'rtu', path: line.near, baud_rate: BAUD_RATE };
    const adapter = adapterFor({ transport, devices }, recording);
    await adapter.start(NEVER);
    await waitFor(() => recording.exchanges.length > 3 * UNITS);
    context.progress(`RTU at ${BAUD_RATE} baud, ${registers} registers a request`);
    const before = recording.exchanges.length;
    const startedMs = performance.now();
    await sleep(context.quick ? 4000 : 15_000);
    const count = recording.exchanges.length - before;
    const elapsedMs = performance.now() - startedMs;
    const failed = recording.exchanges.filter(({ outcome }) => outcome !== 'ok').length;
    const leastMs = (REQUEST_CHARS + ANSWER_CHARS + 2 * registers + GAP_CHARS) * CHAR_MS;
    await adapter.stop(NEVER);
    await endPeer(server);
    rows.push({
      what: `RTU at ${BAUD_RATE} baud on a pseudo-terminal, ${registers} registers a request: bus time used`,
      measured: `${(elapsedMs / count).toFixed(1)} ms an exchange, ${leastMs.toFixed(1)} ms at best, ${failed} failed`,
      value: (100 * count * leastMs) / elapsedMs,
      unit: '%',
      bar: atLeast(90),
    });
  }
  return rows;
}
