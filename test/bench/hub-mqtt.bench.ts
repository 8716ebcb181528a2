// Devices of the local hub over MQTT and TLS: telemetry over a bare aedes that stores nothing, methods and twins, and five
// thousand devices that are connected and that come back at once.

import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import packets from 'mqtt-packet';
import { createAuthority } from '../support/certificates.ts';
import { startChild } from '../support/child.ts';
import { waitFor } from '../support/wait.ts';
import {
  atLeast,
  atMost,
  interleave,
  median,
  perSecond,
  quantile,
  ratioOf,
  whole,
  type BenchContext,
  type BenchRow,
} from './bench.ts';
import { RUNTIME_ENVIRONMENT, RUNTIME_FLAGS } from './daemon.ts';
import { startHub } from './hub.ts';
import { HOST_NAME, openDevice, openService, type HubService, type HubTarget } from './hub-client.ts';
import { startLoad } from './mqtt-load.ts';
import { rssMb } from './process-meter.ts';

const ADDRESS = '127.0.101.3';
const BODY_BYTES = 256;
const PUBLISHERS = 50;
const WINDOW = 32;
const DEVICES = 5000;
/** `hub.max_handshakes_per_sec`, as shipped. */
const HANDSHAKES_PER_SEC = 100;
const CALLS_PER_SEC = 100;
const QUIET_MS = 12_000;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  return [...(await fewDevices(context)), ...(await manyDevices(context))];
}

async function fewDevices(context: BenchContext): Promise<readonly BenchRow[]> {
  const { daemon, target } = await startHub(context, { address: ADDRESS, directory: 'hub' });
  await using _ = daemon;
  const service = openService(target);
  await service.createDevices(DEVICES);
  const rows = [...(await telemetry(context, target)), ...(await downwards(context, target, service))];
  service.close();
  await daemon.stop();
  return rows;
}

// Telemetry

async function telemetry(context: BenchContext, target: HubTarget): Promise<readonly BenchRow[]> {
  const messagesEach = context.quick ? 600 : 2000;
  const rounds = context.quick ? 3 : 7;
  const authority = await createAuthority(context.directory);
  const pair = await authority.issue({ name: 'aedes', hosts: [HOST_NAME] });
  let port: number | undefined;
  const child = startChild(join(import.meta.dirname, 'aedes-tls-child.ts'), {
    args: [ADDRESS, pair.certificatePath, pair.keyPath],
    execArgv: RUNTIME_FLAGS,
    env: RUNTIME_ENVIRONMENT,
    onReport: (report) => (port = (report as { port: number }).port),
  });
  await waitFor(() => port, { what: 'the bare broker' });
  const bare: HubTarget = { ...target, mqttsPort: port ?? 0, ca: authority.certificate };
  await acknowledged(target, 100);
  await acknowledged(bare, 100);
  const [mine = [], other = []] = await interleave(rounds, [
    () => acknowledged(target, messagesEach),
    () => acknowledged(bare, messagesEach),
  ]);
  await child.kill();
  context.progress(`hub ${mine.map(whole).join(' ')} /s, aedes ${other.map(whole).join(' ')} /s`);
  return [
    {
      what: `telemetry QoS 1 over MQTT/TLS, ${PUBLISHERS} devices × ${BODY_BYTES} B, stored before acknowledged, over a bare aedes with TLS that stores nothing`,
      measured: `${whole(median(mine))}/s over ${whole(median(other))}/s, medians of ${rounds} rounds of ${whole(messagesEach * PUBLISHERS)}, ${WINDOW} unacknowledged each`,
      value: ratioOf(mine, other),
      unit: '×',
      bar: atLeast(0.6),
    },
  ];
}

/** Messages a second from the first publish to the last PUBACK. */
async function acknowledged(target: HubTarget, messagesEach: number): Promise<number> {
  const load = await startLoad(loadOptions(target, { messages: messagesEach }));
  const endMs = await load.acknowledged;
  load.close();
  return perSecond(messagesEach * PUBLISHERS, endMs - load.startedMs);
}

function loadOptions(target: HubTarget, more: { readonly messages: number }): Parameters<typeof startLoad>[0] {
  return {
    host: target.address,
    port: target.mqttsPort,
    publishers: PUBLISHERS,
    bodyBytes: BODY_BYTES,
    window: WINDOW,
    open: (deviceId) => openDevice(target, deviceId),
    topicOf: (deviceId) => `devices/${deviceId}/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8`,
    ...more,
  };
}

// Methods and twins

async function downwards(context: BenchContext, target: HubTarget, service: HubService): Promise<readonly BenchRow[]> {
  const count = CALLS_PER_SEC * (context.quick ? 5 : 20);
  const changed = new Map<string, (nowMs: number) => void>();
  const devices = await Promise.all(
    Array.from({ length: PUBLISHERS }, async (_, n) => {
      const deviceId = `device-${n}`;
      const socket = await openDevice(target, deviceId);
      await answerMethods(socket, (version) => changed.get(`${deviceId} ${version}`)?.(performance.now()));
      return socket;
    }),
  );
  // Once it has little to do, the daemon collects all that its start and the load have left.
  await sleep(QUIET_MS);
  const methodsMs: number[] = [];
  const twinsMs: number[] = [];
  const call = async (n: number): Promise<void> => {
    const startedMs = performance.now();
    await service.call('POST', `/twins/device-${n % PUBLISHERS}/methods`, { methodName: 'ping', payload: { n } });
    methodsMs.push(performance.now() - startedMs);
  };
  const patch = async (n: number): Promise<void> => {
    const deviceId = `device-${n % PUBLISHERS}`;
    // Desired properties begin with version 1, and each device is patched in turn.
    const key = `${deviceId} ${2 + Math.floor(n / PUBLISHERS)}`;
    const startedMs = performance.now();
    const told = new Promise<number>((resolve) => changed.set(key, resolve));
    await service.call('PATCH', `/twins/${deviceId}`, { properties: { desired: { n } } });
    twinsMs.push((await told) - startedMs);
    changed.delete(key);
  };
  const warmUp = 2 * CALLS_PER_SEC;
  await paced(warmUp, call);
  await paced(warmUp, patch);
  methodsMs.length = 0;
  twinsMs.length = 0;
  await paced(count, call);
  await paced(count, (n) => patch(warmUp + n));
  for (const socket of devices) socket.destroy();
  const row = (what: string, ms: readonly number[]): BenchRow => ({
    what: `${what}, p99 at ${CALLS_PER_SEC}/s`,
    measured: `median ${median(ms).toFixed(1)} ms, p99 ${quantile(ms, 0.99).toFixed(1)} ms, ${ms.length} of them`,
    value: quantile(ms, 0.99) / 1000,
    unit: 's',
    bar: atMost(0.025),
  });
  return [
    row('direct method, HTTPS → device over MQTT → HTTPS', methodsMs),
    row('twin patch over HTTPS → notification of the device', twinsMs),
  ];
}

async function paced(count: number, work: (n: number) => Promise<void>): Promise<void> {
  const startedMs = performance.now();
  const running: Promise<void>[] = [];
  while (running.length < count) {
    const due = Math.floor(((performance.now() - startedMs) / 1000) * CALLS_PER_SEC);
    while (running.length < Math.min(due, count)) running.push(work(running.length));
    await sleep(2);
  }
  await Promise.all(running);
}

async function answerMethods(socket: TLSSocket, desired: (version: number) => void): Promise<void> {
  const parser = packets.parser();
  const subscribed = new Promise<void>((resolve) => {
    parser.on('packet', (packet) => {
      if (packet.cmd === 'suback') resolve();
      if (packet.cmd !== 'publish') return;
      const [, version] = /desired\/\?\$version=(\d+)$/.exec(packet.topic) ?? [];
      const [, rid] = /\?\$rid=(.+)$/.exec(packet.topic) ?? [];
      if (version !== undefined) desired(Number(version));
      else socket.write(publish(`$iothub/methods/res/200/?$rid=${rid}`, packet.payload));
    });
  });
  socket.on('data', (bytes: Buffer) => parser.parse(bytes));
  const filters = ['$iothub/methods/POST/#', '$iothub/twin/PATCH/properties/desired/#'];
  const subscriptions = filters.map((topic) => ({ topic, qos: 0 as const }));
  socket.write(packets.generate({ cmd: 'subscribe', messageId: 1, subscriptions }));
  await subscribed;
}

function publish(topic: string, payload: string | Buffer): Buffer {
  return packets.generate({ cmd: 'publish', topic, payload, qos: 0, dup: false, retain: false });
}

// Many devices

/** On the same data, in a daemon that has done nothing else yet. */
async function manyDevices(context: BenchContext): Promise<readonly BenchRow[]> {
  const { daemon, target } = await startHub(context, { address: ADDRESS, directory: 'hub' });
  await using _ = daemon;
  const expectedSecs = DEVICES / HANDSHAKES_PER_SEC + 10;
  let sockets = await connectAll(target);
  await sleep(context.quick ? QUIET_MS : 2 * QUIET_MS);
  const idleMb = rssMb(daemon.pid);
  context.progress(`${DEVICES} devices: ${idleMb.toFixed(0)} MB`);
  for (const socket of sockets) socket.destroy();
  const startedMs = performance.now();
  sockets = await connectAll(target);
  const backSecs = (performance.now() - startedMs) / 1000;
  for (const socket of sockets) socket.destroy();
  return [
    {
      what: `RSS with ${DEVICES} connected MQTT/TLS devices, idle`,
      measured: `${idleMb.toFixed(0)} MB`,
      value: idleMb,
      unit: 'MB',
      bar: atMost(400),
    },
    {
      what: `${DEVICES} devices reconnecting at once, until the last is back (limit ${HANDSHAKES_PER_SEC} handshakes/s)`,
      measured: `${backSecs.toFixed(1)} s`,
      value: backSecs,
      unit: 's',
      bar: atMost(expectedSecs),
    },
  ];
}

/** All at once; whoever is turned away or waits too long tries again, as clients do. */
async function connectAll(target: HubTarget): Promise<Duplex[]> {
  const connectOne = async (deviceId: string): Promise<Duplex> => {
    for (;;) {
      const socket = await openDevice(target, deviceId).catch(() => undefined);
      if (socket !== undefined) return socket;
      await sleep(1000);
    }
  };
  return Promise.all(Array.from({ length: DEVICES }, (_, n) => connectOne(`device-${n}`)));
}
