// Back ends over AMQP on the unmodified SDKs: commands with feedback, and the built-in events.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceConnectionString, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';

interface Event {
  readonly body: { readonly n: number };
  readonly partition: string;
  readonly sequenceNumber: number;
  readonly offset: string;
  readonly enqueuedTimeUtc: string;
}

interface FeedbackRecord {
  readonly originalMessageId: string;
  readonly statusCode: string;
  readonly deviceId: string;
}

describe('back ends over AMQP', () => {
  // The SDK for Node does not encode ids in addresses.
  const deviceId = 'd%41';
  let directory: TempDir;
  let hub: HubDaemon;
  let backEnd: SdkChild;
  let device: SdkChild;

  beforeAll(async () => {
    directory = createTempDir('hub-amqp-service');
    hub = await startHubDaemon({
      address: '127.0.102.2',
      directory,
      hub: { amqp_port: 5672, events: { partitions: 2, consumer_groups: ['second'] } },
    });
    backEnd = startBackEnd({ hub });
    await backEnd.call('openRegistry', hub.owner);
    await backEnd.call('openClient', hub.owner);
    const made = (await backEnd.call('registry', 'create', { deviceId })) as {
      authentication: { symmetricKey: { primaryKey: string } };
    };
    device = startDevice({ hub });
    await device.call('open', deviceConnectionString(deviceId, made.authentication.symmetricKey.primaryKey), 'amqp');
  });

  afterAll(async () => {
    await device?.kill();
    await backEnd?.kill();
    await hub?.kill('SIGKILL');
    directory.remove();
  });

  describe('commands', () => {
    it('refuses one for a device that there is not, and the link goes on', async () => {
      const unknown = backEnd.call('sendCommand', 'nobody', { body: 'x' });
      await expect(unknown).rejects.toMatchObject({ name: 'DeviceNotFoundError' });
      const large = backEnd.call('sendCommand', deviceId, { body: 'x'.repeat(65 * 1024) });
      await expect(large).rejects.toMatchObject({ name: 'MessageTooLargeError' });
      const late = backEnd.call('sendCommand', deviceId, { body: 'x', system: { expiryTimeUtc: Date.now() - 1000 } });
      await expect(late).rejects.toMatchObject({ name: 'ArgumentError' });
    });

    it('takes fifty and refuses the next', async () => {
      for (let n = 0; n < 50; n += 1) await backEnd.call('sendCommand', deviceId, { body: `q${n}` });
      const over = backEnd.call('sendCommand', deviceId, { body: 'over' });
      await expect(over).rejects.toMatchObject({ name: 'DeviceMaximumQueueDepthExceededError' });
      await device.call('onCommands', 'none');
      for (let n = 0; n < 50; n += 1) {
        expect(await device.nextEvent('command')).toMatchObject({ body: `q${n}` });
      }
      for (let n = 0; n < 50; n += 1) await device.call('complete', `q${n}`);
    });

    it('delivers one again that the device abandoned', async () => {
      await backEnd.call('sendCommand', deviceId, { body: 'twice' });
      await device.nextEvent('command', ({ body }: { body: string }) => body === 'twice');
      await device.call('abandon', 'twice');
      await device.nextEvent('command', ({ body }: { body: string }) => body === 'twice');
      await device.call('complete', 'twice');
    });

    it('tells how they ended', async () => {
      await using reader = startBackEnd({ hub });
      await reader.call('openClient', hub.owner, 'amqp-ws');
      await reader.call('onFeedback');
      const asked = { full: 'full', positive: 'positive', negative: 'negative', unasked: 'negative' } as const;
      for (const [id, ack] of Object.entries(asked)) {
        await backEnd.call('sendCommand', deviceId, { body: id, system: { messageId: id, ack } });
        await device.nextEvent('command', ({ body }: { body: string }) => body === id);
        await device.call(id === 'negative' ? 'reject' : 'complete', id);
      }
      const records = await reader.nextEvent<readonly FeedbackRecord[]>('feedback', () => true, 30_000);
      expect(records.map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode])).toEqual([
        ['full', 'Success'],
        ['positive', 'Success'],
        ['negative', 'Rejected'],
      ]);
      expect(records[0]?.deviceId).toBe(deviceId);
    });
  });

  describe('events', () => {
    const sent = Array.from({ length: 20 }, (_, n) => n);
    let all: Event[] = [];

    async function take(reader: SdkChild, count: number): Promise<Event[]> {
      const events: Event[] = [];
      while (events.length < count) events.push(await reader.nextEvent<Event>('event'));
      return events;
    }

    beforeAll(async () => {
      for (const n of sent)
        await device.call('send', {
          body: JSON.stringify({ n }),
          system: { contentType: 'application/json', contentEncoding: 'utf-8' },
        });
      await using reader = startBackEnd({ hub });
      await reader.call('readEvents', { connectionString: hub.events });
      all = await take(reader, sent.length);
    });

    it('come in order, numbered without gaps', () => {
      expect(all.map(({ body }) => body.n)).toEqual(sent);
      expect(all.map(({ sequenceNumber }) => sequenceNumber)).toEqual(sent);
      expect(new Set(all.map(({ partition }) => partition)).size).toBe(1);
    });

    it('tell what there is', async () => {
      const info = (await backEnd.call('eventsInfo', { connectionString: hub.events })) as {
        hub: { name: string; partitionIds: string[] };
        partitions: readonly {
          partitionId: string;
          isEmpty: boolean;
          lastEnqueuedSequenceNumber: number;
          lastEnqueuedOffset: string;
        }[];
      };
      expect(info.hub).toMatchObject({ name: 'hub', partitionIds: ['0', '1'] });
      const used = info.partitions.find(({ isEmpty }) => !isEmpty);
      expect(used).toMatchObject({
        partitionId: all[0]?.partition,
        lastEnqueuedSequenceNumber: 19,
        lastEnqueuedOffset: all[19]?.offset,
      });
    });

    it.each([
      ['after an offset', (five: Event) => ({ offset: five.offset }), 6],
      ['at an offset', (five: Event) => ({ offset: five.offset, isInclusive: true }), 5],
      ['after a number', (five: Event) => ({ sequenceNumber: five.sequenceNumber }), 6],
      ['at a number', (five: Event) => ({ sequenceNumber: five.sequenceNumber, isInclusive: true }), 5],
    ])('are read from a position %s, in a group of its own', async (_what, position, first) => {
      await using reader = startBackEnd({ hub });
      const partition = all[5]?.partition;
      await reader.call('readEvents', {
        connectionString: hub.events,
        group: 'second',
        partition,
        from: position(all[5] as Event),
      });
      expect((await take(reader, sent.length - first)).map(({ body }) => body.n)).toEqual(sent.slice(first));
    });

    it('are read from a time', async () => {
      await using reader = startBackEnd({ hub });
      const partition = all[5]?.partition;
      const enqueuedOn = Date.parse(all[5]?.enqueuedTimeUtc ?? '') - 1;
      await reader.call('readEvents', { connectionString: hub.events, partition, from: { enqueuedOn } });
      const [first] = await take(reader, 1);
      expect(Date.parse(first?.enqueuedTimeUtc ?? '')).toBeGreaterThan(enqueuedOn);
      expect(first?.sequenceNumber).toBeLessThanOrEqual(5);
    });

    it.each([
      ['TLS', (hub: HubDaemon) => ({ connectionString: hub.events })],
      ['WebSockets', (hub: HubDaemon) => ({ connectionString: hub.events, webSockets: true })],
      [
        'plain TCP, as of an emulator',
        (hub: HubDaemon) => ({ connectionString: `${hub.events};UseDevelopmentEmulator=true` }),
      ],
    ])('that come now are read over %s', async (name, request) => {
      await using reader = startBackEnd({ hub });
      await reader.call('readEvents', { ...request(hub), from: 'latest' });
      // Until the reader is there, what is sent is not for it; how long that takes nobody can tell.
      let isThere = false;
      const sending = (async () => {
        for (let n = 1000; !isThere; n += 1) {
          await device.call('send', {
            body: JSON.stringify({ n, name }),
            system: { contentType: 'application/json', contentEncoding: 'utf-8' },
          });
        }
      })();
      const event = await reader.nextEvent<{ body: { name: string } }>('event').finally(() => (isThere = true));
      await sending;
      expect(event.body.name).toBe(name);
    });

    it('are taken over by a reader of a higher level, and by no lower one', async () => {
      await using low = startBackEnd({ hub });
      await using high = startBackEnd({ hub });
      const partition = all[0]?.partition;
      await low.call('readEvents', { connectionString: hub.events, partition, ownerLevel: 1 });
      await take(low, 3);
      await high.call('readEvents', { connectionString: hub.events, partition, ownerLevel: 2 });
      await take(high, 3);
      expect(await low.nextEvent('eventsError')).toMatchObject({
        message: expect.stringContaining('higher epoch') as unknown,
      });
      await using none = startBackEnd({ hub });
      await none.call('readEvents', { connectionString: hub.events, partition });
      await none.nextEvent('eventsError');
      await using lower = startBackEnd({ hub });
      await lower.call('readEvents', { connectionString: hub.events, partition, ownerLevel: 1 });
      await lower.nextEvent('eventsError');
    });

    it('refuse a group and an event hub that there are not', async () => {
      await using reader = startBackEnd({ hub });
      await reader.call('readEvents', { connectionString: hub.events, group: 'nobody', partition: '0' });
      expect(await reader.nextEvent('eventsError')).toMatchObject({
        message: expect.stringContaining('consumer group') as unknown,
      });
    });
  });
});
