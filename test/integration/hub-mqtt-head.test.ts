// The MQTT head as devices meet it, with a client that sends anything it is told to.

import type { TLSSocket } from 'node:tls';
import type { MqttClient } from 'mqtt';
import packets, { type Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/core/errors.ts';
import { iotHubError } from '../../src/iothub/errors.ts';
import { closed, hubMqttRig, received, type HubMqttRig } from '../support/hub-mqtt-rig.ts';
import { HOST, HUB } from '../support/hub.ts';
import { waitFor } from '../support/wait.ts';

const D1 = { deviceId: 'd1' };
const M1 = { deviceId: 'd1', moduleId: 'm1' };
const EVENTS = 'devices/d1/messages/events/';
const COMMANDS = 'devices/d1/messages/devicebound/#';

async function connected(options?: Parameters<HubMqttRig['connect']>[1]): Promise<[HubMqttRig, MqttClient]> {
  const rig = await hubMqttRig();
  await rig.create(D1);
  return [rig, await rig.connect(D1, options)];
}

/** What the hub answers on a bare connection, until it closes it or the test has seen enough. */
function answers(socket: TLSSocket): { readonly packets: Packet[]; readonly isClosed: () => boolean } {
  const seen: Packet[] = [];
  const parser = packets.parser();
  parser.on('packet', (packet) => seen.push(packet));
  parser.on('error', () => {});
  socket.on('data', (bytes: Buffer) => parser.parse(bytes));
  let isClosed = false;
  socket.on('close', () => (isClosed = true));
  return { packets: seen, isClosed: () => isClosed };
}

async function connectPacket(rig: HubMqttRig, more: object = {}): Promise<Buffer> {
  const { clientId, username, password, clean } = await rig.optionsOf(D1);
  return packets.generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clientId: clientId ?? '',
    username: username ?? '',
    password: Buffer.from(String(password)),
    clean: clean === true,
    keepalive: 60,
    ...more,
  });
}

/** d1 on a bare connection, with what it is answered. */
async function subscribedToCommands(): Promise<[HubMqttRig, TLSSocket, Packet[]]> {
  const rig = await hubMqttRig();
  await rig.create(D1);
  const socket = await rig.socket();
  const { packets: seen } = answers(socket);
  socket.write(await connectPacket(rig));
  socket.write(packets.generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: COMMANDS, qos: 1 }] }));
  return [rig, socket, seen];
}

function command(body: string, more: object = {}) {
  return { body: Buffer.from(body), properties: {}, ack: 'none' as const, messageId: body, ...more };
}

describe('telemetry over MQTT', () => {
  it('is stored before its PUBACK, with the properties of its topic', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const client = await rig.connect(D1);
    let release: (() => void) | undefined;
    rig.beforeCommit = () => new Promise((resolve) => (release = resolve));
    let isAcknowledged = false;
    const topic = 'devices/d1/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&%24.ce=utf-8&a%20b=c%26d';
    const sent = client.publishAsync(topic, '{"v":1}', { qos: 1, retain: true }).then(() => (isAcknowledged = true));
    const commit = await waitFor(() => release);
    // Whatever is answered later would have passed it.
    await client.subscribeAsync('$iothub/methods/POST/#');
    expect(isAcknowledged).toBe(false);
    commit();
    await sent;
    expect(rig.stored).toMatchObject([
      {
        hubId: HUB,
        deviceId: 'd1',
        properties: { 'a b': 'c&d', 'mqtt-retain': 'true' },
        systemProperties: { messageId: 'm 1', contentType: 'application/json', contentEncoding: 'utf-8' },
        hub: { source: 'Telemetry' },
      },
    ]);
    expect(Buffer.from(rig.stored[0]?.body ?? []).toString()).toBe('{"v":1}');
  });

  it.each([
    ['qos_2', 'devices/d1/messages/events/', 2],
    ['foreign_topic', 'devices/d2/messages/events/', 1],
    ['foreign_topic', 'devices/d1/modules/m1/messages/events/', 1],
    ['bad_topic', 'sensors/d1', 0],
    ['bad_topic', '$iothub/twin/PUT/?$rid=1', 0],
  ] as const)('ends the connection for %s (%s)', async (reason, topic, qos) => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const client = await rig.connect(D1);
    client.publish(topic, 'x', { qos });
    await closed(client);
    expect(rig.refused).toEqual([reason]);
    expect(rig.stored).toEqual([]);
  });

  it('is acknowledged in its order, and what came together is one commit', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const commits: number[] = [];
    const held: (() => void)[] = [];
    rig.beforeCommit = (messages) => {
      commits.push(messages.length);
      return new Promise((resolve) => held.push(resolve));
    };
    const acknowledged: number[] = [];
    const send = (from: number, count: number): void => {
      for (let n = from; n < from + count; n += 1) {
        client.publish(EVENTS, String(n), { qos: 1 }, () => acknowledged.push(n));
      }
    };
    send(0, 50);
    await waitFor(() => commits.reduce((sum, count) => sum + count, 0) === 50);
    expect(commits.length).toBeLessThan(10);
    const first = held.length;
    send(50, 10);
    await waitFor(() => commits.reduce((sum, count) => sum + count, 0) === 60);
    for (const release of held.slice(first)) release();
    await waitFor(() => rig.stored.length === 10);
    expect(acknowledged).toEqual([]);
    for (const release of held.slice(0, first)) release();
    await waitFor(() => acknowledged.length === 60);
    expect(acknowledged).toEqual(Array.from({ length: 60 }, (__, n) => n));
  });

  it('of a module goes with its output, and a topic may end with the bag or with a slash', async () => {
    await using rig = await hubMqttRig();
    await rig.create(M1);
    const client = await rig.connect(M1);
    await client.publishAsync('devices/d1/modules/m1/messages/events/%24.on=out1&k=v/', 'x', { qos: 1 });
    await client.publishAsync('devices/d1/modules/m1/messages/events', 'y', { qos: 0 });
    await waitFor(() => rig.stored.length === 2);
    expect(rig.stored).toMatchObject([
      { deviceId: 'd1', moduleId: 'm1', hub: { outputName: 'out1' }, properties: { k: 'v' } },
      { deviceId: 'd1', moduleId: 'm1', properties: {} },
    ]);
  });

  it('with the model that the client named carries it', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const username = `${HOST}/d1/?api-version=2021-04-12&model-id=dtmi:com:ex:T;1&DeviceClientType=x`;
    const client = await rig.connect(D1, { username });
    await client.publishAsync(EVENTS, 'x', { qos: 1 });
    expect(rig.stored[0]?.hub).toMatchObject({ dataSchema: 'dtmi:com:ex:T;1' });
  });

  it('that is too large ends the connection, and those before it are stored and acknowledged', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const acknowledged: string[] = [];
    const send = (name: string, bytes: number): void => {
      client.publish(EVENTS, Buffer.alloc(bytes), { qos: 1 }, (error) => error ?? acknowledged.push(name));
    };
    client.stream.cork();
    for (const [name, bytes] of [['a', 5], ['b', 262_145], ['c', 5]] as const) send(name, bytes); // prettier-ignore
    client.stream.uncork();
    await closed(client);
    expect(acknowledged).toEqual(['a']);
    expect(rig.refused).toEqual(['MessageTooLarge']);
  });

  it('of the largest size is taken', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    await client.publishAsync(EVENTS, Buffer.alloc(262_144), { qos: 1 });
    expect(rig.stored[0]?.body.byteLength).toBe(262_144);
  });

  it('that cannot be stored now is not acknowledged, and the client is sent away a second later', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    rig.beforeCommit = () => Promise.reject(new GatewayError('GW_STORE_WRITE', 'The disk is full.'));
    let isAcknowledged = false;
    client.publish(EVENTS, 'x', { qos: 1 }, (error) => (isAcknowledged = error === null || error === undefined));
    await waitFor(() => rig.refused.length > 0);
    expect(client.connected).toBe(true);
    rig.clock.advance(1100);
    await closed(client);
    expect(isAcknowledged).toBe(false);
    expect(rig.refused).toEqual(['ServiceUnavailable']);
  });

  it('with QoS 0 that cannot be stored is counted, and the client stays', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    rig.beforeCommit = () => Promise.reject(iotHubError('ThrottlingException', 'Full.'));
    await client.publishAsync(EVENTS, 'x', { qos: 0 });
    await waitFor(() => rig.refused.length > 0);
    rig.beforeCommit = () => Promise.resolve();
    rig.clock.advance(5000);
    await client.publishAsync(EVENTS, 'y', { qos: 1 });
    expect(rig.refused).toEqual(['ThrottlingException']);
    expect(rig.stored).toHaveLength(1);
  });

  it('is read no faster than it is stored', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    let waiting = 0;
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    rig.beforeCommit = (messages) => {
      waiting += messages.reduce((sum, { body }) => sum + body.byteLength, 0);
      return gate;
    };
    let acknowledged = 0;
    for (let n = 0; n < 200; n += 1)
      client.publish(EVENTS, Buffer.alloc(50_000), { qos: 1 }, () => (acknowledged += 1));
    await waitFor(() => waiting > 250_000);
    // Far more than that was sent, and stays with the client and the sockets.
    await rig.connect({ deviceId: 'd1' }, { clientId: 'other' }).catch(() => {});
    expect(waiting).toBeLessThan(700_000);
    release();
    await waitFor(() => acknowledged === 200);
  });
});

describe('CONNECT', () => {
  const code = async (rig: HubMqttRig, options: Parameters<HubMqttRig['connect']>[1]): Promise<unknown> =>
    rig.connect(D1, options).then(
      () => 0,
      (error: { code?: unknown }) => error.code,
    );

  it('is refused with the codes of the service', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    await rig.create({ deviceId: 'd2' });
    const foreign = await rig.hub.token({ deviceId: 'd2' });
    const expired = await rig.hub.token(D1, { lifeMs: -3_600_000 });
    expect(await code(rig, { password: foreign })).toBe(5);
    expect(await code(rig, { password: expired })).toBe(5);
    expect(await code(rig, { password: 'SharedAccessSignature sr=x' })).toBe(5);
    expect(await code(rig, { password: '' })).toBe(5);
    expect(await code(rig, { username: 'nobody' })).toBe(5);
    expect(await code(rig, { clientId: 'd2' })).toBe(5);
    expect(await code(rig, { clientId: 'D1' })).toBe(5);
    expect(await code(rig, { clientId: 'nobody', username: `${HOST}/nobody/?api-version=1` })).toBe(5);
    await rig.hub.hub.identities.putDevice(HUB, { deviceId: 'd1', status: 'disabled' }, '*');
    expect(await code(rig, {})).toBe(3);
    await rig.hub.hub.identities.putDevice(HUB, { deviceId: 'd1', status: 'enabled' }, '*');
    expect(await code(rig, {})).toBe(0);
    expect(rig.hub.hub.stats().sessions).toBe(1);
  });

  it.each([
    `${HOST}/d1/?api-version=2021-04-12`,
    `${HOST}/d1?api-version=2021-04-12`,
    `${HOST}/d1/api-version=2021-04-12&DeviceClientType=old`,
    `${HOST}:8883/d1/?api-version=2021-04-12`,
    `${HOST}/d1`,
  ])('is taken with the user name %s', async (username) => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    expect(await code(rig, { username })).toBe(0);
  });

  it('proves a device by its certificate', async () => {
    await using rig = await hubMqttRig();
    const pair = await rig.authority.issue({ name: 'd1' });
    const other = await rig.authority.issue({ name: 'other' });
    const { X509Certificate } = await import('node:crypto');
    const thumbprint = new X509Certificate(pair.certificate).fingerprint256.replaceAll(':', '');
    const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: thumbprint } } as const;
    await rig.hub.hub.identities.putDevice(HUB, { deviceId: 'd1', authentication }, undefined);
    const bare = { password: '' };
    expect(await code(rig, { ...bare, cert: other.certificate, key: other.key })).toBe(5);
    expect(await code(rig, bare)).toBe(5);
    expect(await code(rig, { ...bare, cert: pair.certificate, key: pair.key })).toBe(0);
  });

  it('of MQTT 3.1, 5 and levels that nobody knows is answered as each one reads it', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    for (const [packet, answer] of [
      [await connectPacket(rig, { protocolId: 'MQIsdp', protocolVersion: 3 }), '20020001'],
      [await connectPacket(rig, { protocolVersion: 5 }), '2003008400'],
      [Buffer.from('100c00044d515454090200000000', 'hex'), '20020001'],
    ] as const) {
      const socket = await rig.socket();
      let bytes = '';
      socket.on('data', (data: Buffer) => (bytes += data.toString('hex')));
      let isClosed = false;
      socket.on('close', () => (isClosed = true));
      socket.write(packet);
      await waitFor(() => isClosed);
      expect(bytes).toBe(answer);
    }
  });

  it('may be followed by packets before its answer', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const socket = await rig.socket();
    const { packets: seen } = answers(socket);
    const publish = packets.generate({
      cmd: 'publish', topic: EVENTS, payload: 'early', qos: 1, messageId: 7, dup: false, retain: false,
    }); // prettier-ignore
    socket.write(Buffer.concat([await connectPacket(rig), publish]));
    await waitFor(() => seen.length === 2);
    expect(seen).toMatchObject([
      { cmd: 'connack', returnCode: 0, sessionPresent: false },
      { cmd: 'puback', messageId: 7 },
    ]);
  });

  it('must come first, once, whole and within a minute', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const ends = async (...bytes: Buffer[]): Promise<void> => {
      const socket = await rig.socket();
      const { isClosed } = answers(socket);
      for (const part of bytes) socket.write(part);
      await waitFor(isClosed);
    };
    await ends(Buffer.from('c000', 'hex'));
    await ends(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await ends(Buffer.from('10ffffffff7f', 'hex'));
    await ends(Buffer.from('10ffff7f', 'hex'));
    await ends(Buffer.from('1003000561', 'hex'));
    await ends(await connectPacket(rig), await connectPacket(rig));
    expect(rig.refused).toEqual([
      'no_connect', 'no_connect', 'malformed_packet', 'packet_too_large', 'malformed_packet', 'second_connect',
    ]); // prettier-ignore
    const idle = await rig.socket();
    const { isClosed } = answers(idle);
    await waitFor(() => {
      rig.clock.advance(1000);
      // Half of a CONNECT is none.
      if (!idle.destroyed) idle.write(Buffer.from('10', 'hex'));
      return isClosed();
    });
    expect(rig.refused.at(-1)).toMatch(/no_connect|malformed_packet/);
  });
});

describe('a session over MQTT', () => {
  it('is kept for CleanSession 0, with its subscriptions, and forgotten for 1', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const isPresent = async (clean: boolean): Promise<boolean> => {
      const socket = await rig.socket();
      const { packets: seen } = answers(socket);
      socket.write(await connectPacket(rig, { clean }));
      await waitFor(() => seen.length > 0);
      const [connack] = seen;
      if (connack?.cmd !== 'connack') throw new Error('no CONNACK');
      socket.destroy();
      await waitFor(() => rig.hub.hub.stats().sessions === 0);
      return connack.sessionPresent;
    };
    expect(await isPresent(false)).toBe(false);
    const client = await rig.connect(D1);
    await client.subscribeAsync(COMMANDS, { qos: 1 });
    await client.endAsync();
    await rig.hub.hub.commands.send(HUB, D1, command('while away'));
    expect(await isPresent(false)).toBe(true);
    const socket = await rig.socket();
    const { packets: seen } = answers(socket);
    socket.write(await connectPacket(rig));
    await waitFor(() => seen.length === 2);
    expect(seen).toMatchObject([
      { cmd: 'connack', sessionPresent: true },
      // Sent to the earlier connection too, which did not acknowledge it.
      { cmd: 'publish', payload: Buffer.from('while away'), qos: 1, dup: true, messageId: 1 },
    ]);
    socket.destroy();
    expect(await isPresent(true)).toBe(false);
    expect(await isPresent(false)).toBe(false);
  });

  it('gives way to a new one of the same client', async () => {
    const [rig, first] = await connected();
    await using _ = rig;
    const second = await rig.connect(D1);
    await closed(first);
    await second.publishAsync(EVENTS, 'x', { qos: 1 });
    expect(rig.stored).toHaveLength(1);
    expect(rig.hub.hub.stats().sessions).toBe(1);
  });

  it('ends with its token, its key and its device', async () => {
    await using rig = await hubMqttRig();
    for (const [name, end] of [
      ['d1', () => rig.clock.advance(301_000)],
      ['d2', () => rig.hub.hub.identities.regenerateKeys(HUB, { deviceId: 'd2' }, 'both')],
      ['d3', () => rig.hub.hub.identities.putDevice(HUB, { deviceId: 'd3', status: 'disabled' }, '*')],
      ['d4', () => rig.hub.hub.identities.deleteDevice(HUB, 'd4', '*')],
    ] as const) {
      const ref = { deviceId: name };
      await rig.create(ref);
      const client = await rig.connect(ref, {
        password: await rig.hub.token(ref, { lifeMs: 300_000 }),
        will: { topic: `devices/${name}/messages/events/`, payload: Buffer.from(name), qos: 1 },
      });
      await end();
      await closed(client);
    }
    // Nobody speaks any more for a device that may not.
    await waitFor(() => rig.stored.length > 0);
    expect(rig.stored.map(({ deviceId }) => deviceId)).toEqual(['d1']);
  });

  it('ends one and a half times its keep-alive after its last packet', async () => {
    const [rig, client] = await connected({ keepalive: 20, reschedulePings: false });
    await using _ = rig;
    rig.clock.advance(29_000);
    await client.publishAsync(EVENTS, 'x', { qos: 1 });
    rig.clock.advance(29_500);
    await client.publishAsync(EVENTS, 'x', { qos: 1 });
    rig.clock.advance(32_000);
    await closed(client);
    expect(rig.refused).toEqual(['keepalive_timeout']);
  });

  it('without a keep-alive is bounded as well', async () => {
    const [rig, client] = await connected({ keepalive: 0 });
    await using _ = rig;
    rig.clock.advance(1_766_000);
    await client.publishAsync(EVENTS, 'x', { qos: 1 });
    rig.clock.advance(1_769_000);
    await closed(client);
  });

  it('sends its will when it is lost, and not when it says goodbye', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const will = { topic: `${EVENTS}k=v`, payload: Buffer.from('gone'), qos: 1 as const, retain: true };
    const polite = await rig.connect(D1, { will });
    await polite.endAsync();
    await waitFor(() => rig.hub.hub.stats().sessions === 0);
    const lost = await rig.connect(D1, { will });
    lost.stream.destroy();
    await waitFor(() => rig.stored.length > 0);
    expect(rig.stored).toMatchObject([
      { deviceId: 'd1', properties: { k: 'v', 'iothub-MessageType': 'Will', 'mqtt-retain': 'true' } },
    ]);
    const socket = await rig.socket();
    const { isClosed } = answers(socket);
    socket.write(await connectPacket(rig, { will: { ...will, topic: 'devices/d2/messages/events/' } }));
    await waitFor(isClosed);
    expect(rig.refused).toEqual(['foreign_topic']);
    await waitFor(() => rig.hub.hub.stats().sessions === 0);
  });

  it('is told nothing by a hub that stops until what it sent is acknowledged', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    let release: (() => void) | undefined;
    rig.beforeCommit = () => new Promise((resolve) => (release = resolve));
    const sent = client.publishAsync(EVENTS, 'x', { qos: 1 });
    const commit = await waitFor(() => release);
    const stopped = rig.stop(new AbortController().signal);
    commit();
    await sent;
    await stopped;
    await closed(client);
  });
});

describe('subscriptions over MQTT', () => {
  it('are granted in their order, QoS 2 as 1', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const granted = await client.subscribeAsync({
      [COMMANDS]: { qos: 2 },
      '$iothub/twin/res/#': { qos: 0 },
      '$iothub/methods/POST/#': { qos: 1 },
    });
    expect(granted.map(({ qos }) => qos)).toEqual([1, 0, 1]);
    expect(rig.hub.hub.sessionsOf(HUB)[0]?.interests).toEqual(new Set(['commands', 'methods']));
    await client.unsubscribeAsync(COMMANDS);
    expect(rig.hub.hub.sessionsOf(HUB)[0]?.interests).toEqual(new Set(['methods']));
  });

  it.each(['#', 'devices/d2/messages/devicebound/#', 'devices/d1/messages/events/#', '$iothub/TWIN/res/#'])(
    'of %s end the connection',
    async (filter) => {
      const [rig, client] = await connected();
      await using _ = rig;
      client.subscribe(filter);
      await closed(client);
      expect(rig.refused).toEqual(['bad_filter']);
    },
  );

  it('are five at most', async () => {
    await using rig = await hubMqttRig();
    await rig.create(M1);
    const client = await rig.connect(M1);
    const of = 'devices/d1/modules/m1';
    await client.subscribeAsync([`${of}/#`, `${of}/inputs/#`, '$iothub/twin/res/#', '$iothub/methods/POST/#']);
    await client.subscribeAsync('$iothub/twin/PATCH/properties/desired/#');
    await client.subscribeAsync('$iothub/twin/res/#');
    client.subscribe(`${of}/messages/devicebound/#`);
    await closed(client);
    expect(rig.refused).toEqual(['too_many_filters']);
  });
});

describe('cloud-to-device messages over MQTT', () => {
  it('reach the device with their properties, and complete at its PUBACK', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const messages = received(client);
    await client.subscribeAsync(COMMANDS, { qos: 1 });
    await rig.hub.hub.commands.send(HUB, D1, command('c1', { properties: { k: 'v w' }, ack: 'full' }));
    await waitFor(() => messages.length === 1);
    expect(messages[0]?.topic).toMatch(
      /^devices\/d1\/messages\/devicebound\/%24\.mid=c1&%24\.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24\.exp=[^&]+&iothub-ack=full&k=v%20w$/,
    );
    expect(messages[0]).toMatchObject({ body: 'c1', qos: 1, dup: false });
    await waitFor(async () => (await rig.hub.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount === 0);
  });

  it('come with QoS 0 to who asked for that, and are complete then', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const messages = received(client);
    await client.subscribeAsync(COMMANDS, { qos: 0 });
    for (let n = 0; n < 20; n += 1) await rig.hub.hub.commands.send(HUB, D1, command(`c${n}`));
    await waitFor(() => messages.length === 20);
    expect(messages.map(({ qos }) => qos)).toEqual(messages.map(() => 0));
    await waitFor(async () => (await rig.hub.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount === 0);
  });

  it('wait beyond sixteen that are not acknowledged', async () => {
    const [rig, socket, seen] = await subscribedToCommands();
    await using _ = rig;
    for (let n = 1; n <= 20; n += 1) await rig.hub.hub.commands.send(HUB, D1, command(`c${n}`));
    await waitFor(() => seen.length === 18);
    const ids = (): unknown[] => seen.flatMap((packet) => (packet.cmd === 'publish' ? [packet.messageId] : []));
    expect(ids()).toEqual(Array.from({ length: 16 }, (__, n) => n + 1));
    socket.write(packets.generate({ cmd: 'puback', messageId: 2 }));
    await waitFor(() => seen.length === 19);
    expect(ids().at(-1)).toBe(17);
  });

  it('come again with the same identifier once their lock is over', async () => {
    const [rig, socket, seen] = await subscribedToCommands();
    await using _ = rig;
    for (let n = 1; n <= 12; n += 1) await rig.hub.hub.commands.send(HUB, D1, command(`c${n}`));
    await waitFor(() => seen.length === 14);
    rig.clock.advance(61_000);
    await waitFor(() => seen.length === 26);
    const sent = seen.flatMap((packet) => (packet.cmd === 'publish' ? [[packet.messageId, packet.dup]] : []));
    const ids = Array.from({ length: 12 }, (_, n) => n + 1);
    expect(sent).toEqual([...ids.map((id) => [id, false]), ...ids.map((id) => [id, true])]);
    for (const messageId of ids) socket.write(packets.generate({ cmd: 'puback', messageId }));
    await waitFor(async () => (await rig.hub.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount === 0);
  });

  it('with more properties than a topic holds are refused for the device', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const messages = received(client);
    await client.subscribeAsync(COMMANDS, { qos: 1 });
    await rig.hub.hub.commands.send(HUB, D1, command('long', { properties: { k: '"'.repeat(30_000) } }));
    await rig.hub.hub.commands.send(HUB, D1, command('next'));
    await waitFor(() => messages.length === 1);
    expect(messages[0]?.body).toBe('next');
    expect(rig.refused).toEqual(['command_properties_too_long']);
  });
});

describe('twins and methods over MQTT', () => {
  it('are read and reported, with versions and errors as the SDKs read them', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const messages = received(client);
    const ask = async (topic: string, payload: string): Promise<{ topic: string; body: string }> => {
      const before = messages.length;
      await client.publishAsync(topic, payload, { qos: 1 });
      await waitFor(() => messages.length > before);
      return messages[before] ?? { topic: '', body: '' };
    };
    await client.subscribeAsync('$iothub/twin/res/#');
    const report = '$iothub/twin/PATCH/properties/reported/?$rid=';
    expect(await ask(`${report}1`, '{"fw":"1","gone":null}')).toMatchObject({
      topic: '$iothub/twin/res/204/?$rid=1&$version=2',
      body: '',
    });
    expect(await ask('$iothub/twin/GET/?$rid=ab-c', ' ')).toMatchObject({
      topic: '$iothub/twin/res/200/?$rid=ab-c',
      body: '{"desired":{"$version":1},"reported":{"fw":"1","$version":2}}',
    });
    const stale = await ask(`${report}2&$version=1`, '{"fw":"2"}');
    expect(stale.topic).toBe('$iothub/twin/res/412/?$rid=2');
    expect(JSON.parse(stale.body)).toMatchObject({ errorCode: 412_001, message: expect.any(String) as unknown });
    const malformed = await ask(`${report}3`, '{"fw":');
    expect(malformed.topic).toBe('$iothub/twin/res/400/?$rid=3');
    expect(JSON.parse(malformed.body)).toMatchObject({ errorCode: expect.any(Number) as unknown });
  });

  it('tell changes of desired properties to who subscribed them', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    const messages = received(client);
    await client.subscribeAsync('$iothub/twin/PATCH/properties/desired/#');
    await rig.hub.hub.twins.patch(HUB, D1, { desired: { on: true } }, '*');
    await waitFor(() => messages.length === 1);
    expect(messages[0]).toMatchObject({
      topic: '$iothub/twin/PATCH/properties/desired/?$version=2',
      body: '{"on":true,"$version":2}',
      qos: 0,
    });
  });

  it('carry a method and its answer', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    await client.subscribeAsync('$iothub/methods/POST/#');
    client.on('message', (topic, payload) => {
      const [, name, rid] = /^\$iothub\/methods\/POST\/(.+)\/\?\$rid=(.+)$/.exec(topic) ?? [];
      client.publish(`$iothub/methods/res/207/?$rid=${rid}`, JSON.stringify({ name, got: payload.toString() }));
    });
    const call = { name: 'reboot', payload: Buffer.from('{"in":5}'), responseTimeoutMs: 5000, connectTimeoutMs: 0 };
    const answer = await rig.hub.hub.methods.invoke(HUB, D1, call);
    expect(answer.status).toBe(207);
    expect(Buffer.from(answer.payload).toString()).toBe('{"name":"reboot","got":"{\\"in\\":5}"}');
  });
});

describe('a client over MQTT that harms', () => {
  it('by taking nothing is dropped', async () => {
    const [rig, client] = await connected();
    await using _ = rig;
    await client.subscribeAsync('$iothub/twin/res/#');
    await rig.hub.hub.twins.patch(HUB, D1, { desired: { big: 'x'.repeat(4000), more: 'y'.repeat(4000) } }, '*');
    client.stream.pause();
    let answered = 0;
    const ask = (): void => {
      if (client.connected && rig.refused.length === 0) {
        client.stream.write(
          packets.generate({ cmd: 'publish', topic: `$iothub/twin/GET/?$rid=${answered}`, payload: ' ', qos: 0, dup: false, retain: false }),
        ); // prettier-ignore
        answered += 1;
        setImmediate(ask);
      }
    };
    ask();
    await waitFor(() => rig.refused.length > 0);
    expect(rig.refused).toEqual(['slow_subscriber']);
  });
});

describe('faults on request', () => {
  it('end the connection when the hub allows it, and are telemetry when not', async () => {
    const properties = 'AzIoTHub_FaultOperationType=KillTcp&AzIoTHub_FaultOperationDelayInSecs=2';
    await using strict = await hubMqttRig();
    await strict.create(D1);
    const calm = await strict.connect(D1);
    await calm.publishAsync(`${EVENTS}${properties}`, 'x', { qos: 1 });
    expect(strict.stored).toHaveLength(1);
    for (const kind of ['KillTcp', 'ShutDownMqtt']) {
      await using rig = await hubMqttRig({ faultInjection: true });
      await rig.create(D1);
      const client = await rig.connect(D1);
      await client.publishAsync(`${EVENTS}${properties.replace('KillTcp', kind)}`, 'x', { qos: 1 });
      rig.clock.advance(1900);
      await client.publishAsync(EVENTS, 'y', { qos: 1 });
      rig.clock.advance(200);
      await closed(client);
      expect(rig.stored).toHaveLength(1);
    }
  });
});
