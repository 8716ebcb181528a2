// Clients of the broker that send what MQTT 3.1.1 forbids: each is closed and counted, and nobody else hears of it.

import { connect as connectTcp, type Socket } from 'node:net';
import mqtt from 'mqtt';
import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { encodePacket } from '../../modules/mqtt/kept-packet.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { AdapterContext } from '../../src/core/adapter.ts';
import { endsAfterEach } from '../support/ends.ts';
import { freePort } from '../support/free-port.ts';
import { memorySpace } from '../support/state.ts';
import { waitFor } from '../support/wait.ts';
import { record, type Recording } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.107.1';
const NEVER = new AbortController().signal;
const CONNACK_OK = Buffer.from([0x20, 2, 0, 0]);
const ends = endsAfterEach();

interface Rig extends Recording {
  readonly port: number;
  readonly stop: () => Promise<void>;
}

async function startBroker(fields: Partial<AdapterContext> = {}): Promise<Rig> {
  const port = await freePort(ADDRESS);
  const recording = record(fields);
  const config = mqttConfig.parse({
    listen: { address: ADDRESS, port },
    clients: [
      { username: 'pump-3', password: 'pump-secret' },
      { username: 'bridge', password: 'bridge-secret', devices: ['*'] },
    ],
    topics: [{ topic: 'sensors/{device_id}/telemetry' }],
  });
  const adapter = createMqttAdapter(config, recording.context);
  await adapter.start(NEVER);
  const stop = (): Promise<void> => adapter.stop(NEVER);
  ends.push(stop);
  return { ...recording, port, stop };
}

const field = (bytes: string | Buffer): Buffer => {
  const content = Buffer.from(bytes as string);
  return Buffer.concat([Buffer.from([content.length >> 8, content.length & 0xff]), content]);
};
const packet = (type: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([type, body.length]), body]);
};

interface Hello {
  readonly protocol?: string;
  readonly level?: number;
  readonly clientId?: string | Buffer;
  readonly will?: string | Buffer;
}

/** CONNECT of pump-3; a will is retained, QoS 1. */
function connect({ protocol = 'MQTT', level = 4, clientId = 'raw', will }: Hello = {}): Buffer {
  const flags = 0xc2 | (will === undefined ? 0 : 0x2c);
  return packet(
    0x10,
    field(protocol),
    Buffer.from([level, flags, 0, 30, ...(level === 5 ? [0] : [])]),
    field(clientId),
    ...(will === undefined ? [] : [field(will), field('gone')]),
    field('pump-3'),
    field('pump-secret'),
  );
}

/** Retained, QoS 1. */
const publish = (topic: string | Buffer): Buffer => packet(0x33, field(topic), Buffer.from([0, 1]), Buffer.from('x'));
const subscribe = (filter: string | Buffer, qos = 1): Buffer =>
  packet(0x82, Buffer.from([0, 1]), field(filter), Buffer.from([qos]));

function raw({ port }: Rig): { readonly socket: Socket; readonly received: () => Buffer } {
  const socket = connectTcp({ host: ADDRESS, port });
  const chunks: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => chunks.push(bytes));
  socket.on('error', () => {});
  ends.push(() => Promise.resolve(socket.destroy()));
  return { socket, received: () => Buffer.concat(chunks) };
}

async function admitted(rig: Rig, hello: Hello = {}): Promise<ReturnType<typeof raw>> {
  const peer = raw(rig);
  peer.socket.write(connect(hello));
  await waitFor(() => peer.received().equals(CONNACK_OK), { what: 'the client to be let in' });
  return peer;
}

const closed = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()));

/** All topics that a subscriber of everything is sent until the broker has done what came before. */
async function topicsSeen(rig: Rig): Promise<string[]> {
  const peer = await mqtt.connectAsync(`mqtt://${ADDRESS}:${rig.port}`, {
    username: 'bridge',
    password: 'bridge-secret',
    reconnectPeriod: 0,
  });
  ends.push(() => peer.endAsync(true));
  const topics: string[] = [];
  peer.on('message', (topic) => void topics.push(topic));
  await peer.subscribeAsync('#', { qos: 1 });
  await peer.publishAsync('last', 'x', { qos: 1 });
  await waitFor(() => topics.includes('last'), { what: 'the last message' });
  return topics;
}

const ILL_FORMED = Buffer.from([0x7a, 0x2f, 0xff, 0xfe]);
/** A surrogate, which UTF-8 does not encode (1.5.3-1). */
const SURROGATE = Buffer.from([0x7a, 0x2f, 0xed, 0xa0, 0x80]);

it.each([
  ['a topic with U+0000', publish('zz\0z/a')],
  ['a topic that is no UTF-8', publish(ILL_FORMED)],
  ['a topic with a surrogate', publish(SURROGATE)],
  ['a filter with U+0000', subscribe('a/\0')],
  ['a filter that is no UTF-8', subscribe(ILL_FORMED)],
])('closes the connection of a client that sends %s', async (_what, bytes) => {
  const rig = await startBroker();
  const { socket, received } = await admitted(rig);
  socket.write(bytes);
  await closed(socket);
  expect(received()).toEqual(CONNACK_OK);
  expect(rig.refusals).toEqual(['bad_string']);
  expect(await topicsSeen(rig)).toEqual(['last']);
});

it('takes the replacement character itself for what it is', async () => {
  const rig = await startBroker();
  const { socket, received } = await admitted(rig);
  socket.write(publish('z/\uFFFD'));
  await waitFor(() => received().length === 8, { what: 'the acknowledgement' });
  expect(await topicsSeen(rig)).toEqual(['z/\uFFFD', 'last']);
  expect(rig.refusals).toEqual([]);
});

it('takes no topic for one that it let pass before and that differs in bytes that are no UTF-8', async () => {
  const rig = await startBroker();
  const { socket, received } = await admitted(rig);
  const quiet = (topic: string | Buffer): Buffer => packet(0x32, field(topic), Buffer.from([0, 1]), Buffer.from('x'));
  socket.write(quiet('sensors/pump-3/telemetry'));
  await waitFor(() => received().length === 8, { what: 'the acknowledgement' });
  socket.write(quiet(Buffer.concat([Buffer.from('sensors/pump-3/telemetr'), Buffer.from([0xff])])));
  await closed(socket);
  expect(rig.messages).toHaveLength(1);
  expect(rig.refusals).toEqual(['bad_string']);
});

it.each([
  ['bad_will_topic', 'a/#'],
  ['bad_will_topic', 'raw/+/t'],
  ['bad_will_topic', ''],
  ['bad_will_topic', 'a/'.repeat(40)],
  ['bad_string', 'zz\0z'],
  ['bad_string', ILL_FORMED],
  ['not_its_device', 'sensors/tank-1/telemetry'],
  ['reserved_topic', '$SYS/x'],
])('refuses a client for %s with the will %j', async (reason, will) => {
  const rig = await startBroker();
  const { socket, received } = raw(rig);
  socket.write(connect({ will }));
  await closed(socket);
  expect(received()).not.toEqual(CONNACK_OK);
  expect(rig.refusals).toEqual([reason]);
  expect(await topicsSeen(rig)).toEqual(['last']);
  expect(rig.messages).toEqual([]);
});

it('publishes a will that may be', async () => {
  const rig = await startBroker();
  const { socket } = await admitted(rig, { will: 'sensors/pump-3/telemetry' });
  socket.resetAndDestroy();
  await waitFor(() => rig.messages.length === 1, { what: 'the will' });
  expect(rig.refusals).toEqual([]);
});

it('hands out nothing of such topics that an earlier release kept, and forgets it', async () => {
  const state = memorySpace();
  const kept = (topic: string, brokerCounter: number): Buffer =>
    encodePacket({
      cmd: 'publish',
      topic,
      payload: Buffer.from('x'),
      qos: 1,
      retain: true,
      dup: false,
      brokerId: 'b',
      brokerCounter,
    });
  const session = { username: 'bridge', subscriptions: { 'w/#': 1 } };
  await state.write([
    { key: 'retained/zz\0z/a', value: kept('zz\0z/a', 1) },
    { key: 'retained/a/#', value: kept('a/#', 2) },
    { key: 'retained/good', value: kept('good', 3) },
    { key: 'will/raw', value: kept('w/+', 4) },
    { key: 'session/absent', value: Buffer.from(JSON.stringify(session)) },
    { key: 'queue/absent/000000000001', value: kept('w/\0', 5) },
  ]);
  const rig = await startBroker({ state });
  expect(rig.refusals).toEqual(['bad_topic', 'bad_topic', 'bad_topic', 'bad_topic']);
  expect((await topicsSeen(rig)).toSorted()).toEqual(['good', 'last']);
  await rig.stop();
  const again = await startBroker({ state });
  expect(again.refusals).toEqual([]);
});

it.each([
  ['a publish with QoS 3', Buffer.from([0x36, 5, 0, 1, 0x61, 0, 1])],
  ['a publish to a filter', publish('raw/+/t')],
  ['a publish without a topic', publish('')],
  ['a second CONNECT', connect()],
  ['a subscription without a filter', packet(0x82, Buffer.from([0, 1]))],
  ['a subscription with QoS 3', subscribe('a', 3)],
])('counts and closes a client that sends %s', async (_what, bytes) => {
  const rig = await startBroker();
  const { socket } = await admitted(rig);
  socket.write(bytes);
  await closed(socket);
  expect(rig.refusals).toEqual(['protocol_error']);
});

it('counts and closes a client that sends what only a server sends', async () => {
  const rig = await startBroker();
  const { socket } = await admitted(rig);
  socket.write(CONNACK_OK);
  await closed(socket);
  expect(rig.refusals).toEqual(['malformed_packet']);
});

it('counts and closes a client of another protocol', async () => {
  const rig = await startBroker();
  const { socket } = raw(rig);
  socket.write(connect({ protocol: 'MQTX' }));
  await closed(socket);
  expect(rig.refusals).toEqual(['protocol_error']);
});

it('tells and counts that it does not speak MQTT 5', async () => {
  const rig = await startBroker();
  const { socket, received } = raw(rig);
  socket.write(connect({ level: 5 }));
  await closed(socket);
  // CONNACK 1: unacceptable protocol version (3.1.2-2).
  expect(received()).toEqual(Buffer.from([0x20, 2, 0, 1]));
  expect(rig.refusals).toEqual(['unsupported_protocol_version']);
});

it('counts nothing when clients leave, with and without a word', async () => {
  const rig = await startBroker();
  const polite = await admitted(rig, { clientId: 'polite' });
  const gone = closed(polite.socket);
  polite.socket.end(Buffer.from([0xe0, 0]));
  await gone;
  const rude = await admitted(rig, { clientId: 'rude' });
  rude.socket.write(publish('sensors/pump-3/telemetry'));
  rude.socket.resetAndDestroy();
  await topicsSeen(rig);
  await rig.stop();
  expect(rig.refusals).toEqual([]);
});
