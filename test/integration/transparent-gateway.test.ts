// The transparent gateway: unmodified device SDKs reach a gateway by `GatewayHostName`; behind it stands a second daemon, a local
// hub, as the cloud, watched by the unmodified SDKs of a back end.

import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeSasToken } from '../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import {
  AMQPS_PORT,
  HUB_HOST_NAME,
  MQTTS_PORT,
  startHubDaemon,
  type HubDaemon,
  type HubDaemonOptions,
} from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { derivedKey, GATEWAY_ID, GATEWAY_KEY, GROUP_KEY, transparentGateway } from '../support/transparent-rig.ts';
import { waitFor } from '../support/wait.ts';

const CLOUD = '127.0.154.1';
const EDGE = '127.0.154.2';
const OWN_KEY = Buffer.alloc(32, 8).toString('base64');

const keyOf = (deviceId: string): string => (deviceId === 'own-1' ? OWN_KEY : derivedKey(deviceId));
const stringOf = (deviceId: string, key = keyOf(deviceId)): string =>
  `HostName=${HUB_HOST_NAME};GatewayHostName=${EDGE};DeviceId=${deviceId};SharedAccessKey=${key}`;

interface HttpsAnswer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** As the SDKs do, but for that of Node, whose HTTP knows no `GatewayHostName`. @param path below `messages/`. */
async function ask(
  deviceId: string,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body = '',
): Promise<HttpsAnswer> {
  const resource = `${HUB_HOST_NAME}/devices/${deviceId}`;
  const token = makeSasToken({ resource, key: keyOf(deviceId), expiresAtMs: Date.now() + 60_000 }, { hmacSha256 });
  const request = https.request({
    host: EDGE,
    path: `/devices/${deviceId}/messages/${path}?api-version=2020-09-30`,
    method,
    rejectUnauthorized: false,
    headers: { authorization: token, ...headers },
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

async function postTelemetry(deviceId: string): Promise<void> {
  const headers = {
    'iothub-messageid': `id-${deviceId}`,
    'iothub-correlationid': 'c-1',
    'iothub-contenttype': 'text/plain',
    'iothub-contentencoding': 'utf-8',
    'iothub-app-iothub-creation-time-utc': MADE_AT,
    'iothub-app-level': 'hot & cold',
    'iothub-app-place': 'Bern',
  };
  const { status } = await ask(deviceId, 'POST', 'events', headers, `hello of ${deviceId}`);
  expect(status).toBe(204);
}

interface ReadEvent {
  readonly body: unknown;
  readonly messageId?: string;
  readonly contentType?: string;
  readonly correlationId?: string;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

const MADE_AT = '2026-01-02T03:04:05.6780000Z';
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const REBOOT = {
  methodName: 'reboot',
  payload: { delay: 5, why: 'ü' },
  responseTimeoutInSeconds: 10,
  connectTimeoutInSeconds: 10,
};
const MQTT_DEVICES = ['own-1', 'leaf-mqtt', 'leaf-mqtt-ws'];
const DEVICES = [...MQTT_DEVICES, 'leaf-amqp', 'leaf-amqp-ws', 'leaf-http'];

/** Over AMQP, one connection carries all of them; over MQTT each has its own. */
const PROTOCOLS = process.env['FIELDPOST_FULL'] === '1' ? (['amqp', 'mqtt'] as const) : (['amqp'] as const);

describe.each(PROTOCOLS)('a transparent gateway over %s', (protocol) => {
  const stack = new AsyncDisposableStack();
  let cloud: HubDaemon;
  let edge: HubDaemon;
  let edgeDirectory: TempDir;
  let proxy: TcpProxy;
  let backEnd: SdkChild;
  /** Reads the events of the gateway's own hub. */
  let local: SdkChild;

  const eventsOf = (child: SdkChild): ReadEvent[] =>
    child.events.filter(({ event }) => event === 'event').map(({ data }) => data as ReadEvent);
  const eventOf = (child: SdkChild, body: string): ReadEvent | undefined =>
    eventsOf(child).find((event) => event.body === body);
  const device = (): SdkChild => stack.use(startDevice({ hub: { address: CLOUD, authorityPath: edge.authorityPath } }));

  /** @param more fields of the upstream. */
  const edgeOptions = (more: Readonly<Record<string, unknown>> = {}): HubDaemonOptions =>
    transparentGateway({
      address: EDGE,
      directory: edgeDirectory,
      dials: CLOUD,
      ca: cloud.authority,
      upstream: {
        port: proxy.port,
        protocol,
        ...more,
        leaf_devices: {
          identity: 'group_key',
          group_key: GROUP_KEY,
          per_device: protocol === 'mqtt',
          devices: { 'own-1': { key: OWN_KEY } },
        },
      },
    });

  beforeAll(async () => {
    const cloudDirectory = stack.use(createTempDir('transparent-cloud'));
    edgeDirectory = stack.use(createTempDir('transparent-edge'));
    cloud = stack.use(await startHubDaemon({ address: CLOUD, directory: cloudDirectory }));
    const port = protocol === 'amqp' ? AMQPS_PORT : MQTTS_PORT;
    proxy = stack.use(await startTcpProxy({ target: { host: CLOUD, port }, address: CLOUD }));
    backEnd = stack.use(startBackEnd({ hub: cloud }));
    await backEnd.call('openRegistry', cloud.owner);
    for (const [deviceId, primaryKey] of [
      [GATEWAY_ID, GATEWAY_KEY],
      ...[...DEVICES, 'leaf-poll'].map((id) => [id, keyOf(id)]),
    ]) {
      const authentication = { symmetricKey: { primaryKey, secondaryKey: primaryKey } };
      await backEnd.call('registry', 'create', { deviceId, authentication });
    }
    await backEnd.call('openClient', cloud.owner);
    await backEnd.call('readEvents', { connectionString: cloud.events });
    edge = stack.use(await startHubDaemon(edgeOptions()));
    local = stack.use(startBackEnd({ hub: edge }));
    await local.call('useClient', edge.owner.replace(HUB_HOST_NAME, EDGE));
    await local.call('readEvents', { connectionString: edge.events.replace(HUB_HOST_NAME, EDGE) });
  }, 120_000);

  afterAll(() => stack.disposeAsync());

  it('lets devices of the cloud in on each transport, and carries what they say under their own names', async () => {
    const sent = {
      properties: { level: 'hot & cold', place: 'Bern' },
      system: { correlationId: 'c-1', userId: 'u-1', contentType: 'text/plain', contentEncoding: 'utf-8' },
    };
    /** What the SDKs have no field for. */
    const more = (transport: string): Readonly<Record<string, string>> =>
      transport.startsWith('mqtt')
        ? { '$.ctime': MADE_AT, '$.diagid': TRACE, '$.diagctx': 'k=v' }
        : { 'iothub-creation-time-utc': MADE_AT };
    const names = [['own-1', 'mqtt'], ...['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws'].map((on) => [`leaf-${on}`, on])];
    await Promise.all([
      postTelemetry('leaf-http'),
      ...names.map(async ([deviceId = '', transport = '']) => {
        const child = device();
        await child.call('open', stringOf(deviceId), transport);
        const system = { ...sent.system, messageId: `id-${deviceId}` };
        const properties = { ...sent.properties, ...more(transport) };
        await child.call('send', { properties, body: `hello of ${deviceId}`, system });
        await child.call('close');
      }),
    ]);
    for (const deviceId of DEVICES) {
      const event = await waitFor(() => eventOf(backEnd, `hello of ${deviceId}`), { timeoutMs: 20_000 });
      expect(event).toMatchObject({
        messageId: `id-${deviceId}`,
        correlationId: 'c-1',
        contentType: 'text/plain',
        properties: {
          level: 'hot & cold',
          place: 'Bern',
        },
        systemProperties: {
          'iothub-connection-device-id': deviceId,
          'iothub-creation-time-utc': MADE_AT,
          // The SDK for Node tells these over MQTT alone.
          ...(MQTT_DEVICES.includes(deviceId) && {
            userId: Object.fromEntries(Buffer.from('u-1').entries()),
            'Diagnostic-Id': TRACE,
            'Correlation-Context': 'k=v',
          }),
        },
      });
      // The gateway's own hub has it too.
      await waitFor(() => eventOf(local, `hello of ${deviceId}`), { timeoutMs: 20_000 });
    }
    expect(eventsOf(backEnd).filter(({ body }) => String(body).startsWith('hello of '))).toHaveLength(DEVICES.length);
  });

  it('lets nobody in whose key is not that of the device', async () => {
    await using child = device();
    const opened = child.call('open', stringOf('leaf-mqtt', OWN_KEY), 'mqtt');
    await expect(opened).rejects.toMatchObject({ name: 'UnauthorizedError' });
  });

  it('hands direct methods on to the session of the device, and the answer back as it is', async () => {
    await using child = device();
    await child.call('open', stringOf('leaf-mqtt'), 'mqtt');
    const answer = { status: 299, payload: { did: ['this', 1], none: null } };
    await child.call('onMethod', 'reboot', answer);
    const call = { ...REBOOT, responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 0 };
    expect(await backEnd.call('invoke', 'leaf-mqtt', REBOOT)).toEqual(answer);
    expect(await child.nextEvent('method')).toEqual({ name: 'reboot', payload: REBOOT.payload });
    if (protocol === 'amqp') expect(proxy.connections).toBe(1);
    await child.call('close');
    // The cloud itself says that the device is not there.
    const refusal = (): Promise<unknown> =>
      backEnd.call('invoke', 'leaf-mqtt', call).then(
        () => 'answered',
        (error: unknown) => (error as Error).message,
      );
    await expect.poll(refusal, { timeout: 20_000 }).toBe('Not found');
  });

  it('hands messages on, and has them settled in the cloud when the device has settled them', async () => {
    await backEnd.call('onFeedback');
    const system = {
      messageId: 'c2d-1',
      correlationId: 'c',
      contentType: 'text/plain',
      ack: 'full',
    };
    // They wait in the cloud for a device that is away.
    await backEnd.call('sendCommand', 'leaf-amqp', { body: 'open the gate', properties: { how: 'slowly' }, system });
    await backEnd.call('sendCommand', 'leaf-amqp', {
      body: 'jump over it',
      system: { messageId: 'c2d-2', ack: 'full' },
    });
    await using child = device();
    await child.call('open', stringOf('leaf-amqp'), 'amqp');
    await child.call('onCommands', 'none');
    expect(await child.nextEvent('command')).toMatchObject({
      body: 'open the gate',
      messageId: 'c2d-1',
      correlationId: 'c',
      contentType: 'text/plain',
      properties: { how: 'slowly' },
    });
    await child.nextEvent('command');
    const waiting = async (): Promise<number> => {
      const { cloudToDeviceMessageCount } = (await backEnd.call('registry', 'get', 'leaf-amqp')) as {
        readonly cloudToDeviceMessageCount: string | number;
      };
      return Number(cloudToDeviceMessageCount);
    };
    expect(await waiting()).toBe(2);
    // One that it gives back comes again.
    await child.call('abandon', 'open the gate');
    expect(await child.nextEvent('command')).toMatchObject({ body: 'open the gate', messageId: 'c2d-1' });
    expect(await waiting()).toBe(2);
    await child.call('complete', 'open the gate');
    await child.call('reject', 'jump over it');
    const records = await backEnd.nextEvent<readonly { readonly originalMessageId: string }[]>('feedback');
    expect(records).toMatchObject([
      { originalMessageId: 'c2d-1', statusCode: 'Success', deviceId: 'leaf-amqp' },
      // MQTT has no word for it.
      { originalMessageId: 'c2d-2', statusCode: protocol === 'amqp' ? 'Rejected' : 'Success', deviceId: 'leaf-amqp' },
    ]);
    expect(await waiting()).toBe(0);
  });

  it('hands messages to a device that asks for them over HTTPS, though it holds no session', async () => {
    // The device has not been heard of since long.
    await backEnd.call('sendCommand', 'leaf-poll', { body: 'first', system: { messageId: 'c2d-poll' } });
    const first = await ask('leaf-poll', 'GET', 'deviceBound');
    expect(first).toMatchObject({ status: 200, body: 'first', headers: { 'iothub-messageid': 'c2d-poll' } });
    const lock = (first.headers.etag ?? '').replaceAll('"', '');
    expect(await ask('leaf-poll', 'DELETE', `deviceBound/${lock}`)).toMatchObject({ status: 204 });
    expect(await ask('leaf-poll', 'GET', 'deviceBound')).toMatchObject({ status: 204 });
    await backEnd.call('sendCommand', 'leaf-poll', { body: 'second' });
    const poll = async (): Promise<string> => (await ask('leaf-poll', 'GET', 'deviceBound')).body;
    await expect.poll(poll).toBe('second');
    const count = async (): Promise<unknown> =>
      ((await backEnd.call('registry', 'get', 'leaf-poll')) as { readonly cloudToDeviceMessageCount: unknown })
        .cloudToDeviceMessageCount;
    // The first is done with in the cloud as well.
    expect(await count()).toBe(1);
  });

  it('loses nothing that it acknowledged while the cloud is away and it is killed', async () => {
    const senders = ['leaf-mqtt', 'leaf-amqp', 'own-1'];
    const sent: string[] = [];
    let isOver = false;
    const send = async (deviceId: string, transport: string): Promise<void> => {
      // Ended with its process: a client that was retrying something connects again behind its own `close`.
      await using child = device();
      await child.call('open', stringOf(deviceId), transport);
      await child.call('onMethod', 'reboot', { status: 200, payload: deviceId });
      for (let count = 0; !isOver; count += 1) {
        const messageId = `${deviceId}.${count}`;
        await child.call('send', { body: `count of ${messageId}`, system: { messageId } });
        sent.push(messageId);
      }
      await child.call('close');
    };
    const sending = senders.map((deviceId) => send(deviceId, deviceId === 'leaf-amqp' ? 'amqp' : 'mqtt'));
    await waitFor(() => sent.length > 60, { timeoutMs: 20_000 });
    await proxy.refuse();
    await waitFor(() => sent.length > 160, { timeoutMs: 20_000 });
    // Back ends at the box do not notice.
    const answers = await Promise.all(senders.map((deviceId) => local.call('invoke', deviceId, REBOOT)));
    expect(answers).toEqual(senders.map((payload) => ({ status: 200, payload })));
    await edge.kill('SIGKILL');
    edge = stack.use(await startHubDaemon(edgeOptions(protocol === 'amqp' ? { max_devices_per_connection: 2 } : {})));
    const before = sent.length;
    await waitFor(() => sent.length > before + 60, { timeoutMs: 60_000 });
    await proxy.listen();
    isOver = true;
    await Promise.all(sending);
    const arrived = (): Set<unknown> => new Set(eventsOf(backEnd).map(({ messageId }) => messageId));
    await waitFor(() => sent.every((id) => arrived().has(id)), { timeoutMs: 30_000 });
    for (const event of eventsOf(backEnd)) {
      if (!String(event.body).startsWith('count of ')) continue;
      const { 'iothub-connection-device-id': deviceId } = event.systemProperties;
      expect(event.body).toBe(`count of ${event.messageId ?? ''}`);
      expect(event.messageId?.startsWith(`${String(deviceId)}.`)).toBe(true);
    }
  });

  it('finds devices that have changed their protocols, on as many connections as they need', async () => {
    // The gateway's connection has room for one of them.
    if (protocol === 'amqp') await waitFor(() => proxy.connections === 2, { timeoutMs: 10_000 });
    const moved = [
      ['leaf-mqtt', 'amqp'],
      ['leaf-amqp', 'mqtt'],
      ['own-1', 'amqp-ws'],
    ] as const;
    await Promise.all(
      moved.map(async ([deviceId, transport]) => {
        const child = device();
        await child.call('open', stringOf(deviceId), transport);
        await child.call('onMethod', 'reboot', { status: 200, payload: transport });
        await child.call('onCommands', 'complete');
        expect(await backEnd.call('invoke', deviceId, REBOOT)).toEqual({ status: 200, payload: transport });
        await backEnd.call('sendCommand', deviceId, { body: `for ${deviceId}` });
        expect(await child.nextEvent('command')).toMatchObject({ body: `for ${deviceId}` });
      }),
    );
    if (protocol === 'amqp') expect(proxy.connections).toBe(2);
  });
});
