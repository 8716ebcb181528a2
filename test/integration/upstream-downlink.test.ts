// The way down at its edges, through a real Mosquitto and through the broker inside the gateway: what comes twice, too
// much, too large or malformed, and where the answers go.

import mqtt, { type IClientPublishOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { localUpstreamConfig } from '../../modules/upstream-local/config.ts';
import { createLocalTransport } from '../../modules/upstream-local/transport.ts';
import type { Adapter, PointWrite } from '../../src/core/adapter.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { LIMITS } from '../../src/core/limits.ts';
import { GOOD } from '../../src/core/reading.ts';
import { createDeviceRegistry } from '../../src/devices/device-registry.ts';
import { createDispatcher, type Dispatcher } from '../../src/devices/dispatcher.ts';
import { attachDownlink } from '../../src/upstream/downlink.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { memorySpace } from '../support/state.ts';
import {
  clock,
  endpointContext,
  GATEWAY_ID,
  mqttTransport,
  recordingTelemetry,
  startRig,
  subscribe,
  type Received,
} from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.68.3';
const PUMP = parseDeviceId('pump');
const SLOW = parseDeviceId('slow');

interface Answer {
  readonly id: string | null;
  readonly status: number;
  readonly values?: Readonly<Record<string, unknown>>;
}

let ends: AsyncDisposableStack;
let telemetry: ReturnType<typeof recordingTelemetry>;
let dispatcher: Dispatcher;
let written: PointWrite[];
/** Lets the slow device answer, from now on at once. */
let release: () => void;
let client: MqttClient;
let received: readonly Received[];

function buildDispatcher(): Dispatcher {
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const adapter: Adapter = {
    devices: () => [],
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    health: () => ({ status: 'running' }),
    write: async (write) => {
      written.push(write);
      if (write.deviceId === SLOW) await released;
      return { readBack: write.value, quality: GOOD };
    },
  };
  const registry = createDeviceRegistry(clock, { emit: () => {} });
  const points = [{ name: 'relay', address: 'relay', writable: true }];
  registry.setAdapter('bus', [
    { deviceId: PUMP, points },
    { deviceId: SLOW, points },
  ]);
  for (const deviceId of [PUMP, SLOW]) registry.report(deviceId, 'good');
  const [commands, audit, writeRates] = [memorySpace(), memorySpace(), memorySpace()];
  return createDispatcher({ registry, adapterOf: () => adapter, clock, telemetry, commands, audit, writeRates });
}

/** Connects the transport, and a client and a witness to its broker. */
async function begin(transport: UpstreamTransport, url: string, version: 4 | 5): Promise<void> {
  attachDownlink(transport, { name: '$upstream', gatewayId: GATEWAY_ID, dispatcher, telemetry });
  const rig = ends.use(startRig(transport));
  await waitFor(() => rig.runner.status().state === 'connected', { what: 'the transport to be connected' });
  const witness = ends.use(await subscribe(url, version === 4 ? { protocolVersion: 4, clean: true } : {}));
  ({ received } = witness);
  client = await mqtt.connectAsync(url, { protocolVersion: version, reconnectPeriod: 0 });
  client.on('error', () => {});
  ends.defer(() => client.endAsync(true));
  // Whoever is connected need not have subscribed yet.
  await waitFor(
    async () => {
      await send({ id: 'ready', values: { relay: false } });
      return answers('ready').length > 0;
    },
    { everyMs: 50, what: 'commands to be taken' },
  );
  written.length = 0;
}

const topicOf = (deviceId: string, what: string): string => `fieldpost/${GATEWAY_ID}/${deviceId}/${what}`;
const send = (body: object | string | Buffer, deviceId: string = PUMP, options: IClientPublishOptions = {}) =>
  client.publishAsync(
    topicOf(deviceId, 'command/write'),
    typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
    { qos: 1, ...options },
  );
const allAnswers = (deviceId: string = PUMP): Answer[] =>
  received
    .filter(({ topic }) => topic.startsWith(topicOf(deviceId, 'response/')))
    .map(({ text }) => JSON.parse(text) as Answer);
const answers = (id: string): Answer[] =>
  received
    .filter(({ topic }) => topic === topicOf(PUMP, `response/${id}`))
    .map(({ text }) => JSON.parse(text) as Answer);

beforeEach(() => {
  ends = new AsyncDisposableStack();
  telemetry = recordingTelemetry();
  written = [];
  dispatcher = buildDispatcher();
});

afterEach(async () => {
  release();
  await ends.disposeAsync();
});

describe.each(['MQTT 3.1.1', 'MQTT 5', 'the local broker'])('commands over %s', (kind) => {
  const isLocal = kind === 'the local broker';
  const version = kind === 'MQTT 5' ? 5 : 4;

  beforeEach(async () => {
    if (isLocal) {
      const port = await freePort(ADDRESS);
      const config = localUpstreamConfig.parse({ listen: { address: ADDRESS, port }, commands: true });
      await begin(createLocalTransport(config, endpointContext()), `mqtt://${ADDRESS}:${port}`, 4);
      return;
    }
    const broker = ends.use(await startMosquitto({ address: ADDRESS }));
    const transport = mqttTransport({ url: broker.url, protocol_version: version === 5 ? 5 : '3.1.1' });
    await begin(transport, broker.url, version);
  });

  it('does once what its sender sends again', async () => {
    const command = { id: 'again', values: { relay: true } };
    await Promise.all([send(command), send(command, PUMP, { dup: true }), send(command, PUMP, { dup: true })]);
    await waitFor(() => answers('again').length === 3, { what: 'three answers' });
    expect(new Set(answers('again').map((answer) => JSON.stringify(answer)))).toEqual(
      new Set(['{"id":"again","status":200,"values":{"relay":true}}']),
    );
    expect(written).toHaveLength(1);
  });

  it('refuses what is malformed or too large, and does nothing', async () => {
    const values = { relay: true };
    const bad: (string | Buffer)[] = [
      'no JSON',
      '',
      '{"id":"a","values":{"relay":true}',
      '"text"',
      Buffer.from([0x7b, 0xff, 0xfe, 0x7d]),
      ...['a/b', '+', '#', '', 'a\0b', 'x'.repeat(10_000), '\ud800', 7, null].map((id) =>
        JSON.stringify({ id, values }),
      ),
      `{"id":"deep","values":${'['.repeat(30_000)}`,
      JSON.stringify({ id: 'large', values, more: 'x'.repeat(LIMITS.command_bytes) }),
    ];
    for (const body of bad) await send(body);
    await waitFor(() => answers('_').length >= bad.length, { what: 'an answer to each' });
    expect(answers('_').filter(({ id, status }) => id !== null || status !== 400)).toEqual([]);

    const many = Object.fromEntries(Array.from({ length: LIMITS.command_values + 1 }, (_, index) => [`p${index}`, 1]));
    const named: [string, object, number][] = [
      ['many', { values: many }, 400],
      ['nested', { values: { relay: { on: true } } }, 400],
      ['null', { values: { relay: null } }, 400],
      ['proto', { values: JSON.parse('{"__proto__":1}') as object }, 400],
      ['local', { values, expires_at: '2099-01-01T00:00:00+02:00' }, 400],
      ['ü'.repeat(64), { values: { absent: 1 } }, 404],
    ];
    for (const [id, fields] of named) await send({ id, ...fields });
    for (const [id, , status] of named) {
      await waitFor(() => answers(id).length === 1, { what: `the answer to ${id}` });
      expect([id, answers(id)[0]?.status]).toEqual([id, status]);
    }
    expect(written).toEqual([]);
  });

  it('takes so many and no more, refuses the rest, and keeps other devices going', async () => {
    const count = 600;
    const flood = Array.from({ length: count }, (_, index) => send({ id: `f${index}`, values: { relay: true } }, SLOW));
    await Promise.all(flood);
    const taken = LIMITS.device_waiting_commands;
    // What the link cannot take as fast is counted instead.
    const unanswered = (): number => telemetry.of('command_ignored').length;
    const refusals = (): Answer[] => allAnswers(SLOW).filter(({ status }) => status === 429);
    await waitFor(() => refusals().length + unanswered() === count - taken, { what: 'the refusals' });
    expect(refusals().length).toBeGreaterThan(count / 2);
    expect(dispatcher.waiting).toBe(taken);
    await send({ id: 'beside', values: { relay: true } });
    await waitFor(() => answers('beside')[0]?.status === 200, { what: 'the answer of another device' });
    release();
    await waitFor(() => allAnswers(SLOW).length - refusals().length === taken, { what: 'the rest' });
    expect(written.filter(({ deviceId }) => deviceId === SLOW)).toHaveLength(taken);
    expect(telemetry.of('command_ignored').filter(({ fields }) => fields['reason'] !== 'flood')).toEqual([]);
    // What was not taken may come again with its id.
    const refused = refusals()[0]?.id ?? '';
    await send({ id: refused, values: { relay: true } }, SLOW);
    await waitFor(() => allAnswers(SLOW).some(({ id, status }) => id === refused && status === 200));
  });

  it('answers for devices that are not there, whatever they are called', async () => {
    for (const deviceId of ['nobody', 'no body', '$x', 'ü'.repeat(100), '..']) {
      await send({ id: 'x', values: { relay: true } }, deviceId);
      await waitFor(() => allAnswers(deviceId)[0]?.status === 404, { what: `the answer for ${deviceId}` });
    }
  });

  it.runIf(version === 5)('answers where the sender wants it, with its correlation data', async () => {
    const correlationData = Buffer.from([0, 255, 7]);
    await send({ id: 'r1', values: { relay: true } }, PUMP, {
      properties: { responseTopic: 'back-end/7/replies', correlationData },
    });
    await send('no JSON', PUMP, { properties: { responseTopic: 'back-end/7/replies' } });
    const replies = (): Received[] => received.filter(({ topic }) => topic === 'back-end/7/replies');
    await waitFor(() => replies().length === 2, { what: 'the replies' });
    const good = replies().find(({ text }) => text.includes('"r1"'));
    expect(good?.text).toBe('{"id":"r1","status":200,"values":{"relay":true}}');
    expect(good?.correlationData).toEqual(correlationData);
    expect(good?.contentType).toBe('application/json');
    const bad = replies().find((reply) => reply !== good);
    expect(bad?.text).toContain('"status":400');
    expect(bad?.correlationData).toBeUndefined();
    expect([...answers('r1'), ...answers('_')]).toEqual([]);
    await send({ id: 'r2', values: { relay: true } }, PUMP, { properties: { correlationData } });
    await waitFor(() => answers('r2').length === 1, { what: 'the answer in its usual place' });
    expect(received.find(({ text }) => text.includes('"r2"'))?.correlationData).toEqual(correlationData);
  });

  it.runIf(isLocal)('leaves a retained command alone, and disconnects whoever publishes elsewhere', async () => {
    await send({ id: 'kept', values: { relay: true } }, PUMP, { retain: true });
    await waitFor(() => telemetry.of('command_ignored').length === 1);
    expect(telemetry.of('command_ignored')[0]?.fields).toMatchObject({ reason: 'retained' });
    expect(written).toEqual([]);
    client.publish(topicOf(PUMP, 'response/forged'), '{"status":200}');
    await waitFor(() => !client.connected, { what: 'to be disconnected' });
    expect(answers('forged')).toEqual([]);
  });
});
