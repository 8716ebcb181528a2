// Devices and modules over AMQP on the unmodified SDK, with a back end beside them.

import { X509Certificate } from 'node:crypto';
import rhea, { type Message } from 'rhea';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAmqp, sasToken } from '../support/amqp-client.ts';
import { createAuthority } from '../support/certificates.ts';
import {
  AMQPS_PORT,
  deviceConnectionString,
  HUB_HOST_NAME,
  startHubDaemon,
  type HubDaemon,
} from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';

interface Event {
  readonly body: unknown;
  readonly properties?: Record<string, unknown>;
  readonly systemProperties: Record<string, unknown>;
  readonly messageId?: string;
}

const { message: codec } = rhea as unknown as {
  message: {
    encode(message: object): Buffer;
    data_section(bytes: Buffer): unknown;
    data_sections(list: Buffer[]): unknown;
  };
};

const directory = createTempDir('hub-amqp-device');
let hub: HubDaemon;
let backEnd: SdkChild;

beforeAll(async () => {
  hub = await startHubDaemon({ address: '127.0.102.1', directory });
  backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', hub.owner);
  await backEnd.call('openClient', hub.owner);
  await backEnd.call('readEvents', { connectionString: hub.events });
});

afterAll(async () => {
  await backEnd?.kill();
  await hub?.kill('SIGKILL');
  directory.remove();
});

async function createDevice(deviceId: string): Promise<string> {
  const made = (await backEnd.call('registry', 'create', { deviceId })) as {
    authentication: { symmetricKey: { primaryKey: string } };
  };
  return deviceConnectionString(deviceId, made.authentication.symmetricKey.primaryKey);
}

describe.each(['amqp', 'amqp-ws'] as const)('a device over %s', (transport) => {
  const deviceId = `dev-${transport}`;
  let device: SdkChild;

  beforeAll(async () => {
    const connectionString = await createDevice(deviceId);
    device = startDevice({ hub });
    await device.call('open', connectionString, transport);
  });

  afterAll(() => device?.kill());

  it('sends telemetry, which a back end reads with all that it says', async () => {
    await device.call('send', {
      body: JSON.stringify({ a: 1 }),
      properties: { colour: 'blau' },
      system: { messageId: `m-${transport}`, contentType: 'application/json', contentEncoding: 'utf-8' },
    });
    const event = await backEnd.nextEvent<Event>('event', ({ messageId }) => messageId === `m-${transport}`);
    expect(event).toMatchObject({ body: { a: 1 }, properties: { colour: 'blau' }, partitionKey: deviceId });
    expect(event.systemProperties).toMatchObject({
      'iothub-connection-device-id': deviceId,
      'iothub-message-source': 'Telemetry',
      contentType: 'application/json',
    });
  });

  it('gets commands, and the back end hears what became of them', async () => {
    await device.call('onCommands', 'complete');
    await backEnd.call('sendCommand', deviceId, { body: 'go', properties: { k: 'v' }, system: { messageId: 'c1' } });
    expect(await device.nextEvent('command')).toMatchObject({ body: 'go', properties: { k: 'v' }, messageId: 'c1' });
    expect(await device.nextEvent('settled')).toBe('go');
  });

  it('answers methods', async () => {
    await device.call('onMethod', 'add', { status: 201, payload: { sum: 3 } });
    const answer = await backEnd.call('invoke', deviceId, {
      methodName: 'add',
      payload: { a: 1 },
      connectTimeoutInSeconds: 10,
    });
    expect(answer).toMatchObject({ status: 201, payload: { sum: 3 } });
    expect(await device.nextEvent('method')).toMatchObject({ payload: { a: 1 } });
  });

  it('has a twin, both ways', async () => {
    expect(await device.call('getTwin')).toMatchObject({ reported: { $version: 1 } });
    await device.call('onDesired');
    await device.call('report', { fw: '1' });
    const twin = (await backEnd.call('registry', 'getTwin', deviceId)) as { properties: { reported: object } };
    expect(twin.properties.reported).toMatchObject({ fw: '1', $version: 2 });
    await backEnd.call('registry', 'updateTwin', deviceId, { properties: { desired: { rate: 5 } } }, '*');
    expect(await device.nextEvent('desired', (patch: { rate?: number }) => patch.rate === 5)).toMatchObject({
      $version: 2,
    });
  });
});

describe.each(['amqp', 'amqp-ws'] as const)('a module over %s', (transport) => {
  it('sends to an output, answers methods and has a twin, beside its device', async () => {
    const deviceId = `parent-${transport}`;
    const parent = await createDevice(deviceId);
    const made = (await backEnd.call('registry', 'addModule', { deviceId, moduleId: 'm' })) as {
      authentication: { symmetricKey: { primaryKey: string } };
    };
    await using device = startDevice({ hub });
    await device.call('open', parent, transport);
    await device.call('send', { body: 'from the device' });
    await using module = startDevice({ hub });
    await module.call(
      'open',
      deviceConnectionString(deviceId, made.authentication.symmetricKey.primaryKey, 'm'),
      transport,
    );
    await module.call('sendOutput', 'out', { body: 'from the module' });
    const event = await backEnd.nextEvent<Event>('event', ({ body }) => body === 'from the module');
    expect(event.systemProperties).toMatchObject({
      'iothub-connection-device-id': deviceId,
      'iothub-connection-module-id': 'm',
      'iothub-outputname': 'out',
    });
    await module.call('onMethod', 'ping', { status: 200, payload: 'pong' });
    const call = { methodName: 'ping', connectTimeoutInSeconds: 10 };
    expect(await backEnd.call('invokeModule', deviceId, 'm', call)).toMatchObject({ status: 200, payload: 'pong' });
    await module.call('getTwin');
    await module.call('report', { fw: '2' });
    const twin = (await backEnd.call('registry', 'getModuleTwin', deviceId, 'm')) as {
      properties: { reported: object };
    };
    expect(twin.properties.reported).toMatchObject({ fw: '2' });
    // The module's session has not taken the device's.
    await device.call('send', { body: 'still there' });
  });
});

describe('a device over AMQP', () => {
  it('proves itself by a certificate, and is cut off when another is registered', async () => {
    const authority = await createAuthority(directory.path);
    const leaf = await authority.issue({ name: 'by-cert' });
    const { fingerprint } = new X509Certificate(leaf.certificate);
    const register = (call: 'create' | 'update', primaryThumbprint: string): Promise<unknown> =>
      backEnd.call('registry', call, {
        deviceId: 'by-cert',
        authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint: null } },
      });
    await register('create', fingerprint.replaceAll(':', ''));
    await using device = startDevice({ hub });
    await device.call('open', `HostName=${HUB_HOST_NAME};DeviceId=by-cert;x509=true`, 'amqp', {
      cert: leaf.certificatePath,
      key: leaf.keyPath,
    });
    await device.call('neverRetry');
    await device.call('send', { body: 'by certificate' });
    const event = await backEnd.nextEvent<Event>('event', ({ body }) => body === 'by certificate');
    expect(event.systemProperties['iothub-connection-auth-method']).toBe(
      '{"scope":"device","type":"x509","issuer":"external","acceptingIpFilterRule":null}',
    );
    await register('update', '0'.repeat(40));
    await device.nextEvent('disconnect', () => true, 1500);
  });

  it('says to which trace a message belongs, also in a batch, as one over MQTT does', async () => {
    const connectionString = await createDevice('traced');
    const key = /SharedAccessKey=(.+)$/.exec(connectionString)?.[1] ?? '';
    const traceOf = (n: number): object => ({ 'Diagnostic-Id': `00-${n}-1-01`, 'Correlation-Context': `n=${n},a b` });
    const traced = (n: number): Message => ({
      message_id: `trace-${n}`,
      message_annotations: traceOf(n),
      body: codec.data_section(Buffer.from('x')),
    });
    using client = await connectAmqp({
      host: hub.address,
      port: AMQPS_PORT,
      hostName: HUB_HOST_NAME,
      options: { transport: 'tls', servername: HUB_HOST_NAME, ca: [hub.authority] },
    });
    const audience = `${HUB_HOST_NAME}/devices/traced`;
    expect(await client.putToken(audience, sasToken(audience, key, 3600))).toBe(200);
    const link = await client.sender('/devices/traced/messages/events');
    expect(await link.send(traced(1))).toMatchObject({ outcome: 'accepted' });
    const batch = codec.encode({ body: codec.data_sections([2, 3].map((n) => codec.encode(traced(n)))) });
    expect(await link.send(batch, 0x8001_3700)).toMatchObject({ outcome: 'accepted' });
    await using device = startDevice({ hub });
    await device.call('open', connectionString, 'mqtt');
    // The SDK writes names as they are into the topic.
    const properties = { '$.diagid': '00-4-1-01', '$.diagctx': 'n=4,a b' };
    await device.call('send', { body: 'x', properties, system: { messageId: 'trace-4' } });
    for (const n of [1, 2, 3, 4]) {
      const event = await backEnd.nextEvent<Event>('event', ({ messageId }) => messageId === `trace-${n}`);
      expect(event.systemProperties).toMatchObject(traceOf(n));
      expect(event.properties ?? {}).toEqual({});
    }
  });

  it('is refused with a wrong key, and cut off within a second when it is deleted', async () => {
    const connectionString = await createDevice('cut');
    await using device = startDevice({ hub });
    await device.call('open', connectionString, 'amqp');
    await device.call('neverRetry');
    await device.call('send', { body: 'x' });
    await backEnd.call('registry', 'delete', 'cut');
    await device.nextEvent('disconnect', () => true, 1500);
    await using other = startDevice({ hub });
    await other.call('open', deviceConnectionString('dev-amqp', Buffer.alloc(32).toString('base64')), 'amqp').then(
      () => expect.unreachable('It was let in.'),
      (error: Error) => expect(error.name).toBe('UnauthorizedError'),
    );
  });
});
