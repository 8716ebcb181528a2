// The daemon stops, is killed and comes back while devices and back ends on the unmodified SDKs go on: nothing that was
// acknowledged is lost, readers resume where they were, devices come back by themselves.

import { readFileSync } from 'node:fs';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sasToken } from '../support/amqp-client.ts';
import {
  deviceConnectionString,
  HUB_HOST_NAME,
  MQTTS_PORT,
  startHubDaemon,
  type HubDaemon,
} from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.4';
const KEY = Buffer.alloc(32, 9).toString('base64');
const JSON_BODY = { contentType: 'application/json', contentEncoding: 'utf-8' };

interface Event {
  readonly body: { readonly n: number };
  readonly partition: string;
  readonly sequenceNumber: number;
}

interface WillEvent {
  readonly body: unknown;
  readonly properties: Readonly<Record<string, unknown>>;
}

let directory: TempDir;
let hub: HubDaemon;
let children: SdkChild[];

const start = (): Promise<HubDaemon> =>
  startHubDaemon({ address: ADDRESS, directory, hub: { events: { partitions: 2 } } });

beforeEach(async () => {
  directory = createTempDir('hub-restart');
  children = [];
  hub = await start();
});

afterEach(async () => {
  await Promise.all(children.map((child) => child.kill()));
  await hub.kill('SIGKILL');
  directory.remove();
});

function keep(child: SdkChild): SdkChild {
  children.push(child);
  return child;
}

async function create(deviceId: string): Promise<string> {
  const backEnd = keep(startBackEnd({ hub }));
  await backEnd.call('openRegistry', hub.owner);
  const authentication = { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  await backEnd.call('registry', 'create', { deviceId, authentication });
  return deviceConnectionString(deviceId, KEY);
}

function send(device: SdkChild, n: number): Promise<unknown> {
  return device.call('send', { body: JSON.stringify({ n }), system: JSON_BODY });
}

const eventsOf = (reader: SdkChild): readonly Event[] =>
  reader.events.filter(({ event }) => event === 'event').map(({ data }) => data as Event);
const numbersOf = (reader: SdkChild): readonly number[] => eventsOf(reader).map(({ body }) => body.n);

describe('readers with checkpoints', () => {
  it('go on exactly where they were, after a restart, a kill, and in another process', async () => {
    const connectionString = await create('d1');
    const device = keep(startDevice({ hub }));
    await device.call('open', connectionString, 'mqtt');
    const read = async (): Promise<SdkChild> => {
      const reader = keep(startBackEnd({ hub }));
      await reader.call('readEvents', { connectionString: hub.events, checkpoints: directory.file('checkpoints') });
      return reader;
    };
    /** A reader notes an event after it was told. */
    const isNoted = (n: number): Promise<unknown> =>
      waitFor(() => readFileSync(directory.file('checkpoints'), 'utf8').includes(`"sequenceNumber":${n},`));
    let acknowledged = 0;
    const sendSome = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        await send(device, acknowledged);
        acknowledged += 1;
      }
    };

    await sendSome(20);
    const first = await read();
    await waitFor(() => numbersOf(first).length === 20, { what: 'the first twenty' });
    await isNoted(19);
    await first.kill();
    await sendSome(10);
    await hub.kill('SIGTERM');
    hub = await start();
    const second = await read();
    await waitFor(() => numbersOf(second).length === 10, { timeoutMs: 20_000, what: 'what came meanwhile' });
    expect(numbersOf(second)).toEqual(Array.from({ length: 10 }, (_, i) => 20 + i));
    expect(eventsOf(second).map(({ sequenceNumber }) => sequenceNumber)).toEqual(numbersOf(second));

    // A kill under way: the device sends on, the reader reads on, both over connections that break.
    const sending = sendSome(60);
    await waitFor(() => acknowledged > 50);
    await hub.kill('SIGKILL');
    hub = await start();
    await sending;
    await waitFor(() => new Set(numbersOf(second)).has(89), { timeoutMs: 60_000, what: 'the last one' });
    const all = eventsOf(second);
    // The device may have sent one again whose acknowledgement the kill cut off; the reader has each number once, in order.
    expect(new Set(all.map(({ body }) => body.n))).toEqual(new Set(Array.from({ length: 70 }, (_, i) => 20 + i)));
    const sequence = all.map(({ sequenceNumber }) => sequenceNumber);
    expect(sequence).toEqual(Array.from(sequence, (_, i) => 20 + i));

    await isNoted(sequence.at(-1) ?? 0);
    await second.kill();
    await sendSome(1);
    const third = await read();
    await waitFor(() => numbersOf(third).length > 0, { timeoutMs: 20_000 });
    expect(numbersOf(third)).toEqual([90]);
  }, 180_000);
});

/** A bare client, with a will. */
async function connectWithWill(deviceId: string): Promise<MqttClient> {
  const client = await connectAsync({
    host: ADDRESS,
    port: MQTTS_PORT,
    protocol: 'mqtts',
    ca: hub.authority,
    servername: HUB_HOST_NAME,
    clientId: deviceId,
    username: `${HUB_HOST_NAME}/${deviceId}/?api-version=2021-04-12`,
    password: sasToken(`${HUB_HOST_NAME}/devices/${deviceId}`, KEY, 600),
    clean: true,
    reconnectPeriod: 0,
    will: { topic: `devices/${deviceId}/messages/events/`, payload: Buffer.from(deviceId), qos: 1, retain: false },
  });
  client.on('error', () => {});
  return client;
}

describe('wills', () => {
  it('of clients that were connected when the hub was killed are sent at its next start', async () => {
    for (const deviceId of ['left', 'gone', 'said-goodbye']) await create(deviceId);
    const goodbye = await connectWithWill('said-goodbye');
    await goodbye.endAsync();
    const left = await connectWithWill('left');
    const gone = await connectWithWill('gone');
    gone.stream.destroy();
    const willOf = (deviceId: string) => (event: WillEvent) =>
      event.body === deviceId && event.properties['iothub-MessageType'] === 'Will';
    const before = keep(startBackEnd({ hub }));
    await before.call('readEvents', { connectionString: hub.events });
    await before.nextEvent('event', willOf('gone'));
    await before.kill();
    await hub.kill('SIGKILL');
    left.end(true);
    hub = await start();
    const after = keep(startBackEnd({ hub }));
    await after.call('readEvents', { connectionString: hub.events });
    await after.nextEvent('event', willOf('left'));
    const bodies = after.events.filter(({ event }) => event === 'event').map(({ data }) => (data as WillEvent).body);
    // Of other partitions there may be more to come.
    expect(['gone', 'left']).toEqual(expect.arrayContaining(bodies));
  }, 120_000);
});

describe.each(['SIGTERM', 'SIGKILL'] as const)('after %s', (signal) => {
  it('devices on each transport come back by themselves', async () => {
    const transports = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws'] as const;
    const devices = new Map<string, SdkChild>();
    for (const transport of transports) {
      const connectionString = await create(transport);
      const device = keep(startDevice({ hub }));
      await device.call('open', connectionString, transport);
      await device.call('onCommands', 'complete');
      await send(device, 1);
      devices.set(transport, device);
    }
    await hub.kill(signal);
    hub = await start();
    const backEnd = keep(startBackEnd({ hub }));
    await backEnd.call('openClient', hub.owner);
    await Promise.all(
      Array.from(devices, async ([transport, device]) => {
        await backEnd.call('sendCommand', transport, { body: 'still there?' });
        await device.nextEvent('command', () => true, 60_000);
        await send(device, 2);
        expect(
          device.events.filter(({ event }) => event === 'disconnect'),
          transport,
        ).toEqual([]);
      }),
    );
  }, 120_000);
});
