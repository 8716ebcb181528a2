// What the daemon keeps in memory: with the starter, with all modules, with a million messages waiting.

import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { starterConfig } from '../../src/config/starter.ts';
import { startChild } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { waitFor } from '../support/wait.ts';
import { atMost, type BenchContext, type BenchRow } from './bench.ts';
import { RUNTIME_ENVIRONMENT, RUNTIME_FLAGS, spawnDaemon, type BenchDaemon } from './daemon.ts';
import { idleRssMb } from './process-meter.ts';

const ADDRESS = '127.0.80.1';
const STARTER_BAR_MB = 90;
const ALL_MODULES_BAR_MB = 130;
const BACKLOG_BAR_MB = 30;
const BACKLOG_MESSAGES = 1_000_000;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  return [await starter(context), await allModules(context), ...(await backlog(context))];
}

function settleMs({ quick }: BenchContext): number {
  return quick ? 10_000 : 60_000;
}

/** Looks at everything that people and monitoring look at. */
async function lookAtAll(daemon: BenchDaemon): Promise<void> {
  for (const path of ['/', '/api/status', '/api/points', '/metrics', '/health']) {
    const response = await daemon.get(path);
    if (!response.ok) throw new Error(`${path} answered ${response.status}.`);
    await response.arrayBuffer();
  }
}

async function starter(context: BenchContext): Promise<BenchRow> {
  context.progress('the starter at rest');
  const web = `${ADDRESS}:${await freePort(ADDRESS)}`;
  const sitePort = await freePort();
  const config = replaced(starterConfig(), [
    [/port: 5020/g, `port: ${sitePort}`],
    [/host_name: localhost/, `address: ${ADDRESS}\n  host_name: localhost`],
    [/address: 127\.0\.0\.1, port: 8080/, `address: ${ADDRESS}, port: ${web.split(':')[1]}`],
  ]);
  await using daemon = spawnDaemon({ ...context, directory: join(context.directory, 'starter'), config, web });
  await daemon.ready();
  const restMb = await idleRssMb(daemon.pid, settleMs(context));
  await lookAtAll(daemon);
  const lookedAtMb = await idleRssMb(daemon.pid, settleMs(context) / 2);
  await daemon.stop();
  return {
    what: "RSS idle, the starter's modules",
    measured: `daemon at rest; ${lookedAtMb.toFixed(1)} MB after its page, status and metrics were asked for`,
    value: restMb,
    unit: 'MB',
    bar: atMost(STARTER_BAR_MB),
  };
}

/** The starter's text with other ports. @throws Error when the starter has changed so that one is not found. */
function replaced(text: string, changes: readonly (readonly [RegExp, string])[]): string {
  return changes.reduce((result, [pattern, replacement]) => {
    const next = result.replace(pattern, replacement);
    if (next === result) throw new Error(`The starter has no ${pattern.source}.`);
    return next;
  }, text);
}

async function allModules(context: BenchContext): Promise<BenchRow> {
  context.progress('all modules at rest');
  await using broker = await startMosquitto({ address: ADDRESS });
  const webPort = await freePort(ADDRESS);
  const sitePort = await freePort();
  const config = `
gateway: { id: plant-7 }
adapters:
  site: { type: simulator, listen: { port: ${sitePort} } }
  site-bus:
    type: modbus
    transport: { kind: tcp, host: 127.0.0.1, port: ${sitePort} }
    devices:
      meter-1: { unit_id: 1, poll_interval_ms: 1000, points: { voltage: { register: input:0, type: float32 } } }
  serial-bus:
    type: modbus
    transport: { kind: rtu, path: /dev/fieldpost-bench-absent }
    devices:
      meter-2: { unit_id: 1, poll_interval_ms: 1000, points: { voltage: { register: input:0, type: float32 } } }
  field-broker:
    type: mqtt
    listen: { address: 127.0.0.1, port: ${await freePort()} }
    anonymous: loopback
    presets: [tasmota, shelly, zigbee2mqtt, homie, sparkplug]
    topics: [{ topic: "site/{device_id}/state", points: { temperature: { pointer: /temperature, type: number } } }]
  scale:
    type: serial
    path: /dev/fieldpost-bench-absent-too
    framing: { kind: readline }
    devices:
      scale-1:
        requests:
          - { request: "W\\r\\n", decode: { kind: regex, pattern: "^W (?<weight>[-0-9.]+) kg$", types: { weight: number } } }
upstream: { type: mqtt, url: "${broker.url}" }
endpoints: { here: { type: local, listen: { port: ${await freePort()} } } }
routes:
  - { name: up, endpoint: $upstream }
  - { name: here, endpoint: here }
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  const web = `${ADDRESS}:${webPort}`;
  await using daemon = spawnDaemon({ ...context, directory: join(context.directory, 'all'), config, web });
  await daemon.ready();
  await lookAtAll(daemon);
  const restMb = await idleRssMb(daemon.pid, settleMs(context));
  await daemon.stop();
  return {
    what: 'RSS idle, all modules loaded',
    measured:
      'modbus TCP and RTU, serial, MQTT devices with all presets, simulator, MQTT, local broker, web, metrics; page and metrics asked for',
    value: restMb,
    unit: 'MB',
    bar: atMost(ALL_MODULES_BAR_MB),
  };
}

function isBacklog(report: unknown): report is { beforeMb: number; afterMb: number; messages: number } {
  return typeof report === 'object' && report !== null && 'afterMb' in report;
}

/** In the process that took them, and in a daemon that is started on them; both against the same with nothing waiting. */
async function backlog(context: BenchContext): Promise<BenchRow[]> {
  context.progress('a million messages offline');
  const directory = join(context.directory, 'backlog');
  const child = startChild(join(import.meta.dirname, 'backlog-child.ts'), {
    args: [join(directory, 'data', 'db', 'log'), String(BACKLOG_MESSAGES)],
    execArgv: RUNTIME_FLAGS,
    env: RUNTIME_ENVIRONMENT,
  });
  const filled = await child.next(isBacklog, 600_000);
  await child.exited;

  const webPort = await freePort(ADDRESS);
  const web = `${ADDRESS}:${webPort}`;
  const config = `
gateway: { id: plant-7 }
upstream: { type: mqtt, url: "mqtt://${ADDRESS}:${await freePort(ADDRESS)}" }
outbox: { min_free_bytes: 0, max_bytes: 8589934592, max_age_secs: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  const restMb = async (name: string, least: number): Promise<number> => {
    await using daemon = spawnDaemon({ ...context, directory: name, config, web });
    await daemon.ready();
    await waitFor(async () => (await waiting(daemon)) >= least, { timeoutMs: 60_000, everyMs: 200 });
    await sleep(1000);
    const mb = await idleRssMb(daemon.pid, settleMs(context));
    await daemon.stop();
    return mb;
  };
  const emptyMb = await restMb(join(context.directory, 'empty'), 0);
  const fullMb = await restMb(directory, BACKLOG_MESSAGES);
  return [
    {
      what: 'RSS with 1 000 000 messages of 256 B buffered offline, more than without: the process that took them',
      measured: `${filled.beforeMb.toFixed(1)} → ${filled.afterMb.toFixed(1)} MB, ${filled.messages} waiting`,
      value: filled.afterMb - filled.beforeMb,
      unit: 'MB',
      bar: atMost(BACKLOG_BAR_MB),
    },
    {
      what: 'the same: the daemon started on them',
      measured: `${emptyMb.toFixed(1)} → ${fullMb.toFixed(1)} MB`,
      value: fullMb - emptyMb,
      unit: 'MB',
      bar: atMost(BACKLOG_BAR_MB),
    },
  ];
}

async function waiting(daemon: BenchDaemon): Promise<number> {
  const status = (await (await daemon.get('/api/status')).json()) as { outbox: { messages: number } };
  return status.outbox.messages;
}
