// What came in for a device is recorded and played in its place, through the same decoding.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connectAsync } from 'mqtt';
import { get } from 'sparkplug-payload';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { checkMqtt } from '../../modules/mqtt/check-config.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { freePort } from '../support/free-port.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { record } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.92.1';
const NEVER = new AbortController().signal;
const BOILER = parseDeviceId('Plant.edge-1.boiler');
const codec = get('spBv1.0');
type Metrics = Parameters<NonNullable<typeof codec>['encodePayload']>[0]['metrics'];

let directory: TempDir;
let port: number;

beforeEach(async () => {
  directory = createTempDir('mqtt-capture');
  port = await freePort(ADDRESS);
});

afterEach(() => directory.remove());

function start(device: object, more: object = {}) {
  const recording = record({ captureDirectory: directory.path });
  const config = mqttConfig.parse({
    listen: { address: ADDRESS, port },
    anonymous: 'loopback',
    presets: ['sparkplug'],
    topics: [{ topic: 'sensors/{device_id}/telemetry' }],
    devices: { [BOILER]: device, ...more },
  });
  expect(checkMqtt(config, { gatewayId: 'plant-7' })).toEqual([]);
  return { ...recording, adapter: createMqttAdapter(config, recording.context) };
}

function payload(seq: number, metrics: Metrics = []): Buffer {
  return Buffer.from(codec?.encodePayload({ timestamp: 1_700_000_000_000, seq, metrics }) ?? []);
}

const TEMPERATURE = { name: 'Temperature', alias: 7, type: 'Double' } as const;

/** A node with two devices, of which one is recorded: all of them count in one numbering. */
async function speak(): Promise<void> {
  const node = await connectAsync(`mqtt://${ADDRESS}:${port}`);
  const say = (kind: string, seq: number, device: string, metrics: Metrics = []) =>
    node.publishAsync(`spBv1.0/Plant/${kind}/edge-1${device}`, payload(seq, metrics), { qos: 1 });
  await say('NBIRTH', 0, '');
  await say('DBIRTH', 1, '/boiler', [{ ...TEMPERATURE, value: 20 }]);
  await say('DBIRTH', 2, '/pump', [{ ...TEMPERATURE, value: 5 }]);
  await say('DDATA', 3, '/boiler', [{ alias: 7, type: 'Double', value: 21.5 } as never]);
  await say('DDATA', 4, '/pump', [{ alias: 7, type: 'Double', value: 6 } as never]);
  await say('DDATA', 5, '/boiler', [{ alias: 7, type: 'Double', value: 22.5 } as never]);
  await node.publishAsync('sensors/other/telemetry', 'x', { qos: 1 });
  await node.endAsync();
}

const values = (rig: ReturnType<typeof start>): unknown[] =>
  rig.batches.filter(({ deviceId }) => deviceId === BOILER).map(({ readings }) => readings[0]?.value);

it('plays what it recorded, and nobody mixes with it', async () => {
  const live = start({ capture: { file: 'boiler.jsonl' } });
  await live.adapter.start(NEVER);
  await speak();
  await live.adapter.stop(NEVER);
  expect(values(live)).toEqual([20, 21.5, 22.5]);
  const lines = readFileSync(directory.file('boiler.jsonl'), 'utf8').trim().split('\n');
  expect(lines).toHaveLength(6);

  const played = start({ replay: { file: 'boiler.jsonl' } });
  await played.adapter.start(NEVER);
  await waitFor(() => values(played).length >= 6, { what: 'the capture to be played twice' });
  expect(values(played).slice(0, 6)).toEqual([20, 21.5, 22.5, 20, 21.5, 22.5]);
  expect([...played.states]).toEqual([[BOILER, 'good']]);
  expect(played.refusals).toEqual([]);
  const write = { deviceId: BOILER, point: 'Temperature', value: 1 };
  await expect(played.adapter.write?.(write, NEVER)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
  await expect(played.adapter.identify?.(BOILER, NEVER)).resolves.toMatchObject({ spoken: 'sparkplug' });

  const forger = await connectAsync(`mqtt://${ADDRESS}:${port}`, { reconnectPeriod: 0 });
  const gone = new Promise<void>((resolve) => forger.once('close', () => resolve()));
  forger.publish(`sensors/${BOILER}/telemetry`, 'forged', { qos: 1 });
  await gone;
  expect(played.refusals).toEqual(['foreign_device']);
  expect(played.messages).toEqual([]);
  await played.adapter.stop(NEVER);
  const before = played.batches.length;
  await waitFor(() => played.adapter.health().status === 'stopped');
  expect(played.batches).toHaveLength(before);
});

it.each([
  ['absent', undefined],
  ['no capture', 'hello\nworld\n'],
  ['without a publish', '{"t":0,"dir":"rx","hex":"c000"}\n'],
])('says that a capture is %s, and plays it once it is there', async (_what, text) => {
  if (text !== undefined) writeFileSync(directory.file('boiler.jsonl'), text);
  const rig = start({ replay: { file: 'boiler.jsonl' } });
  await rig.adapter.start(NEVER);
  await waitFor(() => rig.adapter.health().status === 'degraded', { what: 'the fault to show' });
  expect(rig.adapter.health().reason).toMatch(/boiler\.jsonl.*\.$/);
  expect(rig.states.get(BOILER)).toBe('offline');

  // What is no capture is recorded over by nobody.
  rmSync(directory.file('boiler.jsonl'), { force: true });
  const live = record({ captureDirectory: directory.path });
  const other = await freePort(ADDRESS);
  const devices = { [BOILER]: { capture: { file: 'boiler.jsonl' } } };
  const config = { listen: { address: ADDRESS, port: other }, anonymous: 'loopback', presets: ['sparkplug'], devices };
  const recorder = createMqttAdapter(mqttConfig.parse(config), live.context);
  await recorder.start(NEVER);
  const node = await connectAsync(`mqtt://${ADDRESS}:${other}`);
  await node.publishAsync('spBv1.0/Plant/DBIRTH/edge-1/boiler', payload(0, [{ ...TEMPERATURE, value: 20 }]), {
    qos: 1,
  });
  await node.endAsync();
  await recorder.stop(NEVER);

  await waitFor(() => rig.adapter.health().status === 'running', { what: 'the capture to be played' });
  await waitFor(() => values(rig).length > 0, { what: 'a value' });
  await rig.adapter.stop(NEVER);
});
