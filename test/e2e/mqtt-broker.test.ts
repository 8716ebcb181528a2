// The broker of the built daemon, with mosquitto's tools as clients: what it keeps over restarts and kills, and how it takes
// a storm of connections.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connectAsync, type MqttClient } from 'mqtt';
import { generate } from 'mqtt-packet';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startModbusServer } from '../sim/modbus-server.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto, type Mosquitto } from '../support/mosquitto.ts';
import { loginOptions, type MosquittoLogin, mosquittoPub, mosquittoSub } from '../support/mosquitto-clients.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { type DaemonProcess, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.92.3';

let directory: TempDir;
let upstream: Mosquitto;
let witness: MqttClient;
let port: number;
let start: (settings?: string, more?: string) => Promise<DaemonProcess>;
let arrived: { device: string; text: string; atMs: number }[];
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  directory = temporaryDirectory();
  upstream = await startMosquitto({ address: ADDRESS });
  port = await freePort(ADDRESS);
  const webPort = await freePort(ADDRESS);
  start = (settings = '', more = '') => {
    const config = `
gateway: { id: plant-7 }
adapters:
  field:
    type: mqtt
    listen: { address: ${ADDRESS}, port: ${port} }
    clients: [{ username: bridge, password: bridge-secret, devices: ['*'] }]
    topics: [{ topic: 'sensors/{device_id}/telemetry' }]
${settings}${more}
upstream: { type: mqtt, url: '${upstream.url}', topic: 'fieldpost/{gateway_id}/{device_id}/telemetry' }
web: { address: ${ADDRESS}, port: ${webPort} }
outbox: { min_free_bytes: 0 }
`;
    return startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
  };
  arrived = [];
  witness = await connectAsync(upstream.url);
  witness.on('message', (topic, payload) => {
    arrived.push({ device: topic.split('/')[2] ?? '', text: payload.toString(), atMs: performance.now() });
  });
  await witness.subscribeAsync('fieldpost/plant-7/+/telemetry', { qos: 1 });
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await witness.endAsync();
  await upstream[Symbol.asyncDispose]();
  directory.remove();
});

function login(): MosquittoLogin {
  return { address: ADDRESS, port, username: 'bridge', password: 'bridge-secret' };
}

function publish(topic: string, text: string, ...more: string[]): Promise<string> {
  return mosquittoPub(login(), topic, '-m', text, ...more);
}

/** Ends by itself after so many messages; prints topic and payload of each. */
function receive(count: number, ...args: string[]): Promise<string> {
  const options = ['-q', '1', '-C', String(count), '-W', '20', '-v'];
  return run('mosquitto_sub', [...loginOptions(login()), ...options, ...args]);
}

/** A subscriber that stays; resolves when it has subscribed. */
async function subscriber(...args: string[]): Promise<ChildProcess> {
  const { child } = await mosquittoSub(login(), ...args);
  ends.push(() => kill(child));
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

it.each(['SIGTERM', 'SIGKILL'] as const)('has retained messages and waiting ones again after %s', async (signal) => {
  const first = await start();
  const session = ['-i', 'reader', '-c', '-t', 'orders/#'];
  await kill(await subscriber(...session));
  await publish('orders/1', 'one');
  await publish('orders/2', 'two');
  await publish('notes/1', 'kept', '-r');
  await publish('notes/2', 'taken back', '-r');
  await publish('notes/2', '', '-r');
  await first.kill(signal);
  await using _second = await start();
  expect(await receive(2, ...session)).toBe('orders/1 one\norders/2 two\n');
  await publish('notes/3', 'after', '-r');
  expect((await receive(2, '-t', 'notes/#')).split('\n').toSorted()).toEqual(['', 'notes/1 kept', 'notes/3 after']);
  // What the reader has acknowledged does not come again.
  await publish('orders/3', 'three');
  expect(await receive(1, ...session)).toBe('orders/3 three\n');
});

it('publishes the will of a client whose connection ended with the daemon', async () => {
  const first = await start();
  const will = ['--will-topic', 'sensors/pump/telemetry', '--will-payload', 'gone', '--will-qos', '1'];
  const left = await subscriber('-i', 'pump', '-t', 'x', ...will);
  const kept = await subscriber(
    '-i',
    'fan',
    '-t',
    'x',
    '--will-topic',
    'fans/1',
    '--will-payload',
    'off',
    '--will-retain',
  );
  const orderly = await connectAsync(`mqtt://${ADDRESS}:${port}`, {
    username: 'bridge',
    password: 'bridge-secret',
    will: { topic: 'sensors/lamp/telemetry', payload: Buffer.from('gone'), qos: 1, retain: false },
  });
  await orderly.endAsync();
  // A goodbye is not acknowledged; what comes after it is.
  await publish('notes/1', 'later', '-r');
  await first.kill('SIGKILL');
  await Promise.all([kill(left), kill(kept)]);
  expect(arrived).toEqual([]);
  await using second = await start();
  await waitFor(() => arrived.length > 0, { what: 'the will upstream' });
  expect(await receive(1, '-t', 'fans/#')).toBe('fans/1 off\n');
  await second.kill('SIGTERM');
  // Once, and only of those who did not say goodbye.
  await using _third = await start();
  await publish('sensors/last/telemetry', 'x');
  await waitFor(() => arrived.some(({ device }) => device === 'last'), { what: 'the last message' });
  expect(arrived.map(({ device, text }) => `${device} ${text}`)).toEqual(['pump gone', 'last x']);
});

const STORM_SECS = 4;
const STORM_PER_SEC = 1000;

it('takes a storm of connections, counts whom it refuses, and goes on polling', async () => {
  const memory = await startModbusServer({ host: ADDRESS });
  ends.push(() => memory.close());
  memory.addDevice(1);
  await using daemon = await start(
    '    max_connections: 500\n',
    `  bus:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${memory.port} }
    devices: { meter: { poll_interval_ms: 200, points: { voltage: { register: input:7 } } } }`,
  );
  const device = await connectAsync(`mqtt://${ADDRESS}:${port}`, { username: 'bridge', password: 'bridge-secret' });
  ends.push(() => device.endAsync(true));
  await waitFor(() => arrived.some(({ device: from }) => from === 'meter'), { what: 'the first poll' });

  const sockets: Socket[] = [];
  ends.push(() => Promise.resolve(sockets.forEach((socket) => socket.destroy())));
  let [accepted, closed, acknowledged, slowestMs] = [0, 0, 0, 0];
  const stormMs = performance.now();
  const total = STORM_SECS * STORM_PER_SEC;
  const storm = setInterval(() => {
    const due = Math.min(total, Math.floor(((performance.now() - stormMs) / 1000) * STORM_PER_SEC));
    while (sockets.length < due) {
      const clientId = `storm-${sockets.length}`;
      // From another address than the device: connects are limited for each.
      const socket = connectTcp({ host: ADDRESS, port, localAddress: '127.0.92.4' });
      socket.on('error', () => {});
      socket.on('close', () => (closed += 1));
      // CONNACK: accepted (MQTT 3.1.1, 3.2.2.3).
      socket.on('data', (bytes: Buffer) => (accepted += bytes[3] === 0 ? 1 : 0));
      socket.write(
        generate({ cmd: 'connect', clientId, clean: true, username: 'bridge', password: Buffer.from('bridge-secret') }),
      );
      sockets.push(socket);
    }
  }, 20);
  while (sockets.length < total) {
    const sentMs = performance.now();
    await device.publishAsync('sensors/pump/telemetry', String(acknowledged), { qos: 1 });
    acknowledged += 1;
    slowestMs = Math.max(slowestMs, performance.now() - sentMs);
  }
  clearInterval(storm);
  const tookSecs = (performance.now() - stormMs) / 1000;
  await waitFor(() => accepted + closed === total, { what: 'an end of every connection' });

  expect(total / tookSecs).toBeGreaterThan(0.8 * STORM_PER_SEC);
  const metrics = await (await daemon.get('/metrics')).text();
  const refused = (reason: string): number =>
    Number(
      new RegExp(`^fieldpost_field_refusals_total\\{.*reason="${reason}".*\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0,
    );
  // Five hundred connections at once, one of which is the device.
  expect(accepted).toBe(499);
  expect(refused('connect_rate')).toBeGreaterThan(0);
  // The last is one that had not logged in yet when another came.
  const others = refused('connect_rate') + refused('too_many_connections') + refused('connection_dropped');
  expect(others).toBe(total - accepted);
  expect(slowestMs).toBeLessThan(2000);
  const polls = arrived.filter(({ device: from, atMs }) => from === 'meter' && atMs > stormMs).map(({ atMs }) => atMs);
  const gaps = polls.slice(1).map((atMs, index) => atMs - (polls[index] ?? atMs));
  expect(polls.length).toBeGreaterThan(STORM_SECS * 2);
  expect(Math.max(...gaps)).toBeLessThan(1900);
  const pumped = (): number => arrived.filter(({ device: from }) => from === 'pump').length;
  await waitFor(() => pumped() === acknowledged, { what: 'all that was acknowledged' });
});
