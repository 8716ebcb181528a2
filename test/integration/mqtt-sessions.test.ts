// What the broker grants, keeps and delivers to subscribers (MQTT 3.1.1, 3.8.4 and 4.3), with mqtt.js as devices.

import mqtt, { type IPublishPacket, type MqttClient } from 'mqtt';
import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import { LIMITS } from '../../src/core/limits.ts';
import type { Adapter } from '../../src/core/adapter.ts';
import type { StateSpace } from '../../src/core/state.ts';
import { endsAfterEach } from '../support/ends.ts';
import { freePort } from '../support/free-port.ts';
import { memorySpace } from '../support/state.ts';
import { waitFor } from '../support/wait.ts';
import { record, type Recording } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.126.1';
const NEVER = new AbortController().signal;
const ends = endsAfterEach();

interface Rig extends Recording {
  readonly adapter: Adapter;
  readonly url: string;
  readonly state: StateSpace;
}

async function startBroker(state: StateSpace = memorySpace()): Promise<Rig> {
  const port = await freePort(ADDRESS);
  const recording = record({ state });
  const config = mqttConfig.parse({ listen: { address: ADDRESS, port }, anonymous: 'loopback', topics: [] });
  const adapter = createMqttAdapter(config, recording.context);
  await adapter.start(NEVER);
  ends.push(() => adapter.stop(NEVER));
  return { ...recording, adapter, state, url: `mqtt://${ADDRESS}:${port}` };
}

interface Peer {
  readonly client: MqttClient;
  /** What came, as `topic payload qos`, with `retain` and `dup` where they are set. */
  readonly heard: string[];
}

async function connect(
  rig: Rig,
  options: mqtt.IClientOptions & { readonly acknowledges?: boolean } = {},
): Promise<Peer> {
  const { acknowledges = true, ...rest } = options;
  const client = mqtt.connect(rig.url, { reconnectPeriod: 0, ...rest });
  const heard: string[] = [];
  const note = ({ topic, payload, qos, retain, dup }: IPublishPacket): void => {
    heard.push([topic, payload.toString(), qos, ...(retain ? ['retain'] : []), ...(dup ? ['dup'] : [])].join(' '));
  };
  client.on('packetreceive', (packet) => void (packet.cmd === 'publish' && note(packet)));
  if (!acknowledges) client.handleMessage = () => {};
  ends.push(() => client.endAsync(true));
  await new Promise<void>((resolve, reject) => client.once('connect', () => resolve()).once('error', reject));
  return { client, heard };
}

const session = (clientId: string): mqtt.IClientOptions => ({ clientId, clean: false });

it.each([0, 1, 2] as const)('grants what it delivers to a subscriber that asks for QoS %i', async (qos) => {
  const rig = await startBroker();
  const granted = Math.min(qos, 1);
  const { client: first } = await connect(rig, session('away'));
  expect(await first.subscribeAsync('free/+', { qos })).toEqual([{ topic: 'free/+', qos: granted }]);
  await first.endAsync();
  const { client: tool } = await connect(rig);
  for (const sent of [0, 1, 2] as const) await tool.publishAsync(`free/${sent}`, 'm', { qos: sent });

  const back = await connect(rig, session('away'));
  await waitFor(() => back.heard.length === granted * 2, { what: 'what waited' });
  expect(back.heard).toEqual(granted === 0 ? [] : ['free/1 m 1', 'free/2 m 1']);
  back.heard.length = 0;
  for (const sent of [0, 1, 2] as const) await tool.publishAsync(`free/${sent}`, 'now', { qos: sent });
  await waitFor(() => back.heard.length === 3, { what: 'what comes now' });
  expect(back.heard).toEqual([0, 1, 2].map((sent) => `free/${sent} now ${Math.min(sent, granted)}`));
});

it('sends again what was not acknowledged when the connection broke, to who asked for QoS 2', async () => {
  const rig = await startBroker();
  const first = await connect(rig, { ...session('mute'), acknowledges: false });
  await first.client.subscribeAsync('free/live', { qos: 2 });
  const { client: tool } = await connect(rig);
  await tool.publishAsync('free/live', 'one', { qos: 2 });
  await waitFor(() => first.heard.length === 1, { what: 'the delivery' });
  (first.client.stream as unknown as { destroy(): void }).destroy();
  const again = await connect(rig, session('mute'));
  await waitFor(() => again.heard.length === 1, { what: 'the delivery again' });
  // MQTT 3.1.1, 3.3.1-1.
  expect(again.heard).toEqual(['free/live one 1 dup']);
});

it('reads sessions, queues and retained messages that an earlier release kept with QoS 2 as QoS 1', async () => {
  const state = memorySpace();
  const facts = { topic: 'free/old', qos: 2, retain: false, brokerId: 'x', brokerCounter: 1 };
  const packet = (fields: object, payload: string) =>
    Buffer.from(`${JSON.stringify({ ...facts, ...fields })}\n${payload}`);
  await state.write([
    { key: 'session/old', value: Buffer.from(JSON.stringify({ subscriptions: { 'free/#': 2 } })) },
    { key: 'queue/old/000000000001', value: packet({}, 'waited') },
    { key: 'retained/notes/1', value: packet({ topic: 'notes/1', retain: true }, 'kept') },
  ]);
  const rig = await startBroker(state);
  const { client: tool } = await connect(rig);
  await tool.publishAsync('free/new', 'm', { qos: 1 });
  const old = await connect(rig, session('old'));
  await waitFor(() => old.heard.length === 2, { what: 'what waited' });
  await old.client.subscribeAsync('notes/#', { qos: 2 });
  await waitFor(() => old.heard.length === 3, { what: 'what is retained' });
  expect(old.heard).toEqual(['free/old waited 1', 'free/new m 1', 'notes/1 kept 1 retain']);
});

it('tells nobody that a message is retained who was subscribed before it came', async () => {
  const rig = await startBroker();
  const { client: first } = await connect(rig, session('away'));
  await first.subscribeAsync('free/#', { qos: 1 });
  await first.endAsync();
  const { client: tool } = await connect(rig);
  await tool.publishAsync('free/state', 'on', { qos: 1, retain: true });
  const back = await connect(rig, session('away'));
  await waitFor(() => back.heard.length === 1, { what: 'what waited' });
  // MQTT 3.1.1, 3.3.1-9.
  expect(back.heard).toEqual(['free/state on 1']);
});

it('delivers retained messages with no more QoS than was granted, whatever the filter', async () => {
  const rig = await startBroker();
  const { client: tool } = await connect(rig);
  await tool.publishAsync('free/state', 'on', { qos: 2, retain: true });
  for (const [filter, qos] of [
    ['free/state', 0],
    ['free/#', 0],
    ['free/+', 2],
  ] as const) {
    const peer = await connect(rig);
    await peer.client.subscribeAsync(filter, { qos });
    await waitFor(() => peer.heard.length === 1, { what: 'what is retained' });
    expect(peer.heard).toEqual([`free/state on ${Math.min(qos, 1)} retain`]);
  }
});

it('lets one user with many sessions take no place from another', async () => {
  const state = memorySpace();
  const keep = (id: string, username?: string) => ({
    key: `session/${id}`,
    value: Buffer.from(JSON.stringify({ username, subscriptions: { 'free/#': 1 } })),
  });
  const many = Array.from({ length: LIMITS.mqtt_sessions - 1 }, (_, index) =>
    keep(`p${String(index).padStart(4, '0')}`),
  );
  await state.write([keep('a-scada', 'scada'), ...many]);
  const rig = await startBroker(state);
  // Of the anonymous ones these two are not away, or not for long.
  const { client: first } = await connect(rig, session('p0000'));
  const { client: second } = await connect(rig, session('p0001'));
  await second.endAsync();
  const { client: fresh } = await connect(rig, session('fresh'));
  await fresh.subscribeAsync('free/fresh', { qos: 1 });
  const kept = async (id: string) => (await state.get(`session/${id}`)) !== undefined;
  expect(await Promise.all(['fresh', 'a-scada', 'p0000', 'p0001', 'p0002', 'p0003'].map(kept))).toEqual([
    true,
    true,
    true,
    true,
    false,
    true,
  ]);
  expect(rig.refusals).toEqual(['session_dropped']);
  expect(first.connected).toBe(true);
});

it('keeps of a session what it granted, and grants no more in one SUBSCRIBE than in many', async () => {
  const rig = await startBroker();
  const { client } = await connect(rig, session('greedy'));
  const most = LIMITS.mqtt_subscriptions_per_client;
  const filters = ['$SYS/secret', ...Array.from({ length: most + 50 }, (_, index) => `free/${index}`)];
  await expect(client.subscribeAsync(filters, { qos: 1 })).rejects.toThrow(/Unspecified error/);
  const kept = await rig.state.get('session/greedy');
  const { subscriptions } = JSON.parse(Buffer.from(kept ?? []).toString()) as { subscriptions: Record<string, number> };
  expect(Object.keys(subscriptions)).toEqual(Array.from({ length: most }, (_, index) => `free/${index}`));
  await client.unsubscribeAsync('free/0');
  await client.subscribeAsync('free/other', { qos: 1 });
  await expect(client.subscribeAsync('free/more', { qos: 1 })).rejects.toThrow(/Unspecified error/);
  expect(rig.refusals.filter((reason) => reason === 'too_many_subscriptions')).toHaveLength(51);
});
