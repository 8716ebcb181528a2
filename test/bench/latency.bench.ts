// How soon things go on: the first delivery when the upstream is back, the first poll after a start.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startModbusServer, type ModbusServer } from '../sim/modbus-server.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { waitFor } from '../support/wait.ts';
import { atMost, median, type BenchContext, type BenchRow } from './bench.ts';
import { spawnDaemon } from './daemon.ts';
import { createLink, FAR_ADDRESS, IN_FAR_NAMESPACE } from './far-link.ts';

const METER_ADDRESS = '127.0.80.5';
const BACK_BAR_SECS = 3;
const START_BAR_SECS = 1;
const FAR_PORT = 1883;
const LOOK_MS = 5;
/** Standard output is written in blocks when it is no terminal. */
const PROMPT_LOG = ['log_dest none', 'log_dest stderr'];

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const awaySecs = context.full ? [15, 60, 300] : [15, 60];
  const meter = await startModbusServer({ host: METER_ADDRESS });
  meter.addDevice(1);
  try {
    context.progress(`away for ${awaySecs.join(', ')} s`);
    const back = await Promise.all(
      awaySecs.flatMap((secs) => [stoppedBroker(context, meter, secs), stoppedBroker(context, meter, secs)]),
    );
    const cut = await cutLink(context, meter, awaySecs);
    context.progress('starts');
    return [
      {
        what: `upstream back → first delivery, after ${awaySecs.join(', ')} s away${context.full ? '' : ' (300 s only with --full)'}`,
        measured: `broker stopped and started, twice each: ${back.map((secs) => secs.toFixed(2)).join(', ')} s`,
        value: Math.max(...back),
        unit: 's',
        bar: atMost(BACK_BAR_SECS),
      },
      {
        what: 'the same, packets vanish on the way and nobody is told',
        measured: `${cut.map((secs) => secs.toFixed(2)).join(', ')} s from the link's return`,
        value: Math.max(...cut),
        unit: 's',
        bar: atMost(BACK_BAR_SECS),
      },
      await starts(context, meter),
    ];
  } finally {
    await meter.close();
  }
}

function configuration(meter: ModbusServer, url: string, webPort: number): string {
  return `
gateway: { id: plant-7 }
adapters:
  bus:
    type: modbus
    transport: { kind: tcp, host: ${METER_ADDRESS}, port: ${meter.port} }
    devices:
      meter-1: { unit_id: 1, poll_interval_ms: 1000, points: { voltage: { register: input:0, type: float32 } } }
upstream: { type: mqtt, url: "${url}", allow_plaintext: true }
outbox: { min_free_bytes: 0 }
web: { address: ${METER_ADDRESS}, port: ${webPort} }
`;
}

let directories = 0;

async function startAgainst(context: BenchContext, meter: ModbusServer, url: string) {
  const webPort = await freePort(METER_ADDRESS);
  const daemon = spawnDaemon({
    daemon: context.daemon,
    directory: join(context.directory, `latency-${(directories += 1)}`),
    config: configuration(meter, url, webPort),
    web: `${METER_ADDRESS}:${webPort}`,
  });
  await daemon.ready();
  return daemon;
}

/** Mosquitto says so when a message arrives. */
function publishes(broker: { log(): string }): number {
  return broker.log().split('Received PUBLISH').length - 1;
}

async function arrives(broker: { log(): string }, more: number): Promise<void> {
  await waitFor(() => publishes(broker) > more, {
    timeoutMs: 60_000,
    everyMs: LOOK_MS,
    what: 'a message at the broker',
  });
}

/** Seconds from the start of the broker's process to the first message that it gets. */
async function stoppedBroker(context: BenchContext, meter: ModbusServer, awaySecs: number): Promise<number> {
  await using broker = await startMosquitto({ address: '127.0.80.6', lines: PROMPT_LOG });
  await using daemon = await startAgainst(context, meter, broker.url);
  await arrives(broker, 2);
  await broker.kill();
  await sleep(awaySecs * 1000);
  const before = publishes(broker);
  const startedMs = performance.now();
  await broker.start();
  await arrives(broker, before);
  const secs = (performance.now() - startedMs) / 1000;
  await daemon.stop();
  return secs;
}

/**
 * Seconds from the return of the link, for each time away. The broker runs on, and neither side is told that the other is
 * away: the gateway's frames go to a hardware address that nobody has.
 */
async function cutLink(context: BenchContext, meter: ModbusServer, awaySecs: readonly number[]): Promise<number[]> {
  const results: number[] = [];
  await using link = await createLink();
  await using broker = await startFarBroker(context);
  await using daemon = await startAgainst(context, meter, `mqtt://${FAR_ADDRESS}:${FAR_PORT}`);
  for (const secs of awaySecs) {
    await arrives(broker, publishes(broker) + 2);
    await link.cut();
    await sleep(secs * 1000);
    const before = publishes(broker);
    const startedMs = performance.now();
    await link.mend();
    await arrives(broker, before);
    results.push((performance.now() - startedMs) / 1000);
  }
  await daemon.stop();
  return results;
}

/** Mosquitto at the far end of the link. */
async function startFarBroker(context: BenchContext): Promise<AsyncDisposable & { log(): string }> {
  const configuration = join(context.directory, 'far-mosquitto.conf');
  writeFileSync(
    configuration,
    `log_dest stderr\nlog_type all\nuser root\nallow_anonymous true\nlistener ${FAR_PORT} ${FAR_ADDRESS}\n`,
  );
  const [program, ...args] = [...IN_FAR_NAMESPACE, 'mosquitto', '-c', configuration];
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(child, 'exit');
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  const broker = {
    log: () => log,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
  try {
    await waitFor(() => log.includes('Opening ipv4 listen socket'), { what: 'the broker at the far end' });
  } catch (error) {
    await broker[Symbol.asyncDispose]();
    throw error;
  }
  return broker;
}

/** From the spawn of the launcher to the first request at the device; every start but the first is one after a kill. */
async function starts(context: BenchContext, meter: ModbusServer): Promise<BenchRow> {
  const directory = join(context.directory, 'starts');
  const webPort = await freePort(METER_ADDRESS);
  const config = configuration(meter, `mqtt://${METER_ADDRESS}:1`, webPort);
  const secs: number[] = [];
  for (let round = 0; round < (context.quick ? 5 : 15); round += 1) {
    await waitFor(() => meter.connections === 0, { what: 'the device to be alone' });
    meter.requests.length = 0;
    await using daemon = spawnDaemon({ daemon: context.daemon, directory, config, web: `${METER_ADDRESS}:${webPort}` });
    const first = await waitFor(() => meter.requests[0], { timeoutMs: 20_000, everyMs: LOOK_MS, what: 'a poll' });
    secs.push((first.atMs - daemon.spawnedMs) / 1000);
    await daemon.ready();
  }
  return {
    what: 'process start → first poll',
    measured: `slowest of ${secs.length} starts, all but the first after a kill -9; median ${median(secs).toFixed(2)} s`,
    value: Math.max(...secs),
    unit: 's',
    bar: atMost(START_BAR_SECS),
  };
}
