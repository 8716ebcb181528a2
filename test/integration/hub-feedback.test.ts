// Feedback on cloud-to-device messages: every way in which one ends, over every transport of the device, read by `azure-iothub` over
// AMQP and WebSockets, and its locks on the wire.

import rhea from 'rhea';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAmqp, sasToken, type TestConnection, type TestReceiver } from '../support/amqp-client.ts';
import { curl } from '../support/curl.ts';
import { deviceConnectionString, HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.7';
const PORT = 5672;
const KEY = Buffer.alloc(32, 9).toString('base64');
/** The shortest that the service knows. */
const LOCK_SECS = 5;

interface Told {
  readonly originalMessageId: string;
  readonly statusCode: string;
  readonly description: string;
  readonly deviceId: string;
  readonly deviceGenerationId: string;
  readonly enqueuedTimeUtc: string;
}

type Ack = 'none' | 'positive' | 'negative' | 'full';

let directory: TempDir;
let hub: HubDaemon;
let backEnd: SdkChild;

beforeAll(async () => {
  directory = createTempDir('hub-feedback');
  const commands = { feedback_lock_secs: LOCK_SECS, max_delivery_count: 2 };
  hub = await startHubDaemon({ address: ADDRESS, directory, hub: { amqp_port: PORT, commands } });
  backEnd = startBackEnd({ hub });
  await backEnd.call('openRegistry', hub.owner);
  await backEnd.call('openClient', hub.owner);
});

afterAll(async () => {
  await backEnd?.kill();
  await hub?.kill('SIGKILL');
  directory.remove();
});

async function create(deviceId: string): Promise<void> {
  const authentication = { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: KEY } };
  await backEnd.call('registry', 'create', { deviceId, authentication });
}

const send = (deviceId: string, messageId: string, ack: Ack, more: object = {}): Promise<unknown> =>
  backEnd.call('sendCommand', deviceId, { body: messageId, system: { messageId, ack, ...more } });

/** What readers were told, by message. */
function recordsOf(...readers: readonly SdkChild[]): readonly Told[] {
  const events = readers.flatMap(({ events: all }) => all).filter(({ event }) => event === 'feedback');
  return events.flatMap(({ data }) => data as readonly Told[]);
}

describe('feedback', () => {
  it('tells how messages ended, of devices on each transport, to readers over AMQP and WebSockets', async () => {
    const readers = [startBackEnd({ hub }), startBackEnd({ hub })] as const;
    await using _0 = readers[0];
    await using _1 = readers[1];
    await readers[0].call('openClient', hub.owner, 'amqp');
    await readers[1].call('openClient', hub.owner, 'amqp-ws');
    for (const reader of readers) await reader.call('onFeedback');

    const expected = new Map<string, string>();
    for (const transport of ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'http'] as const) {
      const deviceId = `f-${transport}`;
      await create(deviceId);
      await using device = startDevice({ hub });
      await device.call('open', deviceConnectionString(deviceId, KEY), transport);
      if (transport === 'http') await device.call('setOptions', { interval: 1 });
      await device.call('onCommands', 'none');
      const come = (id: string): Promise<unknown> =>
        device.nextEvent('command', ({ body }: { body: string }) => body === id, 30_000);
      for (const ack of ['none', 'positive', 'negative', 'full'] as const) {
        const id = `${transport} completed ${ack}`;
        await send(deviceId, id, ack);
        await come(id);
        // The SDK acknowledges over MQTT by itself.
        await device.call('complete', id);
        if (ack === 'positive' || ack === 'full') expected.set(id, 'Success');
      }
      if (transport.startsWith('mqtt')) continue;
      for (const ack of ['positive', 'negative'] as const) {
        const id = `${transport} rejected ${ack}`;
        await send(deviceId, id, ack);
        await come(id);
        await device.call('reject', id);
        if (ack === 'negative') expected.set(id, 'Rejected');
      }
      const id = `${transport} abandoned`;
      await send(deviceId, id, 'negative');
      for (let i = 0; i < 2; i += 1) {
        await come(id);
        await device.call('abandon', id);
      }
      expected.set(id, 'DeliveryCountExceeded');
    }

    await create('absent');
    await send('absent', 'expired', 'full', { expiryTimeUtc: Date.now() + 1500 });
    await send('absent', 'purged', 'negative');
    await send('absent', 'purged quietly', 'positive');
    await waitFor(async () => {
      const { cloudToDeviceMessageCount } = (await backEnd.call('registry', 'get', 'absent')) as {
        cloudToDeviceMessageCount: number;
      };
      return cloudToDeviceMessageCount === 2;
    });
    const authorization = `Authorization: ${sasToken(HUB_HOST_NAME, hub.ownerKey, 600, 'iothubowner')}`;
    const purge = '/devices/absent/commands?api-version=2021-04-12';
    const { body } = await curl(hub, purge, ['--request', 'DELETE', '--header', authorization]);
    expect(JSON.parse(body)).toMatchObject({ totalMessagesPurged: 2 });
    expected.set('expired', 'Expired').set('purged', 'Purged');

    await waitFor(() => recordsOf(...readers).length >= expected.size, {
      timeoutMs: 40_000,
      everyMs: 100,
      what: 'all feedback',
    });
    const records = recordsOf(...readers);
    const byId = records.map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode] as const);
    expect(new Map(byId)).toEqual(expected);
    // Each once: readers share what there is.
    expect(byId).toHaveLength(expected.size);
    const { generationId } = (await backEnd.call('registry', 'get', 'f-mqtt')) as { generationId: string };
    const one = records.find(({ deviceId }) => deviceId === 'f-mqtt');
    expect(one).toMatchObject({ statusCode: 'Success', description: 'Success', deviceGenerationId: generationId });
    expect(Math.abs(Date.parse(one?.enqueuedTimeUtc ?? '') - Date.now())).toBeLessThan(120_000);
  }, 180_000);
});

describe('a batch of feedback', () => {
  const { message: states } = rhea as unknown as {
    message: Readonly<Record<'accepted' | 'released' | 'rejected', () => { described(): unknown }>>;
  };
  const settle = (
    { delivery }: Awaited<ReturnType<TestReceiver['at']>>,
    how: 'accepted' | 'released' | 'rejected',
  ): void => delivery.update(true, states[how]().described());
  const textOf = ({ message }: Awaited<ReturnType<TestReceiver['at']>>): string =>
    (message.body as { content: Buffer }).content.toString();

  async function open(): Promise<TestConnection> {
    const client = await connectAmqp({ host: ADDRESS, port: PORT, hostName: HUB_HOST_NAME });
    const token = sasToken(HUB_HOST_NAME, hub.ownerKey, 3600, 'iothubowner');
    expect(await client.putToken(HUB_HOST_NAME, token)).toBe(200);
    return client;
  }

  /** Ends 64 messages, which are a batch at once. */
  async function batch(deviceId: string): Promise<void> {
    await create(deviceId);
    for (let n = 0; n < 64; n += 32) {
      for (let i = 0; i < 32; i += 1) await send(deviceId, `${deviceId}-${n + i}`, 'negative');
      const authorization = `Authorization: ${sasToken(HUB_HOST_NAME, hub.ownerKey, 600, 'iothubowner')}`;
      await curl(hub, `/devices/${deviceId}/commands?api-version=2021-04-12`, ['-X', 'DELETE', '-H', authorization]);
    }
  }

  it('comes as C# reads it, again when it is released, given up or its lock is over, and never after it was taken', async () => {
    using one = await open();
    using two = await open();
    const options = { autoaccept: false, rcv_settle_mode: 1, credit_window: 0 };
    const address = '/messages/serviceBound/feedback';
    const first = await one.receiver(address, options);
    first.link.add_credit(1);
    await batch('b1');
    const delivered = await first.at(0);
    expect(delivered.delivery.tag).toHaveLength(16);
    expect(delivered.message).toMatchObject({
      content_type: 'application/vnd.microsoft.iothub.feedback.json',
      user_id: Buffer.from('hub'),
      message_annotations: { 'iothub-enqueuedtime': expect.any(Date) as unknown },
    });
    const text = textOf(delivered);
    expect(JSON.parse(text)).toHaveLength(64);

    // Released: it comes again to whoever has credit.
    settle(delivered, 'released');
    const second = await two.receiver(address, options);
    second.link.add_credit(1);
    const again = await second.at(0);
    expect(textOf(again)).toBe(text);
    // Its reader goes away without a word.
    second.link.close();
    first.link.add_credit(1);
    const third = await first.at(1);
    expect(textOf(third)).toBe(text);
    // Its lock runs out, and what is said after that is too late.
    const lockedMs = performance.now();
    first.link.add_credit(1);
    const fourth = await first.at(2);
    expect(performance.now() - lockedMs).toBeGreaterThan(LOCK_SECS * 1000 - 500);
    expect(textOf(fourth)).toBe(text);
    settle(third, 'accepted');
    settle(fourth, 'accepted');
    await batch('b2');
    first.link.add_credit(1);
    const other = await first.at(3);
    const idsOf = (batchText: string): readonly string[] =>
      (JSON.parse(batchText) as readonly Told[]).map(({ originalMessageId }) => originalMessageId);
    const taken = new Set(idsOf(text));
    expect(idsOf(textOf(other)).filter((id) => taken.has(id))).toEqual([]);
    settle(other, 'rejected');
  }, 120_000);
});
