// Devices as they come, spoken by mosquitto_pub to the built daemon: their values at the upstream broker.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connectAsync, type MqttClient } from 'mqtt';
import { get } from 'sparkplug-payload';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { decodeSparkplug } from '../../modules/mqtt/presets/sparkplug-codec.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto, type Mosquitto } from '../support/mosquitto.ts';
import { loginOptions, type MosquittoLogin, mosquittoPub, mosquittoSub } from '../support/mosquitto-clients.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { type DaemonProcess, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.92.2';
const codec = get('spBv1.0');
type SparkplugPayload = Parameters<NonNullable<typeof codec>['encodePayload']>[0];

let directory: TempDir;
let upstream: Mosquitto;
let daemon: DaemonProcess;
let witness: MqttClient;
let port: number;
let arrived: { device: string; kind: string; body: { values?: Record<string, unknown>; status?: number } }[];

beforeAll(async () => {
  directory = temporaryDirectory();
  upstream = await startMosquitto({ address: ADDRESS });
  port = await freePort(ADDRESS);
  const webPort = await freePort(ADDRESS);
  const config = `
gateway: { id: plant-7 }
adapters:
  field:
    type: mqtt
    listen: { address: ${ADDRESS}, port: ${port} }
    clients: [{ username: bridge, password: bridge-secret, devices: ['*'] }]
    presets: [shelly, zigbee2mqtt, homie, sparkplug]
upstream: { type: mqtt, url: '${upstream.url}', topic: 'fieldpost/{gateway_id}/{device_id}/telemetry' }
web: { address: ${ADDRESS}, port: ${webPort} }
outbox: { min_free_bytes: 0 }
`;
  witness = await connectAsync(upstream.url);
  witness.on('message', (topic, payload) => {
    const [, , device = '', kind = ''] = topic.split('/');
    arrived.push({ device, kind, body: JSON.parse(payload.toString()) as (typeof arrived)[number]['body'] });
  });
  await witness.subscribeAsync('fieldpost/plant-7/#', { qos: 1 });
  daemon = await startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
});

afterAll(async () => {
  await daemon[Symbol.asyncDispose]();
  await witness.endAsync();
  await upstream[Symbol.asyncDispose]();
  directory.remove();
});

beforeEach(() => {
  arrived = [];
});

function login(): MosquittoLogin {
  return { address: ADDRESS, port, username: 'bridge', password: 'bridge-secret' };
}

async function publish(topic: string, payload: string | object | Uint8Array, ...more: string[]): Promise<void> {
  const file = directory.file('payload');
  const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
  writeFileSync(file, payload instanceof Uint8Array ? payload : text);
  await mosquittoPub(login(), topic, '-f', file, ...more);
}

/** Resolves with the first message on a topic, in hexadecimal, once `act` is done; the subscriber is there before. */
async function heard(topic: string, act: () => Promise<void>): Promise<Buffer> {
  const { ended, output } = await mosquittoSub(login(), '-t', topic, '-C', '1', '-W', '20', '-F', '%x');
  await act();
  await ended;
  return Buffer.from(/^(?:[0-9a-f]{2})+$/m.exec(output())?.[0] ?? '', 'hex');
}

/** All that a device said so far, the newest of each point. */
const valuesOf = (device: string): Record<string, unknown> =>
  Object.assign({}, ...arrived.filter((message) => message.device === device).map(({ body }) => body.values));

async function expectValues(device: string, values: Readonly<Record<string, unknown>>): Promise<void> {
  await waitFor(() => Object.keys(values).every((name) => name in valuesOf(device)), {
    what: `${Object.keys(values).join(', ')} of ${device}`,
  }).catch(() => {});
  expect(valuesOf(device)).toEqual(values);
}

/** Resolves with the status of the response. */
async function write(device: string, values: object): Promise<number | undefined> {
  const id = String(arrived.length + performance.now());
  await witness.publishAsync(`fieldpost/plant-7/${device}/command/write`, JSON.stringify({ id, values }), { qos: 1 });
  const answer = () => arrived.find((message) => message.device === device && message.kind === 'response');
  await waitFor(answer, { what: 'the response' });
  return answer()?.body.status;
}

it('Shelly, both generations', async () => {
  const plug = 'shellies/shelly1pm-B929CC';
  await publish(`${plug}/online`, 'true', '-r');
  await publish(`${plug}/relay/0`, 'on');
  await publish(`${plug}/relay/0/power`, '25.4');
  await expectValues('shelly1pm-B929CC', { 'relay/0': true, 'relay/0/power': 25.4 });

  const second = 'shellyplus1pm-a8032abe54dc';
  const status = { id: 0, output: true, apower: 8.9, aenergy: { total: 6.532, by_minute: [45.1], minute_ts: 1 } };
  await publish(`${second}/status/switch:0`, status);
  const params = { ts: Date.now() / 1000, 'switch:0': { id: 0, voltage: 237.5 } };
  await publish(`${second}/events/rpc`, { src: second, dst: 'x', method: 'NotifyStatus', params });
  await expectValues(second, {
    'switch:0.output': true,
    'switch:0.apower': 8.9,
    'switch:0.aenergy.total': 6.532,
    'switch:0.voltage': 237.5,
  });
});

it('Zigbee2MQTT, with a write down and back', async () => {
  const features = [
    { type: 'binary', name: 'state', property: 'state', access: 7, value_on: 'ON', value_off: 'OFF' },
    { type: 'numeric', name: 'brightness', property: 'brightness', access: 7 },
  ];
  const definition = { model: 'LCT', vendor: 'Philips', exposes: [{ type: 'light', features }] };
  const bulb = { ieee_address: '0x0017', type: 'Router', friendly_name: 'hall/my bulb', definition };
  await publish('zigbee2mqtt/bridge/state', { state: 'online' }, '-r');
  await publish('zigbee2mqtt/bridge/devices', [bulb], '-r');
  await publish('zigbee2mqtt/hall/my bulb/availability', { state: 'online' }, '-r');
  // One connection that stays, as the bridge's does: with it the bulb would be gone.
  const topic = ['-t', 'zigbee2mqtt/hall/my bulb', '-q', '1', '-l'];
  const bridge = spawn('mosquitto_pub', [...loginOptions(login()), ...topic]);
  bridge.stdin.write('{"state":"OFF","brightness":120}\n');
  await expectValues('hall.my_bulb', { state: false, brightness: 120 });
  let status: Promise<number | undefined> | undefined;
  const command = await heard('zigbee2mqtt/hall/my bulb/set', () => {
    status = write('hall.my_bulb', { state: true });
    return Promise.resolve();
  });
  expect(command.toString()).toBe('{"state":"ON"}');
  bridge.stdin.write('{"state":"ON","brightness":120}\n');
  expect(await status).toBe(200);
  bridge.stdin.end();
  await once(bridge, 'close');
  await publish('zigbee2mqtt/hall/my bulb/availability', { state: 'offline' }, '-r');
  arrived = [];
  expect(await write('hall.my_bulb', { state: false })).not.toBe(200);
});

it('Homie', async () => {
  const attributes = { $homie: '4.0', $name: 'Cellar', $nodes: 'climate', $state: 'ready' };
  for (const [name, text] of Object.entries(attributes)) await publish(`homie/cellar/${name}`, text, '-r');
  const facts = { $name: 'Temperature', $datatype: 'float', $unit: '°C' };
  for (const [name, text] of Object.entries(facts)) await publish(`homie/cellar/climate/temp/${name}`, text, '-r');
  await publish('homie/cellar/climate/pump/$datatype', 'boolean', '-r');
  await publish('homie/cellar/climate/temp', '12.5', '-r');
  await publish('homie/cellar/climate/pump', 'true', '-r');
  await expectValues('cellar', { 'climate/temp': 12.5, 'climate/pump': true });
});

it('Sparkplug B: births, data by alias, a rebirth after a hole, and a death', async () => {
  const say = (kind: string, path: string, payload: SparkplugPayload): Promise<void> =>
    publish(`spBv1.0/Plant/${kind}/${path}`, codec?.encodePayload({ timestamp: Date.now(), ...payload }) ?? '');
  const bdSeq = { name: 'bdSeq', type: 'Int64', value: 1 } as const;
  const rebirth = { name: 'Node Control/Rebirth', type: 'Boolean', value: false } as const;
  const level = (value: number, named = true) =>
    ({ ...(named && { name: 'Level' }), alias: 9, type: 'Double', value }) as never;
  const birth = async (value: number): Promise<void> => {
    await say('NBIRTH', 'edge-1', { seq: 0, metrics: [bdSeq, rebirth] });
    await say('DBIRTH', 'edge-1/tank', { seq: 1, metrics: [level(value)] });
  };
  const levels = (): unknown[] =>
    arrived.filter(({ device }) => device === 'Plant.edge-1.tank').map(({ body }) => body.values?.['Level']);

  await birth(1);
  await say('DDATA', 'edge-1/tank', { seq: 2, metrics: [level(2, false)] });
  await waitFor(() => levels().length === 2, { what: 'the birth and the data' });
  const asked = await heard('spBv1.0/Plant/NCMD/edge-1', () =>
    say('DDATA', 'edge-1/tank', { seq: 7, metrics: [level(3, false)] }),
  );
  const [metric] = decodeSparkplug(asked)?.metrics ?? [];
  expect([metric?.name, metric?.value(undefined)]).toEqual(['Node Control/Rebirth', true]);
  await birth(4);
  await say('DDATA', 'edge-1/tank', { seq: 2, metrics: [level(5, false)] });
  await waitFor(() => levels().includes(5), { what: 'data after the rebirth' });
  // What came past the hole is a value all the same.
  expect(levels()).toEqual([1, 2, 3, 4, 5]);

  const node = await connectAsync(`mqtt://${ADDRESS}:${port}`, { username: 'bridge', password: 'bridge-secret' });
  node.on('message', (_topic, command) => {
    const [written] = decodeSparkplug(command)?.metrics ?? [];
    const answer = codec?.encodePayload({ seq: 3, metrics: [level(Number(written?.value(undefined)))] });
    node.publish('spBv1.0/Plant/DDATA/edge-1/tank', Buffer.from(answer ?? ''));
  });
  await node.subscribeAsync('spBv1.0/Plant/DCMD/edge-1/tank');
  const alive = codec?.encodePayload({ seq: 3, metrics: [level(6)] });
  await node.publishAsync('spBv1.0/Plant/DBIRTH/edge-1/tank', Buffer.from(alive ?? ''), { qos: 1 });
  expect(await write('Plant.edge-1.tank', { Level: 8.5 })).toBe(200);
  await waitFor(() => levels().includes(8.5), { what: 'the value that was written' });
  arrived = [];
  await say('NDEATH', 'edge-1', { metrics: [bdSeq] });
  expect(await write('Plant.edge-1.tank', { Level: 1 })).toBe(504);
  await node.endAsync();
});
