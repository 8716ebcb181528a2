// Devices of the presets at the broker for leaf devices, with mqtt.js in the place of their firmware.

import mqtt from 'mqtt';
import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { PresetName } from '../../modules/mqtt/config.ts';
import type { Adapter, AdapterContext, DeviceInfo } from '../../src/core/adapter.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import { endsAfterEach } from '../support/ends.ts';
import { freePort } from '../support/free-port.ts';
import { memorySpace } from '../support/state.ts';
import { waitFor } from '../support/wait.ts';
import { record, type Recording } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.155.1';
const NEVER = new AbortController().signal;
const ends = endsAfterEach();

interface Rig extends Recording {
  readonly adapter: Adapter;
  readonly port: number;
  readonly url: string;
}

/** A broker with one preset, for devices with a user name of their own. */
async function startBroker(
  preset: PresetName,
  devices: readonly string[],
  fields: Partial<AdapterContext> = {},
  at?: number,
): Promise<Rig> {
  const port = at ?? (await freePort(ADDRESS));
  const recording = record(fields);
  const config = mqttConfig.parse({
    listen: { address: ADDRESS, port },
    presets: [preset],
    clients: devices.map((username) => ({ username, password: 'secret' })),
    anonymous: 'loopback',
  });
  const adapter = createMqttAdapter(config, recording.context);
  await adapter.start(NEVER);
  ends.push(() => adapter.stop(NEVER));
  return { ...recording, adapter, port, url: `mqtt://${ADDRESS}:${port}` };
}

/** Without a user name: anonymous. */
async function connect({ url }: Rig, { username, ...options }: mqtt.IClientOptions = {}): Promise<mqtt.MqttClient> {
  const login = username === undefined ? {} : { username, password: 'secret' };
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0, ...login, ...options });
  ends.push(() => client.endAsync(true));
  client.on('error', () => {});
  return client;
}

const closed = (peer: mqtt.MqttClient): Promise<void> => new Promise((resolve) => peer.once('close', () => resolve()));

/** What firmware publishes at its connect besides values, below its own topics and elsewhere. */
const GREETINGS: readonly (readonly [preset: PresetName, device: string, topics: readonly string[]])[] = [
  ['tasmota', 'tas', ['tele/tas/LWT', 'cmnd/tas/POWER', 'tele/tas/INFO1', 'tasmota/discovery/A0B1C2/config']],
  ['shelly', 'shelly1-A0B1C2', ['shellies/shelly1-A0B1C2/online', 'shellies/announce', 'shellies/shelly1-A0B1C2/info']],
  ['shelly', 'shellyplus1-a0b1c2', ['shellyplus1-a0b1c2/online', 'shellyplus1-a0b1c2/events/rpc', 'some-tool/rpc']],
  ['zigbee2mqtt', 'zigbee2mqtt-bridge', ['zigbee2mqtt/bridge/state', 'homeassistant/sensor/x/config']],
  // The library for ESP8266 empties what is retained there once it has read it.
  ['homie', 'lamp', ['homie/lamp/$state', 'homie/lamp/$implementation/config/set']],
  ['sparkplug', 'G.n', ['spBv1.0/G/NBIRTH/n', 'spBv1.0/G/NDEATH/n']],
];

it.each(GREETINGS)('takes what a device of %s says at its connect under a name of its own, %s', async (...greeting) => {
  const [preset, device, topics] = greeting;
  const rig = await startBroker(preset, [device]);
  const leaf = await connect(rig, { username: device });
  for (const qos of [0, 1] as const) for (const topic of topics) await leaf.publishAsync(topic, '', { qos });
  expect(rig.refusals.filter((reason) => /command|device/.test(reason))).toEqual([]);
  expect(leaf.connected).toBe(true);
});

it('lets Tasmota without a name ask itself for its state, as it does at each connect, and nobody switch it', async () => {
  const rig = await startBroker('tasmota', []);
  const plug = await connect(rig);
  const heard: string[] = [];
  plug.on('message', (topic, payload) => void heard.push(`${topic} ${payload.toString()}`));
  await plug.subscribeAsync('cmnd/tas/#');
  await plug.publishAsync('cmnd/tas/POWER', '', { qos: 1 });
  const stranger = await connect(rig);
  await stranger.publishAsync('cmnd/tas/POWER', '', { qos: 1 });
  const gone = closed(stranger);
  stranger.publish('cmnd/tas/POWER', 'ON', { qos: 1 });
  await gone;
  expect(heard).toEqual(['cmnd/tas/POWER ', 'cmnd/tas/POWER ']);
  expect(rig.refusals).toEqual(['command_topic']);
});

it('lets a device command itself, and no other', async () => {
  const rig = await startBroker('tasmota', ['button', 'lamp']);
  const button = await connect(rig, { username: 'button' });
  await button.publishAsync('cmnd/button/POWER', 'TOGGLE', { qos: 1 });
  for (const [topic, payload] of [
    ['cmnd/lamp/POWER', 'TOGGLE'],
    ['cmnd/lamp/POWER', ''],
    ['cmnd/tasmotas/POWER', 'TOGGLE'],
  ] as const) {
    const thief = await connect(rig, { username: 'button' });
    const gone = closed(thief);
    thief.publish(topic, payload, { qos: 1 });
    await gone;
  }
  expect(rig.refusals).toEqual(['command_topic', 'not_its_device', 'command_topic']);
});

/** A lamp, as Zigbee2MQTT describes it. */
const LAMP = {
  friendly_name: 'lamp',
  definition: {
    exposes: [{ type: 'binary', name: 'state', property: 'state', access: 7, value_on: 'ON', value_off: 'OFF' }],
  },
};

it('knows the devices of Zigbee2MQTT again when that comes back, which describes them only at its own start', async () => {
  const state = memorySpace();
  const infos = new Map<string, DeviceInfo>();
  const addDevice = (info: DeviceInfo): undefined => void infos.set(info.deviceId, info);
  const first = await startBroker('zigbee2mqtt', [], { state, addDevice });
  const bridge = await connect(first, { clientId: 'z2m' });
  const options = { qos: 1, retain: true } as const;
  await bridge.publishAsync('zigbee2mqtt/bridge/devices', JSON.stringify([LAMP]), options);
  await bridge.publishAsync('zigbee2mqtt/lamp/availability', '{"state":"online"}', { ...options, qos: 0 });
  await bridge.publishAsync('zigbee2mqtt/lamp', '{"state":"ON"}', options);
  await first.adapter.stop(NEVER);

  infos.clear();
  const second = await startBroker('zigbee2mqtt', ['eve'], { state, addDevice }, first.port);
  await connect(second, { clientId: 'another' });
  const eve = await connect(second, { username: 'eve', clientId: 'z2m' });
  await eve.endAsync();
  // Known is it, but nobody is there who carries it.
  const known = [expect.objectContaining({ name: 'state', writable: true })];
  expect([infos.get('lamp')?.points, second.states.get('lamp')]).toEqual([known, undefined]);
  const back = await connect(second, { clientId: 'z2m' });
  const heard: string[] = [];
  back.on('message', (_topic, payload) => {
    heard.push(payload.toString());
    back.publish('zigbee2mqtt/lamp', payload);
  });
  await back.subscribeAsync('zigbee2mqtt/lamp/set');
  expect(second.states.get('lamp')).toBe('good');
  // What it had said of the present was said then.
  expect(second.batches).toEqual([]);
  const write = { deviceId: parseDeviceId('lamp'), point: 'state', value: false };
  expect(await second.adapter.write?.(write, NEVER)).toMatchObject({ readBack: false });
  expect(heard).toEqual(['{"state":"OFF"}']);
  await back.endAsync();
  await waitFor(() => second.states.get('lamp') === 'offline', { what: 'the end of all that came through it' });
});
