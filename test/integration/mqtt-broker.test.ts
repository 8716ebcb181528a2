// The broker for leaf devices, with mosquitto's own tools and mqtt.js as devices.

import { spawn } from 'node:child_process';
import { connect as connectTcp, type Socket } from 'node:net';
import mqtt from 'mqtt';
import { describe, expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { Adapter, AdapterContext } from '../../src/core/adapter.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { Message } from '../../src/core/message.ts';
import { hashPassword } from '../../src/platform/password.ts';
import { AheadClock } from '../support/ahead-clock.ts';
import { createAuthority } from '../support/certificates.ts';
import { run } from '../support/command.ts';
import { endsAfterEach } from '../support/ends.ts';
import { freePort } from '../support/free-port.ts';
import { memorySpace } from '../support/state.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { record, type Recording } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.65.1';
const NEVER = new AbortController().signal;
const ends = endsAfterEach();

interface Rig extends Recording {
  readonly adapter: Adapter;
  readonly port: number;
  readonly url: string;
}

async function startBroker(settings: object = {}, fields: Partial<AdapterContext> = {}, port?: number): Promise<Rig> {
  const listenPort = port ?? (await freePort(ADDRESS));
  const recording = record(fields);
  const config = mqttConfig.parse({
    listen: { address: ADDRESS, port: listenPort },
    clients: [
      { username: 'pump-3', password: 'pump-secret' },
      { username: 'bridge', password: 'bridge-secret', devices: ['*'] },
    ],
    topics: [{ topic: 'sensors/{device_id}/telemetry' }],
    ...settings,
  });
  const adapter = createMqttAdapter(config, recording.context);
  await adapter.start(NEVER);
  ends.push(() => adapter.stop(NEVER));
  return { ...recording, adapter, port: listenPort, url: `mqtt://${ADDRESS}:${listenPort}` };
}

async function client(rig: Rig, options: mqtt.IClientOptions = {}): Promise<mqtt.MqttClient> {
  const connected = await mqtt.connectAsync(rig.url, {
    username: 'bridge',
    password: 'bridge-secret',
    reconnectPeriod: 0,
    ...options,
  });
  ends.push(() => connected.endAsync(true));
  connected.on('error', () => {});
  return connected;
}

function publishWith(rig: Rig, ...args: string[]): Promise<string> {
  return run('mosquitto_pub', ['-h', ADDRESS, '-p', String(rig.port), '-q', '1', ...args]);
}

const closed = (peer: mqtt.MqttClient): Promise<void> => new Promise((resolve) => peer.once('close', () => resolve()));

describe('publishing', () => {
  it('passes payloads through byte for byte', async () => {
    const rig = await startBroker();
    const payload = Buffer.from([0, 255, 13, 10, 128]);
    const bridge = await client(rig);
    await bridge.publishAsync('sensors/tank-1/telemetry', payload, { qos: 1 });
    await publishWith(rig, '-u', 'pump-3', '-P', 'pump-secret', '-t', 'sensors/pump-3/telemetry', '-m', '{"a":1}');
    expect(rig.messages.map(({ deviceId, body }) => [deviceId, Buffer.from(body)])).toEqual([
      ['tank-1', payload],
      ['pump-3', Buffer.from('{"a":1}')],
    ]);
    expect(rig.states.get('tank-1')).toBe('good');
  });

  it('acknowledges QoS 1 and QoS 2 only after the message is stored', async () => {
    let store: () => void = () => {};
    const stored = new Promise<void>((resolve) => (store = resolve));
    const rig = await startBroker({}, { publishMessages: () => stored });
    const bridge = await client(rig);
    let answered = 0;
    const one = bridge.publishAsync('sensors/a/telemetry', 'x', { qos: 1 }).then(() => (answered += 1));
    const two = bridge.publishAsync('sensors/a/telemetry', 'x', { qos: 2 }).then(() => (answered += 1));
    // A message to nobody goes through the same connection only when the ones before it are done.
    await expect(Promise.race([one, two, new Promise((resolve) => setTimeout(resolve, 200, 'waiting'))])).resolves.toBe(
      'waiting',
    );
    expect(answered).toBe(0);
    store();
    await Promise.all([one, two]);
  });

  it('gives no acknowledgement for what it could not store, and the client sends it again', async () => {
    let refuse = true;
    const messages: Message[] = [];
    const rig = await startBroker(
      {},
      {
        publishMessages: (added) =>
          refuse
            ? Promise.reject(new GatewayError('GW_OUTBOX_FULL', 'full', { details: { policy: 'reject' } }))
            : Promise.resolve(void messages.push(...added)),
      },
    );
    const bridge = await client(rig, { reconnectPeriod: 50, clientId: 'resender', clean: false });
    const gone = closed(bridge);
    const acknowledged = bridge.publishAsync('sensors/a/telemetry', 'keep me', { qos: 1 });
    await gone;
    expect(rig.refusals).toContain('outbox_full');
    refuse = false;
    await acknowledged;
    expect(messages.map(({ body }) => Buffer.from(body).toString())).toEqual(['keep me']);
  });

  it('closes the connection of a client that publishes as another device', async () => {
    const rig = await startBroker({ command: { topic: 'sensors/{device_id}/set' } });
    for (const topic of ['sensors/tank-1/telemetry', 'sensors/tank-1/set']) {
      const pump = await client(rig, { username: 'pump-3', password: 'pump-secret' });
      const gone = closed(pump);
      pump.publish(topic, 'x', { qos: 1 });
      await gone;
    }
    expect(rig.refusals).toEqual(['not_its_device', 'command_topic']);
    expect(rig.messages).toEqual([]);
  });

  it('lets only who may be every device tell all devices of a preset something', async () => {
    const rig = await startBroker({ presets: ['shelly', 'homie'] });
    const pump = await client(rig, { username: 'pump-3', password: 'pump-secret' });
    const heard: string[] = [];
    pump.on('message', (topic) => void heard.push(topic));
    await pump.subscribeAsync(['shellies/command', 'homie/$broadcast/#']);
    for (const topic of ['shellies/command', 'homie/$broadcast/alert']) {
      const thief = await client(rig, { username: 'pump-3', password: 'pump-secret', clientId: 'thief' });
      const gone = closed(thief);
      thief.publish(topic, 'update_fw', { qos: 1 });
      await gone;
    }
    expect(rig.refusals).toEqual(['command_topic', 'command_topic']);
    const bridge = await client(rig);
    await bridge.publishAsync('homie/$broadcast/alert', 'fire', { qos: 1 });
    await waitFor(() => heard.length > 0, { what: 'the broadcast' });
    expect(heard).toEqual(['homie/$broadcast/alert']);
  });

  it.each(['foreign_device', 'too_many_devices'] as const)(
    'refuses a device that is not taken in: %s',
    async (reason) => {
      const rig = await startBroker({}, { addDevice: ({ deviceId }) => (deviceId === 'meter-1' ? reason : undefined) });
      const bridge = await client(rig);
      const gone = closed(bridge);
      bridge.publish('sensors/meter-1/telemetry', 'x', { qos: 1 });
      await gone;
      expect(rig.refusals).toEqual([reason]);
      expect(rig.messages).toEqual([]);
    },
  );
});

describe('logging in', () => {
  it('takes hashed passwords, and names each refusal', async () => {
    const hash = await hashPassword('right');
    const rig = await startBroker({ clients: [{ username: 'pump-3', password_hash: hash }] });
    const pump = ['-u', 'pump-3', '-t', 'sensors/pump-3/telemetry', '-m', 'x'];
    await publishWith(rig, ...pump, '-P', 'right');
    await expect(publishWith(rig, ...pump, '-P', 'wrong')).rejects.toThrow(/bad user name or password/);
    await expect(publishWith(rig, '-u', 'nobody', '-P', 'x', '-t', 't', '-m', 'x')).rejects.toThrow(/bad user name/);
    await expect(publishWith(rig, '-t', 't', '-m', 'x')).rejects.toThrow(/bad user name/);
    expect(rig.messages).toHaveLength(1);
    expect(rig.refusals).toEqual(['bad_credentials', 'bad_credentials', 'bad_credentials']);
  });

  it('lets programs on this machine in without a name when asked to', async () => {
    const rig = await startBroker({ anonymous: 'loopback', command: { topic: 'sensors/{device_id}/set' } });
    await publishWith(rig, '-t', 'sensors/lamp/telemetry', '-m', 'x');
    expect(rig.messages).toHaveLength(1);
    for (const topic of ['sensors/pump-3/telemetry', 'sensors/lamp/set']) {
      const nobody = await mqtt.connectAsync(rig.url, { reconnectPeriod: 0 });
      const gone = closed(nobody);
      nobody.publish(topic, 'x', { qos: 1 });
      await gone;
    }
    expect(rig.refusals).toEqual(['not_its_device', 'command_topic']);
    expect(rig.messages).toHaveLength(1);
  });

  it('keeps a client id to the user who has it', async () => {
    const rig = await startBroker();
    const bridge = await client(rig, { clientId: 'mine' });
    await expect(client(rig, { clientId: 'mine', username: 'pump-3', password: 'pump-secret' })).rejects.toThrow(
      /Identifier rejected/i,
    );
    expect(bridge.connected).toBe(true);
    expect(rig.refusals).toEqual(['client_id_in_use']);
  });
});

describe('what is kept', () => {
  it('has retained messages, sessions and their queues again after a restart', async () => {
    const state = memorySpace();
    const first = await startBroker({}, { state });
    const reader = await client(first, { clientId: 'reader', clean: false });
    await reader.subscribeAsync('orders/#', { qos: 1 });
    await reader.endAsync();
    const bridge = await client(first);
    await bridge.publishAsync('orders/1', 'first', { qos: 1 });
    await bridge.publishAsync('notes/1', 'kept', { qos: 1, retain: true });
    await first.adapter.stop(NEVER);

    const second = await startBroker({}, { state }, first.port);
    const received: string[] = [];
    const again = mqtt.connect(second.url, {
      clientId: 'reader',
      clean: false,
      username: 'bridge',
      password: 'bridge-secret',
      reconnectPeriod: 0,
    });
    ends.push(() => again.endAsync(true));
    again.on('message', (topic, payload) => received.push(`${topic} ${payload.toString()}`));
    await waitFor(() => received.length === 1, { what: 'the message that waited' });
    again.subscribe('notes/#', { qos: 1 });
    await waitFor(() => received.length === 2, { what: 'the retained message' });
    expect(received).toEqual(['orders/1 first', 'notes/1 kept']);
    await again.endAsync();
    // What was acknowledged does not come again.
    await second.adapter.stop(NEVER);
    const third = await startBroker({}, { state }, first.port);
    const late = await client(third, { clientId: 'reader', clean: false });
    late.on('message', (topic) => received.push(topic));
    await late.publishAsync('orders/2', 'x', { qos: 1 });
    await waitFor(() => received.length > 2, { what: 'the next message' });
    expect(received.slice(2)).toEqual(['orders/2']);
  });
});

describe('transports', () => {
  it('takes MQTT over TLS from mosquitto_pub', async () => {
    const directory = createTempDir('mqtt-tls');
    ends.push(() => Promise.resolve(directory.remove()));
    const authority = await createAuthority(directory.path);
    const { certificate, key } = await authority.issue({ name: 'broker', hosts: [ADDRESS] });
    const port = await freePort(ADDRESS);
    const rig = await startBroker({
      listen_tls: {
        address: ADDRESS,
        port,
        certificate,
        key,
      },
    });
    const args = ['-h', ADDRESS, '-p', String(port), '-q', '1', '-u', 'bridge', '-P', 'bridge-secret'];
    const message = ['-t', 'sensors/tls-1/telemetry', '-m', 'sealed'];
    await run('mosquitto_pub', [...args, ...message, '--cafile', authority.certificatePath]);
    expect(rig.messages.map(({ deviceId }) => deviceId)).toEqual(['tls-1']);
  });

  it('takes MQTT over WebSockets', async () => {
    const port = await freePort(ADDRESS);
    const rig = await startBroker({ listen_ws: { address: ADDRESS, port, path: '/mqtt' } });
    const peer = await client({ ...rig, url: `ws://${ADDRESS}:${port}/mqtt` });
    const payload = Buffer.alloc(100_000, 7);
    await peer.publishAsync('sensors/ws-1/telemetry', payload, { qos: 1 });
    expect(Buffer.from(rig.messages[0]?.body ?? []).equals(payload)).toBe(true);
    const page = await fetch(`http://${ADDRESS}:${port}/`);
    expect(page.status).toBe(426);
  });
});

describe('a handshake that fails', () => {
  it('is answered where it can be, and told with who and why', async () => {
    const [port, tlsPort] = [await freePort(ADDRESS), await freePort(ADDRESS)];
    using directory = createTempDir('mqtt-handshakes');
    const authority = await createAuthority(directory.path);
    const { certificate, key } = await authority.issue({ name: 'broker', hosts: [ADDRESS] });
    const told: unknown[] = [];
    await startBroker(
      {
        listen_ws: { address: ADDRESS, port, path: '/mqtt' },
        listen_tls: { address: ADDRESS, port: tlsPort, certificate, key },
      },
      { reportRefusal: (reason, fields) => void told.push({ reason, ...fields }) },
    );
    const upgrade = 'Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n';
    const good = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
    const answers: string[] = [];
    for (const [to, text] of [
      [port, `GET /other?token=secret HTTP/1.1\r\n${upgrade}${good}`],
      [port, `GET /mqtt HTTP/1.1\r\n${upgrade}Sec-WebSocket-Key: short\r\n\r\n`],
      [tlsPort, 'no TLS at all'],
    ] as const) {
      const socket = connectTcp({ host: ADDRESS, port: to });
      socket.on('error', () => {});
      let answer = '';
      socket.on('data', (bytes) => (answer += bytes.toString('latin1')));
      socket.write(text);
      await new Promise((resolve) => socket.once('close', resolve));
      answers.push(answer.split('\r\n', 1).join(''));
    }
    expect(answers.slice(0, 2)).toEqual(['HTTP/1.1 404 Not Found', 'HTTP/1.1 400 Bad Request']);
    const address = expect.stringMatching(/^127\./) as string;
    expect(told).toEqual([
      { reason: 'websocket_handshake', address, error: '/other is not /mqtt' },
      { reason: 'websocket_handshake', address, error: expect.stringContaining('Sec-WebSocket-Key') as string },
      { reason: 'tls_handshake', address, error: expect.stringMatching(/\w/) as string },
    ]);
  });
});

describe('flooding', () => {
  it('drops a subscriber that takes nothing, and nobody waits for it', async () => {
    const rig = await startBroker({ max_messages_per_sec: 0 });
    const slow = await client(rig, { clientId: 'slow' });
    await slow.subscribeAsync('noise/#', { qos: 0 });
    (slow.stream as Socket).pause();
    const loud = await client(rig);
    const noise = Buffer.alloc(200_000);
    for (let count = 0; count < 200 && !rig.refusals.includes('slow_subscriber'); count += 1) {
      await loud.publishAsync('noise/x', noise, { qos: 1 });
    }
    expect(rig.refusals).toContain('slow_subscriber');
    await loud.publishAsync('sensors/a/telemetry', 'still here', { qos: 1 });
    expect(rig.messages).toHaveLength(1);
  });

  it('drops a mosquitto_sub that stands still, and takes it back when it goes on', async () => {
    const rig = await startBroker({ max_messages_per_sec: 0 });
    const options = ['-d', '-h', ADDRESS, '-p', String(rig.port), '-u', 'bridge', '-P', 'bridge-secret'];
    const slow = spawn('stdbuf', ['-oL', 'mosquitto_sub', ...options, '-t', 'noise/#', '-F', 'got %l bytes']);
    ends.push(() => Promise.resolve(slow.kill('SIGKILL')));
    let out = '';
    slow.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await waitFor(() => out.includes('SUBACK'), { what: 'the subscription' });
    const loud = await client(rig);
    const swift = await client(rig);
    let heard = 0;
    swift.on('message', () => (heard += 1));
    await swift.subscribeAsync('noise/#', { qos: 0 });
    slow.kill('SIGSTOP');
    const noise = Buffer.alloc(200_000);
    let count = 0;
    for (; count < 200 && !rig.refusals.includes('slow_subscriber'); count += 1) {
      await loud.publishAsync('noise/x', noise, { qos: 1 });
    }
    expect(rig.refusals).toEqual(['slow_subscriber']);
    await waitFor(() => heard === count, { what: 'all of it at the other subscriber' });
    slow.kill('SIGCONT');
    await waitFor(() => out.split('SUBACK').length > 2, { what: 'mosquitto_sub to be back' });
    await loud.publishAsync('noise/x', 'again', { qos: 1 });
    await waitFor(() => out.includes('got 5 bytes'), { what: 'the next message' });
  });

  it('reads a client that floods more slowly, and loses nothing of it', async () => {
    const rig = await startBroker({ max_messages_per_sec: 50 });
    const loud = await client(rig);
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: 100 }, () => loud.publishAsync('sensors/a/telemetry', 'x', { qos: 1 })));
    // A second's worth passes at once, the rest at the rate.
    expect(performance.now() - startedMs).toBeGreaterThan(900);
    expect(rig.messages).toHaveLength(100);
    expect(rig.refusals).toEqual(['slowed_down']);
  });

  it('lets strangers who do not log in lock nobody out', async () => {
    const rig = await startBroker({ max_connections: 3, max_connects_per_sec: 0 });
    const peer = await client(rig);
    const sockets = Array.from({ length: 200 }, () => connectTcp({ host: ADDRESS, port: rig.port }));
    for (const socket of sockets) socket.on('error', () => {});
    await waitFor(() => rig.refusals.length === 198, { what: 'all but two to be dropped' });
    expect(new Set(rig.refusals)).toEqual(new Set(['connection_dropped']));
    const late = await client(rig, { username: 'pump-3', password: 'pump-secret' });
    for (const one of [peer, late]) await one.publishAsync('sensors/pump-3/telemetry', 'x', { qos: 1 });
    for (const socket of sockets) socket.destroy();
    expect(rig.messages).toHaveLength(2);
  });

  it('closes one more of a user who has all connections, and none of those that are alive', async () => {
    const clock = new AheadClock();
    const rig = await startBroker({ max_connections: 4, max_connects_per_sec: 0 }, { clock });
    const peers = [];
    for (const keepalive of [3600, 0, 0, 0]) peers.push(await client(rig, { keepalive }));
    const [first, second, ...others] = peers as [mqtt.MqttClient, mqtt.MqttClient, ...mqtt.MqttClient[]];
    await expect(client(rig)).rejects.toThrow(/connection|reset|closed|lost/i);
    expect(rig.refusals).toEqual(['too_many_connections']);
    expect(peers.map(({ connected }) => connected)).toEqual([true, true, true, true]);
    // The second looks leaked: nothing is heard of it. The first may be as quiet.
    clock.aheadMs += 601_000;
    for (const peer of others) await peer.publishAsync('sensors/a/telemetry', 'here', { qos: 1 });
    const gone = closed(second);
    const late = await client(rig);
    await gone;
    expect(rig.refusals).toEqual(['too_many_connections', 'connection_dropped']);
    expect([first, ...others, late].map(({ connected }) => connected)).toEqual([true, true, true, true]);
  });
});

describe('bad input', () => {
  it.each([
    ['no_connect', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['packet_too_large', Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])],
    ['malformed_packet', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f])],
  ])('disconnects whoever sends %s', async (reason, bytes) => {
    const rig = await startBroker();
    const socket = connectTcp({ host: ADDRESS, port: rig.port });
    socket.on('error', () => {});
    socket.write(bytes);
    await new Promise((resolve) => socket.once('close', resolve));
    expect(rig.refusals).toEqual([reason]);
  });
});

it('has a device online for as long as one of its connections stands', async () => {
  const rig = await startBroker();
  const state = () => rig.states.get('pump-3');
  const pump = await client(rig, { username: 'pump-3', password: 'pump-secret' });
  await pump.publishAsync('sensors/pump-3/telemetry', 'on', { qos: 1 });
  const tool = await client(rig);
  await tool.publishAsync('sensors/pump-3/telemetry', 'by hand', { qos: 1 });
  await tool.publishAsync('sensors/lamp/telemetry', 'by hand', { qos: 1 });
  await tool.endAsync();
  await waitFor(() => rig.states.get('lamp') === 'offline', { what: 'the lamp to be offline' });
  expect(state()).toBe('good');
  await pump.endAsync();
  await waitFor(() => state() === 'offline', { what: 'the pump to be offline' });
});

it('writes to a device and takes the next value for the confirmation', async () => {
  const rig = await startBroker({
    topics: [
      {
        topic: 'pumps/{device_id}/state',
        points: { running: { pointer: '/running', type: 'boolean', writable: true } },
      },
    ],
    command: { topic: 'pumps/{device_id}/set', timeout_ms: 2000 },
  });
  const pump = await client(rig, { username: 'pump-3', password: 'pump-secret' });
  const id = parseDeviceId('pump-3');
  const write = (value: boolean) => rig.adapter.write?.({ deviceId: id, point: 'running', value }, NEVER);
  await expect(write(true)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
  await pump.publishAsync('pumps/pump-3/state', '{"running":false}', { qos: 1 });
  await pump.subscribeAsync('pumps/pump-3/set', { qos: 1 });
  pump.on('message', (_topic, payload) => pump.publish('pumps/pump-3/state', payload, { qos: 1 }));
  await expect(write(true)).resolves.toEqual({ readBack: true, quality: { level: 'good' } });
  await pump.endAsync();
  await waitFor(() => rig.states.get('pump-3') === 'offline', { what: 'the device to be offline' });
  await expect(write(true)).rejects.toMatchObject({ code: 'GW_DEVICE_OFFLINE' });
});
