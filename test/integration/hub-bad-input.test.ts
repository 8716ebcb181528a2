// What clients do wrong, line by line, on the protocols that the daemon speaks, with bare clients: each gets the service's own error on
// that protocol, is counted, and nobody else notices. What only one protocol has stands in the tests of its head.

import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import rhea, { type Message } from 'rhea';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectAmqp, sasToken, type TestConnection, type TestSender } from '../support/amqp-client.ts';
import { curl, type CurlAnswer } from '../support/curl.ts';
import { freePort } from '../support/free-port.ts';
import { HUB_HOST_NAME, MQTTS_PORT, AMQPS_PORT, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { parsePrometheus } from '../support/prometheus.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.9';
const PORT = 5672;
const KEY = Buffer.alloc(32, 9).toString('base64');
const WRONG = Buffer.alloc(32, 7).toString('base64');
const VERSION = 'api-version=2021-04-12';
/** OPEN of a container `t1`. */
const OPEN_FRAME = Buffer.from('00000012020000000053 10c0 05 01 a1 02 7431'.replaceAll(' ', ''), 'hex');
const YEAR_9999_SECS = 253_402_300_799;
/** How long an established client may wait for its answer while others misbehave, on a busy machine. */
const ANSWER_MS = 5000;

const { message: codec } = rhea as unknown as {
  message: { data_section(bytes: Buffer): unknown; encode(message: object): Buffer };
};
const telemetry = (text: string, more: object = {}): Message => ({
  body: codec.data_section(Buffer.from(text)),
  ...more,
});
const audience = (deviceId: string): string => `${HUB_HOST_NAME}/devices/${deviceId}`;
const lifeUntil = (atSecs: number): number => atSecs - Math.floor(Date.now() / 1000);

/** What may be wrong with a token of a device. */
const BAD_TOKENS: readonly (readonly [what: string, token: (deviceId: string) => string])[] = [
  ['a wrong key', (id) => sasToken(audience(id), WRONG, 600)],
  ['a token that has expired', (id) => sasToken(audience(id), KEY, -600)],
  ['a token of another hub', (id) => sasToken(`other.example/devices/${id}`, KEY, 600)],
  ['a token without an end', (id) => sasToken(audience(id), KEY, 600).replace(/&se=\d+/, '')],
  ['a token that ends at no time', (id) => sasToken(audience(id), KEY, 600).replace(/&se=\d+/, '&se=soon')],
  [
    'a token that ends beyond all time',
    (id) => sasToken(audience(id), KEY, 600).replace(/&se=\d+/, `&se=${'9'.repeat(400)}`),
  ],
  ['a policy that there is not', (id) => `${sasToken(audience(id), WRONG, 600)}&skn=nobody`],
  ['no token', () => 'let me in'],
];

let directory: TempDir;
let hub: HubDaemon;
let backEnd: SdkChild;
let metrics: string;
/** Those who must notice nothing. */
let neighbour: { readonly mqtt: MqttClient; readonly amqp: TestConnection; readonly link: TestSender };
const clients: MqttClient[] = [];

async function connectMqtt(deviceId: string, password: string, localAddress?: string): Promise<MqttClient> {
  const options: IClientOptions & { readonly localAddress: string | undefined } = {
    localAddress,
    host: ADDRESS,
    port: MQTTS_PORT,
    protocol: 'mqtts',
    ca: hub.authority,
    servername: HUB_HOST_NAME,
    clientId: deviceId,
    username: `${HUB_HOST_NAME}/${deviceId}/?${VERSION}`,
    password,
    clean: true,
    reconnectPeriod: 0,
  };
  const client = await connectAsync(options);
  client.on('error', () => {});
  clients.push(client);
  return client;
}

function openAmqp(localAddress?: string): Promise<TestConnection> {
  const connect = (port: number, host: string, _options: object, done: () => void): Socket =>
    connectTcp({ port, host, ...(localAddress !== undefined && { localAddress }) }, done);
  return connectAmqp({ host: ADDRESS, port: PORT, hostName: HUB_HOST_NAME, options: { connect } });
}
const owner = (): string => `Authorization: ${sasToken(HUB_HOST_NAME, hub.ownerKey, 600, 'iothubowner')}`;

function request(method: string, path: string, headers: readonly string[] = [], body?: string): Promise<CurlAnswer> {
  const args = ['--request', method, ...headers.flatMap((header) => ['--header', header])];
  return curl(hub, path, body === undefined ? args : [...args, '--data-binary', '@-'], body);
}

/** Counters of the hub by name and reason. */
async function counted(
  name: 'iothub_logins_refused_total' | 'iothub_refusals_total',
  reason?: string,
): Promise<number> {
  const text = await (await fetch(metrics)).text();
  return parsePrometheus(text)
    .samples.filter((sample) => sample.name === name && (reason === undefined || sample.labels['reason'] === reason))
    .reduce((sum, { value }) => sum + value, 0);
}

async function tlsSocket(port: number): Promise<TLSSocket> {
  const socket = connectTls({ host: ADDRESS, port, ca: hub.authority, servername: HUB_HOST_NAME });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}

beforeAll(async () => {
  directory = createTempDir('hub-bad-input');
  const webPort = await freePort(ADDRESS);
  hub = await startHubDaemon({
    address: ADDRESS,
    directory,
    hub: { amqp_port: PORT },
    config: { web: { address: ADDRESS, port: webPort } },
  });
  metrics = `http://${ADDRESS}:${webPort}/metrics`;
  backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', hub.owner);
  const authentication = { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  const ids = ['d1', 'd2', 'n1', 'n2', ...BAD_TOKENS.map((_, n) => `b${n}`)];
  await backEnd.call(
    'registry',
    'addDevices',
    ids.map((deviceId) => ({ deviceId, authentication })),
  );
  const mqtt = await connectMqtt('n1', sasToken(audience('n1'), KEY, 3600));
  const amqp = await openAmqp();
  expect(await amqp.putToken(audience('n2'), sasToken(audience('n2'), KEY, 3600))).toBe(200);
  neighbour = { mqtt, amqp, link: await amqp.sender('/devices/n2/messages/events') };
});

afterAll(async () => {
  for (const client of clients) client.end(true);
  neighbour?.amqp[Symbol.dispose]();
  await backEnd?.kill();
  await hub?.kill('SIGKILL');
  directory.remove();
});

let refusedBefore: number;
beforeEach(async () => {
  refusedBefore = await counted('iothub_logins_refused_total');
});

// Nobody else is disturbed, whatever a test did.
afterEach(async () => {
  const startMs = performance.now();
  await neighbour.mqtt.publishAsync('devices/n1/messages/events/', 'still there', { qos: 1 });
  expect(await neighbour.link.send(telemetry('still there'))).toMatchObject({ outcome: 'accepted' });
  expect(performance.now() - startMs).toBeLessThan(ANSWER_MS);
});

// Each from an address and with a device of its own: guessing is slowed down by both.
describe.each(BAD_TOKENS.map(([what, token], n) => [what, token, n] as const))('%s', (_what, token, n) => {
  const deviceId = `b${n}`;
  const localAddress = `127.0.108.${20 + n}`;

  it('is refused over MQTT with CONNACK 5', async () => {
    await expect(connectMqtt(deviceId, token(deviceId), localAddress)).rejects.toMatchObject({ code: 5 });
    expect(await counted('iothub_logins_refused_total')).toBe(refusedBefore + 1);
  });

  it('is answered over AMQP with 401, and its links are refused', async () => {
    using client = await openAmqp(localAddress);
    expect(await client.putToken(audience(deviceId), token(deviceId))).toBe(401);
    expect(await counted('iothub_logins_refused_total')).toBe(refusedBefore + 1);
    const link = await client.sender(`/devices/${deviceId}/messages/events`);
    expect(await link.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
  });

  it('is answered over HTTPS with 401', async () => {
    const path = `/devices/${deviceId}/messages/events?${VERSION}`;
    const before = await counted('iothub_refusals_total');
    const args = ['--interface', localAddress, '--header', `Authorization: ${token(deviceId)}`, '--data', 'x'];
    const answer = await curl(hub, path, args);
    expect(answer.status).toBe(401);
    expect(answer.header('iothub-errorcode')).toMatch(/^IotHubUnauthorized/);
    expect(await counted('iothub_refusals_total')).toBe(before + 1);
  });
});

describe('a token', () => {
  it('that ends in the year 9999 lets in, and nobody is cut off for it', async () => {
    const token = sasToken(audience('d1'), KEY, lifeUntil(YEAR_9999_SECS));
    const client = await connectMqtt('d1', token);
    using amqp = await openAmqp();
    await amqp.putToken(audience('d2'), sasToken(audience('d2'), KEY, lifeUntil(YEAR_9999_SECS)));
    const link = await amqp.sender('/devices/d2/messages/events');
    // Longer than the hub looks for tokens that have ended.
    for (let n = 0; n < 15; n += 1) {
      await client.publishAsync('devices/d1/messages/events/', 'x', { qos: 1 });
      expect(await link.send(telemetry('x'))).toMatchObject({ outcome: 'accepted' });
      await waitFor(() => true, { everyMs: 100 });
    }
    expect(client.connected).toBe(true);
    await client.endAsync();
  });

  it('for one device does nothing for another', async () => {
    const token = sasToken(audience('d1'), KEY, 600);
    await expect(connectMqtt('d2', token)).rejects.toMatchObject({ code: 5 });
    using client = await openAmqp();
    expect(await client.putToken(audience('d2'), token)).toBe(200);
    const link = await client.sender('/devices/d2/messages/events');
    expect(await link.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
    const answer = await request('POST', `/devices/d2/messages/events?${VERSION}`, [`Authorization: ${token}`], 'x');
    expect([answer.status, answer.header('iothub-errorcode')]).toEqual([401, 'IotHubUnauthorizedAccess']);
  });
});

describe('$cbs', () => {
  const good = (): string => sasToken(audience('d1'), KEY, 600);

  it.each([
    ['another operation', { application_properties: { operation: 'delete-token' } }, 400],
    ['no operation', { application_properties: {} }, 400],
    ['a token of another kind', { application_properties: { operation: 'put-token', type: 'jwt' } }, 401],
    ['an empty body', { body: '' }, 401],
    ['a body that is a number', { body: 42 }, 400],
    ['bytes that are no text', { body: codec.data_section(Buffer.from([0xff, 0xfe, 0x00])) }, 401],
    ['a mebibyte of token', { body: `SharedAccessSignature sr=${'x'.repeat(900_000)}` }, 401],
  ])('answers %s', async (_what, more, status) => {
    using client = await openAmqp();
    const requests = await client.sender('$cbs');
    const answers = await client.receiver('$cbs');
    const application_properties = { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: 'x' };
    const sent = { message_id: 'm', reply_to: 'cbs', application_properties, body: good(), ...more };
    expect(await requests.send(sent as Message)).toMatchObject({ outcome: 'accepted' });
    const { message } = await answers.at(0);
    expect(message).toMatchObject({ correlation_id: 'm', application_properties: { 'status-code': status } });
    // The next one is none the worse for it.
    await requests.send({ message_id: 'n', application_properties, body: good() });
    expect((await answers.at(1)).message).toMatchObject({
      correlation_id: 'n',
      application_properties: { 'status-code': 200 },
    });
  });

  it('without a link for answers is settled, and lets in', async () => {
    using client = await openAmqp();
    const requests = await client.sender('$cbs');
    const application_properties = { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: 'x' };
    expect(await requests.send({ application_properties, body: good() })).toMatchObject({ outcome: 'accepted' });
    const link = await client.sender('/devices/d1/messages/events');
    expect(await link.send(telemetry('x'))).toMatchObject({ outcome: 'accepted' });
  });
});

describe('unknown places', () => {
  it.each([['unknown/topic'], ['$iothub/nothing/?$rid=1'], ['devices/d2/messages/events/'], ['$SYS/broker']])(
    'end a connection of MQTT that publishes to %s',
    async (topic) => {
      const before = await counted('iothub_refusals_total');
      const client = await connectMqtt('d1', sasToken(audience('d1'), KEY, 600));
      client.publish(topic, 'x', { qos: 0 });
      await waitFor(() => !client.connected);
      expect(await counted('iothub_refusals_total')).toBeGreaterThan(before);
    },
  );

  it.each([
    ['/devices/d1/nothing', 'amqp:not-found'],
    ['/devices/d1/modules/m/messages/events', 'amqp:unauthorized-access'],
    ['/devices/a%2Fb/messages/events', 'amqp:unauthorized-access'],
    [`/devices/${'x'.repeat(200)}/messages/events`, 'amqp:unauthorized-access'],
    ['', 'amqp:not-found'],
  ])('are links that are refused: %j', async (address, condition) => {
    using client = await openAmqp();
    await client.putToken(audience('d1'), sasToken(audience('d1'), KEY, 600));
    const link = await client.sender(address);
    expect(await link.closed).toMatchObject({ condition });
    const own = await client.sender('/devices/d1/messages/events');
    expect(await own.send(telemetry('x'))).toMatchObject({ outcome: 'accepted' });
  });

  it.each([
    ['GET', '/nothing', 404, 'GenericNotFound'],
    ['PATCH', '/devices/d1', 404, 'GenericNotFound'],
    ['GET', '/devices/..%2f..%2fetc%2fpasswd', 400, 'ArgumentInvalid'],
  ])('are answered: %s %s', async (method, path, status, code) => {
    const answer = await request(method, `${path}?${VERSION}`, [owner()]);
    expect([answer.status, answer.header('iothub-errorcode')]).toEqual([status, code]);
  });
});

describe('the registry', () => {
  it.each([
    ['PUT', '/devices/d1', '{"deviceId":"d1"}'],
    ['DELETE', '/devices/d1', undefined],
    ['PATCH', '/twins/d1', '{"tags":{"a":1}}'],
    ['PUT', '/twins/d1', '{"tags":{"a":1}}'],
  ])('refuses %s %s whose If-Match is not the ETag', async (method, path, body) => {
    for (const etag of ['"AAAA"', 'AAAA', 'W/"AAAA"']) {
      const headers = [owner(), `If-Match: ${etag}`];
      const answer = await request(method, `${path}?${VERSION}`, headers, body);
      expect([answer.status, answer.header('iothub-errorcode')]).toEqual([412, 'PreconditionFailed']);
    }
  });

  it('creates nothing anew without If-Match, and updates nothing that is not there', async () => {
    const again = await request('PUT', `/devices/d1?${VERSION}`, [owner()], '{"deviceId":"d1"}');
    expect([again.status, again.header('iothub-errorcode')]).toEqual([409, 'DeviceAlreadyExists']);
    const absent = await request(
      'PUT',
      `/devices/absent?${VERSION}`,
      [owner(), 'If-Match: *'],
      '{"deviceId":"absent"}',
    );
    expect(absent.status).toBe(404);
  });

  it.each([
    ['too long', 'x'.repeat(129)],
    ['a blank', 'a%20b'],
    ['a slash', 'a%2Fb'],
    ['a bracket', 'a%5Bb'],
    ['no ASCII', 'ger%C3%A4t'],
    ['a control character', 'a%00b'],
  ])('refuses an id with %s', async (_what, id) => {
    const answer = await request('PUT', `/devices/${id}?${VERSION}`, [owner()], '{}');
    expect([answer.status, answer.header('iothub-errorcode')]).toEqual([400, 'ArgumentInvalid']);
    const module = await request('PUT', `/devices/d1/modules/${id}?${VERSION}`, [owner()], '{}');
    expect(module.status).toBe(400);
  });
});

describe('too much', () => {
  const nested = (depth: number): object => (depth === 0 ? { leaf: 1 } : { deeper: nested(depth - 1) });

  it('of a body is refused by each protocol in its way', async () => {
    const large = 'x'.repeat(256 * 1024 + 1);
    const authorization = `Authorization: ${sasToken(audience('d1'), KEY, 600)}`;
    const answer = await request('POST', `/devices/d1/messages/events?${VERSION}`, [authorization], large);
    expect([answer.status, answer.header('iothub-errorcode')]).toEqual([413, 'MessageTooLarge']);
    using amqp = await openAmqp();
    await amqp.putToken(audience('d1'), sasToken(audience('d1'), KEY, 600));
    const link = await amqp.sender('/devices/d1/messages/events');
    expect(await link.send(telemetry(large))).toMatchObject({
      outcome: 'rejected',
      error: { condition: 'amqp:link:message-size-exceeded' },
    });
    const client = await connectMqtt('d2', sasToken(audience('d2'), KEY, 600));
    client.publish('devices/d2/messages/events/', large, { qos: 1 });
    await waitFor(() => !client.connected);
    const identity = await request(
      'PUT',
      `/devices/new?${VERSION}`,
      [owner()],
      `{"statusReason":"${'x'.repeat(70_000)}"}`,
    );
    expect(identity.status).toBe(413);
  });

  it('depth of a twin is refused, and changes nothing', async () => {
    const path = `/twins/d1?${VERSION}`;
    const before = await request('GET', path, [owner()]);
    const deep = JSON.stringify({ properties: { desired: nested(11) } });
    const answer = await request('PATCH', path, [owner(), 'If-Match: *'], deep);
    expect([answer.status, answer.header('iothub-errorcode')]).toEqual([400, 'ArgumentInvalid']);
    const bomb = `{"tags":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`;
    expect((await request('PATCH', path, [owner(), 'If-Match: *'], bomb)).status).toBe(400);
    const client = await connectMqtt('d1', sasToken(audience('d1'), KEY, 600));
    const answers: string[] = [];
    client.on('message', (topic) => answers.push(topic));
    await client.subscribeAsync('$iothub/twin/res/#');
    for (const patch of [JSON.stringify(nested(11)), '{"a":'.repeat(20_000), '[1]', '{"a b":1}', '{"a":[null]}']) {
      await client.publishAsync('$iothub/twin/PATCH/properties/reported/?$rid=1', patch);
    }
    await waitFor(() => answers.length === 5);
    expect(new Set(answers)).toEqual(new Set(['$iothub/twin/res/400/?$rid=1']));
    await client.endAsync();
    const stable = (text: string): unknown => {
      const { connectionState: _1, lastActivityTime: _2, ...twin } = JSON.parse(text) as Record<string, unknown>;
      return twin;
    };
    expect(stable((await request('GET', path, [owner()])).body)).toEqual(stable(before.body));
  });

  it.each([
    ['a frame beyond what was agreed', 65_537],
    ['a frame of two gigabytes', 0x7fff_ffff],
  ])('of AMQP: %s closes the connection with a framing error', async (_what, bytes) => {
    const before = await counted('iothub_refusals_total', 'frame_size');
    const socket = await tlsSocket(AMQPS_PORT);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const text = (): string => Buffer.concat(chunks).toString('latin1');
    socket.write(Buffer.concat([Buffer.from('AMQP\0\x01\0\0', 'latin1'), OPEN_FRAME]));
    // Its OPEN has come.
    await waitFor(() => text().includes('\0\x53\x10'));
    const head = Buffer.alloc(8);
    head.writeUInt32BE(bytes, 0);
    head.writeUInt8(2, 4);
    socket.write(head);
    await once(socket, 'close');
    expect(text()).toContain('amqp:connection:framing-error');
    expect(await counted('iothub_refusals_total', 'frame_size')).toBe(before + 1);
  });
});

describe('clients that hold on', () => {
  it('half open, or silent before TLS and after it, cost nobody else', async () => {
    const sockets = Array.from({ length: 60 }, (_, i) => {
      const socket = connectTcp({ host: ADDRESS, port: [MQTTS_PORT, AMQPS_PORT, 443][i % 3] ?? 0 });
      socket.on('error', () => {});
      return socket;
    });
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    // A half of them says that it is done, and stays; a part begins a handshake that it does not end.
    for (const [i, socket] of sockets.entries()) {
      if (i % 2 === 0) socket.end();
      else socket.write(Buffer.from([0x16, 3, 1, 2, 0, 1]));
    }
    const silent = await Promise.all([tlsSocket(MQTTS_PORT), tlsSocket(AMQPS_PORT)]);
    const client = await connectMqtt('d1', sasToken(audience('d1'), KEY, 600));
    await client.publishAsync('devices/d1/messages/events/', 'x', { qos: 1 });
    await client.endAsync();
    for (const socket of [...sockets, ...silent]) socket.destroy();
  });

  it('that give credit for events and do not read them hold back themselves alone', async () => {
    using slow = await openAmqp();
    await slow.putToken(HUB_HOST_NAME, sasToken(HUB_HOST_NAME, hub.ownerKey, 600, 'iothubowner'));
    const body = 'x'.repeat(100_000);
    const readers = [0, 1, 2, 3].map((p) =>
      slow.receiver(`hub/ConsumerGroups/$Default/Partitions/${p}`, { credit_window: 2000 }),
    );
    await Promise.all(readers);
    const { socket } = slow.connection as unknown as { socket: { pause(): void } };
    socket.pause();
    const before = await residentBytes();
    const client = await connectMqtt('d1', sasToken(audience('d1'), KEY, 600));
    for (let n = 0; n < 300; n += 30) {
      await Promise.all(
        Array.from({ length: 30 }, () => client.publishAsync('devices/d1/messages/events/', body, { qos: 1 })),
      );
    }
    await client.endAsync();
    // 30 MB went by; what waits for the slow one is bounded.
    expect((await residentBytes()) - before).toBeLessThan(100 * 1024 * 1024);
  });
});

async function residentBytes(): Promise<number> {
  const text = await (await fetch(metrics)).text();
  return parsePrometheus(text).value('process_resident_memory_bytes') ?? 0;
}

describe('a flood of bad log-ins', () => {
  it('is slowed down, counted, and the right key of that device still lets in', async () => {
    const startMs = performance.now();
    const flood = Promise.all(
      Array.from({ length: 120 }, () =>
        connectMqtt('d2', sasToken(audience('d2'), WRONG, 600), '127.0.108.40').then(
          () => 0,
          (error: unknown) => (error as { code?: number }).code,
        ),
      ),
    );
    // Meanwhile its owner, and a neighbour.
    const own = await connectMqtt('d1', sasToken(audience('d1'), KEY, 600));
    await own.publishAsync('devices/d1/messages/events/', 'x', { qos: 1 });
    expect(performance.now() - startMs).toBeLessThan(ANSWER_MS + 5000);
    const codes = await flood;
    expect(new Set(codes)).toEqual(new Set([5]));
    expect(performance.now() - startMs).toBeGreaterThan(9000);
    expect(await counted('iothub_logins_refused_total')).toBe(refusedBefore + 120);
    const again = await connectMqtt('d2', sasToken(audience('d2'), KEY, 600));
    await again.publishAsync('devices/d2/messages/events/', 'x', { qos: 1 });
  }, 120_000);
});
