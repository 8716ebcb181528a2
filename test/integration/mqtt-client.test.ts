// The adapter as a client of a Mosquitto that is there already.

import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { Aedes } from 'aedes';
import { connectAsync, type MqttClient } from 'mqtt';
import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { AdapterContext } from '../../src/core/adapter.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { AheadClock } from '../support/ahead-clock.ts';
import { createAuthority } from '../support/certificates.ts';
import { run } from '../support/command.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { record, SILENT } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.65.1';
const NEVER = new AbortController().signal;

function attach(url: string, fields: Partial<AdapterContext> = {}, settings: object = {}) {
  const recording = record(fields);
  const config = mqttConfig.parse({
    connect: { url, client_id: 'gateway' },
    topics: [{ topic: 'sensors/{device_id}/telemetry' }],
    ...settings,
  });
  const adapter = createMqttAdapter(config, recording.context);
  return { ...recording, adapter };
}

const bodies = (rig: ReturnType<typeof attach>): string[] =>
  rig.messages.map(({ body }) => Buffer.from(body).toString());

it('gets what was published while it was away, in order, once', async () => {
  await using broker = await startMosquitto({ address: ADDRESS });
  const first = attach(broker.url);
  await first.adapter.start(NEVER);
  await waitFor(() => first.adapter.health().status === 'running', { what: 'the adapter to be attached' });
  const device = await connectAsync(broker.url);
  await device.publishAsync('sensors/a/telemetry', '0', { qos: 1 });
  await waitFor(() => first.messages.length === 1, { what: 'the first message' });
  await first.adapter.stop(NEVER);
  for (let index = 1; index <= 50; index += 1)
    await device.publishAsync('sensors/a/telemetry', String(index), { qos: 1 });
  const second = attach(broker.url);
  await second.adapter.start(NEVER);
  await waitFor(() => second.messages.length >= 50, { what: 'the messages meanwhile' });
  expect(bodies(second)).toEqual(Array.from({ length: 50 }, (_, index) => String(index + 1)));
  await second.adapter.stop(NEVER);
  await device.endAsync();
});

it('acknowledges only what is stored: what the outbox refused comes again', async () => {
  await using broker = await startMosquitto({ address: ADDRESS });
  let refuse = true;
  const stored: string[] = [];
  const rig = attach(broker.url, {
    publishMessages: (messages) => {
      if (refuse) return Promise.reject(new GatewayError('GW_OUTBOX_FULL', 'full', { details: { policy: 'reject' } }));
      stored.push(...messages.map(({ body }) => Buffer.from(body).toString()));
      return Promise.resolve();
    },
  });
  await rig.adapter.start(NEVER);
  await waitFor(() => rig.adapter.health().status === 'running', { what: 'the adapter to be attached' });
  const device = await connectAsync(broker.url);
  await device.publishAsync('sensors/a/telemetry', 'keep me', { qos: 1 });
  await waitFor(() => rig.refusals.includes('outbox_full'), { what: 'the refusal' });
  refuse = false;
  await waitFor(() => stored.length > 0, { timeoutMs: 15_000, what: 'the message to come again' });
  expect(stored).toEqual(['keep me']);
  await rig.adapter.stop(NEVER);
  await device.endAsync();
});

it('comes back to a broker that was away, and writes through it', async () => {
  await using broker = await startMosquitto({ address: ADDRESS });
  const rig = attach(broker.url, {}, { topics: [], presets: ['tasmota'] });
  await rig.adapter.start(NEVER);
  await waitFor(() => rig.adapter.health().status === 'running', { what: 'the adapter to be attached' });
  await broker.kill();
  await waitFor(() => rig.adapter.health().status === 'degraded', { what: 'the loss to be noticed' });
  await broker.start();
  await waitFor(() => rig.adapter.health().status === 'running', { timeoutMs: 15_000, what: 'the adapter to be back' });
  const plug = await connectAsync(broker.url);
  plug.on('message', (_topic, payload) => plug.publish('stat/plug/RESULT', `{"POWER":"${payload.toString()}"}`));
  await plug.subscribeAsync('cmnd/plug/POWER');
  await plug.publishAsync('tele/plug/LWT', 'Online', { qos: 1, retain: true });
  await waitFor(() => rig.states.get('plug') === 'good', { what: 'the plug to be online' });
  const result = await rig.adapter.write?.({ deviceId: parseDeviceId('plug'), point: 'POWER', value: true }, NEVER);
  expect(result).toEqual({ readBack: true, quality: { level: 'good' } });
  await rig.adapter.stop(NEVER);
  await plug.endAsync();
});

it('stays attached beside another gateway of the same host name and adapter name', async () => {
  await using broker = await startMosquitto({ address: ADDRESS });
  const lost: unknown[] = [];
  const warn = (fields: object): void => void ('reason' in fields && lost.push(fields.reason));
  const log = { ...SILENT, warn };
  const connect = { url: broker.url };
  const rigs = ['plant-7', 'plant-8'].map((id) =>
    attach(broker.url, { gatewayId: parseDeviceId(id), log }, { connect }),
  );
  for (const { adapter } of rigs) {
    await adapter.start(NEVER);
    await waitFor(() => adapter.health().status === 'running', { what: 'the adapter to be attached' });
  }
  const device = await connectAsync(broker.url);
  await device.publishAsync('sensors/a/telemetry', 'x', { qos: 1 });
  await waitFor(() => rigs.every(({ messages }) => messages.length === 1), { what: 'the message at both' });
  expect(lost).toEqual([]);
  for (const { adapter } of rigs) await adapter.stop(NEVER);
  await device.endAsync();
});

it('waits longer each time that another client takes its client id, and says so', async () => {
  await using broker = await startMosquitto({ address: ADDRESS });
  const told: [waitMs: number, reason: string][] = [];
  class HastyClock extends AheadClock {
    override sleep(ms: number, signal?: AbortSignal): Promise<void> {
      told.push([ms, rig.adapter.health().reason ?? '']);
      return super.sleep(1, signal);
    }
  }
  const clock = new HastyClock();
  const rig = attach(broker.url, { clock });
  await rig.adapter.start(NEVER);
  const rivals: MqttClient[] = [];
  const takeOver = async (aheadMs: number): Promise<void> => {
    await waitFor(() => rig.adapter.health().status === 'running', { what: 'the adapter to be attached' });
    clock.aheadMs += aheadMs;
    const count = told.length;
    rivals.push(await connectAsync(broker.url, { clientId: 'gateway', reconnectPeriod: 0 }));
    await waitFor(() => told.length > count, { what: 'the loss' });
  };
  for (const aheadMs of [0, 0, 0, 0, 6000, 0]) await takeOver(aheadMs);
  expect(told.map(([waitMs]) => waitMs)).toEqual([500, 1000, 2000, 4000, 500, 1000]);
  const named = told.map(([, reason]) => reason.includes('the client id "gateway"'));
  expect(named).toEqual([false, false, true, true, false, false]);
  await rig.adapter.stop(NEVER);
  for (const rival of rivals) await rival.endAsync(true);
});

it('attaches over plain WebSockets', async () => {
  await using broker = await startMosquitto({ websockets: true });
  expect(broker.url).toMatch('ws://');
  const rig = attach(broker.url);
  await rig.adapter.start(NEVER);
  await waitFor(() => rig.adapter.health().status === 'running', { what: 'the adapter to be attached' });
  const device = await connectAsync(broker.url);
  await device.publishAsync('sensors/a/telemetry', Buffer.alloc(100_000, 7), { qos: 1 });
  await waitFor(() => rig.messages.length === 1, { what: 'the message' });
  expect(rig.messages[0]?.body).toHaveLength(100_000);
  await device.endAsync();
  await rig.adapter.stop(NEVER);
});

it.each([
  { scheme: 'mqtts', websockets: false, address: ADDRESS },
  { scheme: 'wss', websockets: true, address: '127.0.0.1' },
])('attaches over $scheme with a name and a password, and not to a broker it cannot trust', async (how) => {
  using directory = createTempDir('mqtt-client');
  const authority = await createAuthority(directory.path);
  const pair = await authority.issue({ name: 'broker', hosts: [how.address] });
  await using broker = await startMosquitto({
    address: how.address,
    websockets: how.websockets,
    tls: pair,
    users: { gateway: 'gateway-secret' },
    lines: [`listener 0 ${directory.file('device.sock')}`],
  });
  expect(broker.url).toMatch(`${how.scheme}://`);
  const login = { username: 'gateway', password: 'gateway-secret' };
  const connect = { url: broker.url, client_id: 'gateway', ca: authority.certificate, ...login };
  const rig = attach(broker.url, {}, { connect });
  await rig.adapter.start(NEVER);
  await waitFor(() => rig.adapter.health().status === 'running', { what: 'the adapter to be attached' });
  const device = ['--unix', directory.file('device.sock'), '-u', 'gateway', '-P', 'gateway-secret', '-q', '1'];
  await run('mosquitto_pub', [...device, '-t', 'sensors/a/telemetry', '-m', 'sealed']);
  await waitFor(() => rig.messages.length === 1, { what: 'the message' });
  expect(bodies(rig)).toEqual(['sealed']);
  await rig.adapter.stop(NEVER);

  for (const [wrong, words] of [
    [{ ca: undefined }, /certificate/],
    [{ password: 'wrong' }, /refused the connection/],
  ] as const) {
    const other = attach(broker.url, {}, { connect: { ...connect, ...wrong } });
    await other.adapter.start(NEVER);
    await waitFor(() => words.test(other.adapter.health().reason ?? ''), { what: String(words) });
    expect(other.adapter.health().status).toBe('degraded');
    await other.adapter.stop(NEVER);
  }
});

it('works with what it may hear where a broker refuses a subscription, and says which', async () => {
  let isRefused = true;
  const broker = await Aedes.createBroker({
    authorizeSubscribe: (_client, subscription, callback) =>
      callback(null, isRefused && subscription.topic === '+/online' ? null : subscription),
  });
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    broker.handle(socket);
  });
  await once(server.listen(0, ADDRESS), 'listening');
  const { port } = server.address() as AddressInfo;
  // Refused subscriptions are asked for again after a minute.
  const clock = new (class extends SystemClock {
    override sleep(ms: number, signal?: AbortSignal): Promise<void> {
      return super.sleep(Math.min(ms, 20), signal);
    }
  })();
  const rig = attach(`mqtt://${ADDRESS}:${port}`, { clock }, { presets: ['shelly'] });
  try {
    await rig.adapter.start(NEVER);
    await waitFor(() => rig.adapter.health().reason?.includes('refuses') === true, { what: 'the refusal to be told' });
    expect(rig.adapter.health()).toEqual({
      status: 'degraded',
      reason: `mqtt://${ADDRESS}:${port} refuses the subscription to "+/online": let clients without a user name read these topics there.`,
    });
    const device = await connectAsync(`mqtt://${ADDRESS}:${port}`);
    await device.publishAsync('sensors/a/telemetry', 'heard', { qos: 1 });
    await waitFor(() => rig.messages.length === 1, { what: 'what it may hear' });
    await device.endAsync();
    isRefused = false;
    await waitFor(() => rig.adapter.health().status === 'running', { what: 'the rest to be granted' });
  } finally {
    await rig.adapter.stop(NEVER);
    for (const socket of sockets) socket.destroy();
    server.close();
    await new Promise<void>((resolve) => broker.close(resolve));
  }
});
