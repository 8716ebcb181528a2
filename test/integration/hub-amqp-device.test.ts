// Devices and modules over AMQP on the unmodified SDK, with a back end beside them.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceConnectionString, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';

interface Event {
  readonly body: unknown;
  readonly properties?: Record<string, unknown>;
  readonly systemProperties: Record<string, unknown>;
  readonly messageId?: string;
}

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
