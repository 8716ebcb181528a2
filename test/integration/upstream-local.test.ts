// The broker inside the gateway, as a subscriber meets it.

import { once } from 'node:events';
import { createServer, connect as connectTcp } from 'node:net';
import mqtt from 'mqtt';
import { describe, expect, it } from 'vitest';
import { checkLocalUpstream, localUpstreamConfig } from '../../modules/upstream-local/config.ts';
import { createLocalTransport } from '../../modules/upstream-local/transport.ts';
import { freePort } from '../support/free-port.ts';
import { endpointContext, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.50.5';

async function localRig(settings: { commands?: boolean } = {}) {
  const port = await freePort(ADDRESS);
  const config = localUpstreamConfig.parse({ listen: { address: ADDRESS, port }, ...settings });
  const transport = createLocalTransport(config, endpointContext());
  transport.receiveCommands?.({
    onCommand: () => {},
    onIgnored: () => {},
    callMethod: () => Promise.resolve({ status: 200, body: {} }),
    run: () => Promise.reject(new Error('not expected')),
    isAway: () => false,
  });
  const rig = startRig(transport);
  return { port, rig, url: `mqtt://${ADDRESS}:${port}` };
}

/** With a client that notes the topics of all that is handed on. */
async function watchedRig() {
  const { port, rig, url } = await localRig({ commands: true });
  await waitFor(() => rig.runner.status().state === 'connected');
  const topics: string[] = [];
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0 });
  client.on('message', (name) => void topics.push(name));
  await client.subscribeAsync('#');
  return { port, rig, client, topics };
}

const field = (content: string | Buffer): Buffer => {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
};

function packet(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length = body.length < 0x80 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

/** Of a client called r; the will has QoS 0. */
const connectPacket = (will?: string | Buffer): Buffer =>
  packet(
    0x10,
    field('MQTT'),
    Buffer.from([4, will === undefined ? 2 : 6, 0, 0]),
    field('r'),
    ...(will === undefined ? [] : [field(will), field('{}')]),
  );

/** QoS 0. */
const publishPacket = (topic: string | Buffer): Buffer => packet(0x30, field(topic), Buffer.from('{}'));

describe('the local broker', () => {
  it('delivers to whoever subscribes, and needs nobody', async () => {
    const { rig, url } = await localRig();
    await using _rig = rig;
    await rig.append(50, 'nobody');
    await rig.drained();
    const client = await mqtt.connectAsync(url, { reconnectPeriod: 0 });
    const texts: string[] = [];
    client.on('message', (topic, payload) => void texts.push(`${topic} ${payload.toString()}`));
    await client.subscribeAsync('fieldpost/+/meter-1/telemetry');
    await rig.append(200, 'm');
    await waitFor(() => texts.length === 200);
    expect(texts[199]).toBe('fieldpost/gateway-1/meter-1/telemetry m199');
    await client.endAsync(true);
  });

  it('takes no messages from clients', async () => {
    const { rig, url } = await localRig();
    await using _rig = rig;
    await waitFor(() => rig.runner.status().state === 'connected');
    const client = await mqtt.connectAsync(url, { reconnectPeriod: 0 });
    client.publish('fieldpost/gateway-1/meter-1/telemetry', 'forged');
    await waitFor(() => !client.connected);
    await client.endAsync(true);
  });

  it.each<[string, string | Buffer]>([
    ['U+0000 in a topic', 'fieldpost/gateway-1/a\0b/command/write'],
    ['a topic that is no UTF-8', Buffer.from('fieldpost/gateway-1/a\xff/command/write', 'latin1')],
    ['a filter for a topic', 'fieldpost/gateway-1/+/command/write'],
    ['a topic of too many levels', `fieldpost/gateway-1/a/command/${'write/'.repeat(40)}`],
  ])('hands on no publish and no will with %s, and ends who sends it', { timeout: 10_000 }, async (_what, topic) => {
    const { port, rig, client, topics } = await watchedRig();
    await using _rig = rig;
    for (const packets of [[connectPacket(), publishPacket(topic)], [connectPacket(topic)]]) {
      const socket = connectTcp(port, ADDRESS);
      socket.on('error', () => {});
      const closed = once(socket, 'close');
      socket.write(Buffer.concat(packets));
      socket.resume();
      await closed;
    }
    await rig.append(1, 'm');
    await waitFor(() => topics.length > 0);
    expect(topics).toEqual(['fieldpost/gateway-1/meter-1/telemetry']);
    expect(client.connected).toBe(true);
    await client.endAsync(true);
  });

  it('takes no will for a command', async () => {
    const { port, rig, client, topics } = await watchedRig();
    await using _rig = rig;
    const socket = connectTcp(port, ADDRESS);
    socket.on('error', () => {});
    socket.write(connectPacket('fieldpost/gateway-1/pump/command/write'));
    await once(socket, 'data');
    socket.resetAndDestroy();
    await client.publishAsync('fieldpost/gateway-1/pump/command/other', '{}');
    await waitFor(() => topics.length > 0);
    expect(topics).toEqual(['fieldpost/gateway-1/pump/command/other']);
    await client.endAsync(true);
  });

  it('drops a subscriber that takes nothing, and goes on', async () => {
    const { port, rig } = await localRig();
    await using _rig = rig;
    await waitFor(() => rig.runner.status().state === 'connected');
    const slow = connectTcp(port, ADDRESS);
    slow.on('error', () => {});
    // CONNECT and SUBSCRIBE to everything with QoS 0, then not a byte is read.
    slow.write(Buffer.from('100d00044d51545404020000000173', 'hex'));
    slow.write(Buffer.from('8206000100012300', 'hex'));
    await waitFor(() => slow.bytesRead >= 9);
    slow.pause();
    await rig.append(300, 'x', { body: Buffer.alloc(60_000) });
    await rig.drained();
    expect(rig.runner.status().deliveredTotal).toBe(300);
    slow.destroy();
  });

  it('is degraded while its port is taken, keeps everything, and comes when it is free', async () => {
    const port = await freePort(ADDRESS);
    const squatter = createServer();
    await new Promise<void>((resolve) => {
      squatter.listen(port, ADDRESS, resolve);
    });
    await using rig = startRig(
      createLocalTransport(localUpstreamConfig.parse({ listen: { address: ADDRESS, port } }), endpointContext()),
    );
    await rig.append(10);
    await waitFor(() => rig.runner.health().status === 'degraded');
    expect(rig.runner.health().reason).toMatch(
      /cannot listen on 127\.0\.50\.5:\d+, another program does; choose another/,
    );
    squatter.close();
    await rig.drained();
  });

  it('never listens beyond loopback', () => {
    expect(checkLocalUpstream(localUpstreamConfig.parse({ listen: { address: '0.0.0.0' } }))).toHaveLength(1);
    expect(checkLocalUpstream(localUpstreamConfig.parse({}))).toEqual([]);
  });
});
