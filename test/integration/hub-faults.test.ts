// Faults on request, with the properties of the vendor's own tests: what each cuts, that nothing else is cut, and that the
// unmodified SDK comes back from it.

import rhea, { type Message } from 'rhea';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  connectAmqp,
  sasToken,
  type TestConnection,
  type TestReceiver,
  type TestSender,
} from '../support/amqp-client.ts';
import { curl } from '../support/curl.ts';
import { deviceConnectionString, HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild, type SdkError } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.3';
const PORT = 5672;
const KEY = Buffer.alloc(32, 9).toString('base64');

const { message: codec } = rhea as unknown as { message: { data_section(bytes: Buffer): unknown } };

const body = codec.data_section(Buffer.from('x'));
const faultProperties = (type: string, more: object = {}): Record<string, string> => ({
  AzIoTHub_FaultOperationType: type,
  AzIoTHub_FaultOperationCloseReason: 'boom',
  AzIoTHub_FaultOperationDelayInSecs: '0',
  ...more,
});
const fault = (type: string, more: object = {}): Message => ({
  body,
  application_properties: faultProperties(type, more),
});

let directory: TempDir;
let hub: HubDaemon;
let backEnd: SdkChild;

beforeAll(async () => {
  directory = createTempDir('hub-faults');
  hub = await startHubDaemon({ address: ADDRESS, directory, hub: { amqp_port: PORT, fault_injection: true } });
  backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', hub.owner);
  const authentication = { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  const ids = ['wire', 'mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'http', 'refused'];
  await backEnd.call(
    'registry',
    'addDevices',
    ids.map((deviceId) => ({ deviceId, authentication })),
  );
});

afterAll(async () => {
  await backEnd?.kill();
  await hub?.kill('SIGKILL');
  directory.remove();
});

interface Links {
  readonly client: TestConnection;
  readonly telemetry: TestSender;
  readonly commands: TestReceiver;
  readonly twinRequests: TestSender;
  readonly twinAnswers: TestReceiver;
  readonly methodRequests: TestReceiver;
  readonly methodAnswers: TestSender;
}

async function openLinks(): Promise<Links> {
  const client = await connectAmqp({ host: ADDRESS, port: PORT, hostName: HUB_HOST_NAME });
  const audience = `${HUB_HOST_NAME}/devices/wire`;
  expect(await client.putToken(audience, sasToken(audience, KEY, 3600))).toBe(200);
  return {
    client,
    telemetry: await client.sender('/devices/wire/messages/events'),
    commands: await client.receiver('/devices/wire/messages/devicebound'),
    twinRequests: await client.sender('/devices/wire/twin'),
    twinAnswers: await client.receiver('/devices/wire/twin'),
    methodRequests: await client.receiver('/devices/wire/methods/devicebound'),
    methodAnswers: await client.sender('/devices/wire/methods/devicebound'),
  };
}

describe('a fault over AMQP', () => {
  it.each([
    ['KillAmqpD2CLink', 'telemetry'],
    ['KillAmqpC2DLink', 'commands'],
    ['KillAmqpTwinLinkReq', 'twinRequests'],
    ['KillAmqpTwinLinkResp', 'twinAnswers'],
    ['KillAmqpMethodReqLink', 'methodRequests'],
    ['KillAmqpMethodRespLink', 'methodAnswers'],
  ] as const)('%s ends the link of %s and no other', async (type, name) => {
    const { client, ...links } = await openLinks();
    using _ = client;
    expect(await links.telemetry.send(fault(type))).toMatchObject({ outcome: 'accepted' });
    expect(await links[name].closed).toMatchObject({ condition: 'amqp:link:detach-forced', description: 'boom' });
    const others = Object.entries(links).filter(([other]) => other !== name);
    expect(others.filter(([, { link }]) => !link.is_open()).map(([other]) => other)).toEqual([]);
    if (name !== 'telemetry') expect(await links.telemetry.send({ body })).toMatchObject({ outcome: 'accepted' });
  });

  it.each([
    ['KillAmqpCBSLinkReq', 'requests', 'answers'],
    ['KillAmqpCBSLinkResp', 'answers', 'requests'],
  ] as const)('%s ends the link of %s of $cbs', async (type, name, other) => {
    const { client, telemetry } = await openLinks();
    using _ = client;
    expect(await telemetry.send(fault(type))).toMatchObject({ outcome: 'accepted' });
    expect(await client.cbs?.[name].closed).toMatchObject({ condition: 'amqp:link:detach-forced' });
    expect(await telemetry.send({ body })).toMatchObject({ outcome: 'accepted' });
    expect(client.cbs?.[other].link.is_open()).toBe(true);
  });

  it.each([
    ['KillAmqpConnection', { condition: 'amqp:internal-error', description: 'boom' }],
    ['KillTcp', undefined],
    ['ShutDownAmqp', undefined],
  ])('%s ends the connection', async (type, error) => {
    const { client, telemetry } = await openLinks();
    using _ = client;
    void telemetry.send(fault(type));
    const closed = await client.closed;
    if (error === undefined) expect(closed).toBeUndefined();
    else expect(closed).toMatchObject(error);
  });

  it('KillAmqpSession ends the session, and the connection goes on', async () => {
    const { client, telemetry } = await openLinks();
    using _ = client;
    const ended = new Promise<void>((resolve) => {
      client.connection.on('session_error', () => {});
      client.connection.on('session_close', () => resolve());
    });
    void telemetry.send(fault('KillAmqpSession'));
    await ended;
    expect(client.connection.is_open()).toBe(true);
  });

  it('comes after its delay, and is telemetry when nobody knows it', async () => {
    const { client, telemetry } = await openLinks();
    using _ = client;
    expect(await telemetry.send(fault('Nonsense'))).toMatchObject({ outcome: 'accepted' });
    const sentMs = Date.now();
    void telemetry.send(fault('KillTcp', { AzIoTHub_FaultOperationDelayInSecs: '1' }));
    await client.closed;
    expect(Date.now() - sentMs).toBeGreaterThanOrEqual(950);
  });

  it.each([
    ['InvokeThrottling', 'ThrottlingError'],
    ['InvokeMaxMessageQuota', 'IotHubQuotaExceededError'],
    ['InvokeAuthError', 'UnauthorizedError'],
  ])('%s refuses telemetry for as long as it lasts, with %s in the SDK', async (type, name) => {
    await using device = startDevice({ hub });
    await device.call('open', deviceConnectionString('refused', KEY), 'amqp');
    await device.call('neverRetry');
    await device.call('send', { body: 'before' });
    const properties = faultProperties(type, { AzIoTHub_FaultOperationDurationInSecs: '5' });
    const refused = async (): Promise<string> =>
      device.call('send', { body: 'x' }).then(
        () => 'taken',
        (error: unknown) => (error as SdkError).name,
      );
    await expect(device.call('send', { body: '', properties })).rejects.toMatchObject({ name });
    expect(await refused()).toBe(name);
    await waitFor(async () => (await refused()) === 'taken', { everyMs: 200, timeoutMs: 20_000 });
    expect(device.events.map(({ event }) => event)).toEqual(['connect']);
  });
});

describe.each(['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws'] as const)('the SDK over %s', (transport) => {
  const kinds = transport.startsWith('mqtt')
    ? ['KillTcp', 'ShutDownMqtt']
    : ['KillTcp', 'KillAmqpConnection', 'ShutDownAmqp', 'KillAmqpSession', 'KillAmqpD2CLink', 'KillAmqpC2DLink'];

  let device: SdkChild;
  let service: SdkChild;

  beforeAll(async () => {
    device = startDevice({ hub });
    service = startBackEnd({ hub });
    await service.call('openClient', hub.owner);
    await device.call('open', deviceConnectionString(transport, KEY), transport);
    await device.call('onCommands', 'complete');
  });
  afterAll(async () => {
    await device?.kill();
    await service?.kill();
  });

  /** Since when the device is connected; undefined while it is not. */
  const connectedSince = async (): Promise<string | undefined> => {
    const { connectionState, connectionStateUpdatedTime } = (await backEnd.call('registry', 'get', transport)) as {
      connectionState: string;
      connectionStateUpdatedTime: string;
    };
    return connectionState === 'Connected' ? connectionStateUpdatedTime : undefined;
  };

  it.each(kinds)('comes back from %s', async (kind) => {
    const before = await connectedSince();
    await device.call('send', { body: kind, properties: faultProperties(kind) });
    const isBack = async (): Promise<boolean> => {
      const since = await connectedSince();
      return since !== undefined && since !== before;
    };
    // What is sent while it notices that its session is over is lost from the sight of the SDK: its caller waits for ever.
    if (!kind.endsWith('Link')) await waitFor(isBack, { timeoutMs: 30_000, what: 'the device to be back' });
    await device.call('send', { body: `after ${kind}` });
    await service.call('sendCommand', transport, { body: kind });
    expect(await device.nextEvent('command', (command: { body: string }) => command.body === kind)).toBeDefined();
  });
});

describe('a fault over HTTPS', () => {
  const send = (type: string) => {
    const audience = `${HUB_HOST_NAME}/devices/http`;
    const headers = Object.entries(faultProperties(type)).flatMap(([name, value]) => [
      '-H',
      `iothub-app-${name}: ${value}`,
    ]);
    const authorization = `Authorization: ${sasToken(audience, KEY, 600)}`;
    const path = '/devices/http/messages/events?api-version=2021-04-12';
    return curl(hub, path, [...headers, '-H', authorization, '--data', 'x']);
  };

  it.each([
    ['InvokeThrottling', 429, 'ThrottlingException'],
    ['InvokeMaxMessageQuota', 403, 'IotHubQuotaExceeded'],
    ['InvokeAuthError', 401, 'IotHubUnauthorizedAccess'],
    ['KillAmqpConnection', 204, undefined],
  ])('%s concerns its own request', async (type, status, code) => {
    const answer = await send(type);
    expect(answer.status).toBe(status);
    expect(answer.header('iothub-errorcode')).toBe(code);
  });

  it('KillTcp cuts the connection', async () => {
    await expect(send('KillTcp')).rejects.toThrow('Empty reply');
  });
});
