// What every outbox must do, run for each implementation.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PROPERTY_FIELDPOST_EVENT, PROPERTY_FIELDPOST_ID, type StoredMessage } from '../../src/core/message.ts';
import type { DeviceId } from '../../src/core/device.ts';
import type { Lane, Outbox, OutboxEvent, OutboxQueue, OutboxSettings, QueueDefinition } from '../../src/core/outbox.ts';
import { formatOf } from '../../src/pipeline/encode.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { NEWS_INTERVAL_MS } from '../../src/store/limits.ts';
import type { OutboxOptions } from '../../src/store/options.ts';
import { message, timestamp } from '../support/builders.ts';
import { DROPPING } from '../support/outbox.ts';
import { PassingClock } from '../support/passing-clock.ts';
import { waitFor } from '../support/wait.ts';

export interface OutboxSubject {
  readonly name: string;
  /** A new, empty outbox. */
  create(options: OutboxOptions): Promise<Outbox>;
  /** Opens again what the closed outbox left; absent when nothing survives a close. */
  reopen?(options: OutboxOptions): Promise<Outbox>;
  end(): Promise<void>;
}

/** @throws when nothing survives a close: then no test of that is to be run. */
export function reopened(subject: OutboxSubject, options: OutboxOptions): Promise<Outbox> {
  if (subject.reopen === undefined) throw new Error(`Nothing of ${subject.name} survives a close.`);
  return subject.reopen(options);
}

const UPSTREAM: QueueDefinition = { name: '$upstream', takes: 'all', order: 'live_first' };

const ROUTED: QueueDefinition = { name: 'alarms', takes: 'routed', order: 'strict' };

function entry(text: string, options: { device?: string; queues?: readonly string[] } = {}) {
  return { message: message({ device: options.device ?? 'meter-1', text }), queues: options.queues ?? [] };
}

function text(stored: StoredMessage): string {
  return Buffer.from(stored.message.body).toString();
}

async function take(queue: OutboxQueue, count = 100, lane: Lane = 'live'): Promise<readonly StoredMessage[]> {
  return queue.take(lane, { maxMessages: count, maxBytes: 1e9 });
}

async function accept(queue: OutboxQueue, messages: readonly StoredMessage[]): Promise<void> {
  await queue.settle(messages.map(({ offset }) => ({ offset, outcome: 'accepted' })));
}

/** @param survives whether what is closed can be opened again. */
export function describeOutbox(start: () => Promise<OutboxSubject>, survives: boolean): void {
  let subject: OutboxSubject;
  let outbox: Outbox;
  let events: OutboxEvent[];
  let clock: PassingClock;

  function options(changes: {
    settings?: Partial<OutboxSettings>;
    queues?: readonly QueueDefinition[];
  }): OutboxOptions {
    return {
      gatewayId: 'gateway' as DeviceId,
      clock,
      random: systemRandom,
      settings: { ...DROPPING, ...changes.settings },
      queues: changes.queues ?? [UPSTREAM],
      onEvent: (event) => events.push(event),
    };
  }

  async function open(changes: Parameters<typeof options>[0] = {}): Promise<OutboxQueue> {
    outbox = await subject.create(options(changes));
    return outbox.queue('$upstream');
  }

  beforeEach(async () => {
    events = [];
    clock = new PassingClock();
    subject = await start();
  });
  afterEach(async () => {
    await outbox.close();
    await subject.end();
  });

  describe('append', () => {
    it('numbers offsets over all and seq for each device, from 1, without gaps', async () => {
      await open();
      const first = await outbox.append([entry('a', { device: 'x' }), entry('b', { device: 'y' })]);
      const second = await outbox.append([entry('c', { device: 'x' })]);
      expect([...first, ...second]).toEqual([
        { offset: 0, seq: 1 },
        { offset: 1, seq: 1 },
        { offset: 2, seq: 2 },
      ]);
    });

    it('gives every part of a message back', async () => {
      const queue = await open();
      const sent = message({
        hubId: 'hub-1',
        moduleId: 'module-1',
        text: 'körper\0',
        properties: { level: 'alarm', größe: '✓', __proto__x: '1', '': 'empty name' },
        systemProperties: { correlationId: 'c', userId: 'u', contentType: 'text/plain', messageSchema: 's', to: '/t' },
        time: timestamp({ bootId: 'another-boot', monotonicMs: 12.5, clock: 'restored' }),
      });
      await outbox.append([{ message: sent, queues: [] }]);
      const [stored] = await take(queue);
      expect(stored).toMatchObject({ offset: 0, seq: 1, epoch: outbox.epoch, messageId: `${outbox.epoch}.meter-1.1` });
      expect({ ...stored?.message, body: Buffer.from(stored?.message.body ?? []) }).toEqual(sent);
    });

    it('keeps the own id of a message and adds ours as a property', async () => {
      const queue = await open();
      await outbox.append([{ message: message({ systemProperties: { messageId: 'mine' } }), queues: [] }]);
      const [stored] = await take(queue);
      expect(stored?.messageId).toBe('mine');
      expect(stored?.message.properties).toEqual({ [PROPERTY_FIELDPOST_ID]: `${outbox.epoch}.meter-1.1` });
    });

    it('inserts epoch and seq into polled bodies and keeps the place of time', async () => {
      const queue = await open();
      const polled = formatOf('json').single({
        deviceId: 'meter-1' as DeviceId,
        time: timestamp(),
        readings: [{ point: 'voltage', value: 230.1, quality: { level: 'good' } }],
      });
      await outbox.append([{ message: polled, queues: [] }]);
      const [stored] = await take(queue);
      if (stored === undefined) throw new Error('nothing taken');
      expect(text(stored)).toBe(
        `{"device":"meter-1","time":"2026-01-02T03:04:05.678Z","epoch":"${outbox.epoch}","seq":1,"values":{"voltage":230.1}}`,
      );
      expect(stored.message.stamps?.identityAt).toBeUndefined();
      const at = stored.message.stamps?.timeAt ?? 0;
      expect(text(stored).slice(at, at + 24)).toBe('2026-01-02T03:04:05.678Z');
    });

    it('takes messages of any size up to the limit, and many in one commit', async () => {
      const queue = await open();
      const sizes = [0, 1, 70_000, 200_000, 262_144];
      await outbox.append(sizes.map((size) => entry('x'.repeat(size))));
      await outbox.append(Array.from({ length: 5000 }, (_, index) => entry(`é${index}`)));
      const taken: StoredMessage[] = [];
      for (let batch = await take(queue, 700); batch.length > 0; batch = await take(queue, 700)) taken.push(...batch);
      expect(taken.slice(0, 5).map(({ message: { body } }) => body.length)).toEqual(sizes);
      expect(taken.slice(5).map(text)).toEqual(Array.from({ length: 5000 }, (_, index) => `é${index}`));
    });

    it('refuses what is too large, and what comes after an abort or a close', async () => {
      await open();
      await expect(outbox.append([entry('x'.repeat(262_145))])).rejects.toMatchObject({ code: 'GW_MESSAGE_INVALID' });
      await expect(outbox.append([entry('x')], { signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: 'GW_ABORTED',
      });
      await outbox.close();
      await expect(outbox.append([entry('x')])).rejects.toMatchObject({ code: 'GW_STORE_CLOSED' });
      await outbox.close();
    });

    it('lets polls gather while acknowledged messages do not wait', async () => {
      await open({ settings: { pollCommitIntervalMs: 60_000 } });
      let polled = false;
      const poll = outbox.append([entry('poll')], { class: 'poll' }).then(() => {
        polled = true;
      });
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      expect(polled).toBe(false);
      await outbox.append([entry('acknowledged')]);
      await poll;
      expect(outbox.stats().tailOffset).toBe(2);
    });
  });

  describe('take and settle', () => {
    it('leases in order, never twice, and gives what was returned first', async () => {
      const queue = await open();
      await outbox.append(['a', 'b', 'c', 'd'].map((letter) => entry(letter)));
      expect((await take(queue, 2)).map(text)).toEqual(['a', 'b']);
      expect((await take(queue, 1)).map(text)).toEqual(['c']);
      await queue.settle([
        { offset: 1, outcome: 'retry' },
        { offset: 2, outcome: 'accepted' },
        { offset: 0, outcome: 'retry' },
      ]);
      expect((await take(queue)).map(text)).toEqual(['a', 'b', 'd']);
      expect(await take(queue)).toEqual([]);
      expect(queue.stats()).toMatchObject({ messages: 3, inFlight: 3, acceptedTotal: 1 });
    });

    it('settles neighbours as one, and of them only what is leased', async () => {
      const queue = await open();
      await outbox.append(['a', 'b', 'c', 'd', 'e'].map((letter) => entry(letter)));
      expect(await take(queue, 4)).toHaveLength(4);
      await queue.settle([{ offset: 1, outcome: 'accepted' }]);
      await queue.settle([{ offset: 0, outcome: 'accepted', count: 3 }]);
      expect(queue.stats()).toMatchObject({ messages: 2, inFlight: 1, acceptedTotal: 3 });
      await queue.settle([{ offset: 3, outcome: 'accepted', count: 2 }]);
      expect((await take(queue)).map(text)).toEqual(['e']);
    });

    it('passes over what was given back below an offset, and gives it later', async () => {
      const queue = await open();
      await outbox.append(['a', 'b', 'c', 'd'].map((name) => entry(name)));
      const offsets = (await take(queue, 3)).map(({ offset }) => offset);
      await queue.settle(offsets.map((offset) => ({ offset, outcome: 'retry' })));
      const look = { maxMessages: 10, maxBytes: 1e9, returnedFrom: (offsets[1] ?? 0) + 1 };
      expect((await queue.take('live', look)).map(text)).toEqual(['c', 'd']);
      expect((await take(queue)).map(text)).toEqual(['a', 'b']);
    });

    it('gives at least one message however small the limit', async () => {
      const queue = await open();
      await outbox.append([entry('x'.repeat(1000)), entry('y')]);
      expect(await queue.take('live', { maxMessages: 5, maxBytes: 10 })).toHaveLength(1);
    });

    it('ignores a settlement of what is not leased', async () => {
      const queue = await open();
      await outbox.append([entry('a')]);
      await queue.settle([{ offset: 0, outcome: 'accepted' }]);
      await queue.settle([{ offset: 7, outcome: 'rejected', reason: 'never seen' }]);
      expect((await take(queue)).map(text)).toEqual(['a']);
    });

    it('says when there is something to take', async () => {
      const queue = await open();
      const stop = new AbortController();
      const waiting = queue.available('live', stop.signal);
      await outbox.append([entry('a')]);
      await waiting;
      await queue.available('live', stop.signal);
      await take(queue);
      const never = queue.available('live', stop.signal);
      stop.abort();
      await expect(never).rejects.toMatchObject({ code: 'GW_ABORTED' });
    });

    it('moves what is rejected to the quarantine, with an event, and sends it again on request', async () => {
      const queue = await open({ queues: [UPSTREAM, { ...UPSTREAM, name: 'second' }] });
      await outbox.append([entry('bad')]);
      await take(queue);
      await queue.settle([{ offset: 0, outcome: 'rejected', reason: 'schema' }]);
      expect(events.filter(({ kind }) => kind === 'quarantined')).toEqual([
        { kind: 'quarantined', reason: 'schema', deviceId: 'meter-1', epoch: outbox.epoch, seq: 1, queue: '$upstream' },
      ]);
      const [quarantined] = await outbox.quarantined({ limit: 10 });
      expect(quarantined).toMatchObject({
        queue: '$upstream',
        reason: 'schema',
        stored: { messageId: `${outbox.epoch}.meter-1.1` },
      });
      const [event] = await take(queue);
      expect(event?.message.properties).toEqual({ [PROPERTY_FIELDPOST_EVENT]: 'quarantined' });
      expect(await outbox.requeue([quarantined?.id ?? '', 'nonsense', '99'])).toBe(1);
      const again = await take(queue);
      expect(again.map(text)).toEqual(['bad']);
      expect(again[0]).toMatchObject({ messageId: `${outbox.epoch}.meter-1.1`, seq: 1 });
      // No number is used up that nobody would ever see.
      expect(await outbox.append([entry('next')])).toMatchObject([{ seq: 2 }]);
      // For its own queue alone: the other one has the first copy and the event.
      expect((await take(outbox.queue('second'))).map(({ offset }) => offset)).toEqual([0, 1, 3]);
      expect(outbox.stats().quarantined).toBe(0);
      await queue.settle([{ offset: again[0]?.offset ?? -1, outcome: 'rejected', reason: 'schema' }]);
      const [second] = await outbox.quarantined({ limit: 10 });
      expect(await outbox.discard([second?.id ?? ''])).toBe(1);
      expect(events.filter(({ kind }) => kind === 'dropped')).toMatchObject([{ reason: 'purged', queue: '$upstream' }]);
    });
  });

  describe('lanes', () => {
    it('lets fresh messages overtake the history after a split', async () => {
      const queue = await open();
      await outbox.append([entry('h1'), entry('h2'), entry('h3')]);
      const [first] = await take(queue, 1);
      queue.split();
      await outbox.append([entry('l1')]);
      expect((await take(queue, 10)).map(text)).toEqual(['l1']);
      await queue.settle([{ offset: first?.offset ?? -1, outcome: 'retry' }]);
      expect(queue.stats()).toMatchObject({ history: { messages: 3 }, live: { messages: 1 } });
      expect((await take(queue, 10, 'history')).map(text)).toEqual(['h1', 'h2', 'h3']);
    });

    it('has one lane only on a strict queue', async () => {
      await open({ queues: [UPSTREAM, { ...UPSTREAM, name: 'strict', order: 'strict' }] });
      const queue = outbox.queue('strict');
      await outbox.append([entry('a')]);
      queue.split();
      await outbox.append([entry('b')]);
      expect((await take(queue)).map(text)).toEqual(['a', 'b']);
    });

    it('gives everything after splits in the middle of a history', async () => {
      const queue = await open();
      await outbox.append([entry('a')]);
      queue.split();
      await outbox.append([entry('b')]);
      const [live] = await take(queue);
      queue.split();
      await queue.settle([{ offset: live?.offset ?? -1, outcome: 'retry' }]);
      expect((await take(queue, 10, 'history')).map(text)).toEqual(['a', 'b']);
    });
  });

  describe('queues', () => {
    it('gives a routed queue what names it, and frees space for it too', async () => {
      await open({ queues: [UPSTREAM, ROUTED] });
      const routed = outbox.queue('alarms');
      for (let index = 0; index < 50; index += 1) {
        await outbox.append([entry(String(index), { queues: index % 7 === 0 ? ['alarms'] : [] })]);
      }
      const all = await take(outbox.queue('$upstream'));
      await accept(outbox.queue('$upstream'), all);
      expect(routed.stats().messages).toBe(8);
      const first = await take(routed, 3);
      expect(first.map(text)).toEqual(['0', '7', '14']);
      await accept(routed, first);
      expect(outbox.stats().headOffset).toBeGreaterThan(14);
      expect((await take(routed)).map(text)).toEqual(['21', '28', '35', '42', '49']);
      expect((await outbox.browse({ queue: 'alarms', limit: 10 })).map(text)).toEqual(['21', '28', '35', '42', '49']);
    });

    it('keeps a backlog as it was taken when a queue takes something else from now on', async () => {
      await open({ queues: [UPSTREAM, ROUTED] });
      await outbox.append([entry('1'), entry('2', { queues: ['alarms'] })]);
      await outbox.setQueues([UPSTREAM, { ...ROUTED, takes: 'all' }]);
      await outbox.append([entry('3')]);
      await outbox.setQueues([UPSTREAM, ROUTED]);
      await outbox.append([entry('4'), entry('5', { queues: ['alarms'] })]);
      const routed = outbox.queue('alarms');
      expect(routed.stats().messages).toBe(3);
      expect((await outbox.browse({ queue: 'alarms', limit: 10 })).map(text)).toEqual(['2', '3', '5']);
      expect((await take(routed)).map(text)).toEqual(['2', '3', '5']);
    });

    it('begins a new queue at the tail, and keeps one that is not configured any more until it is purged', async () => {
      await open({ queues: [UPSTREAM, { ...UPSTREAM, name: 'old' }] });
      await outbox.append([entry('a')]);
      await outbox.setQueues([UPSTREAM, { ...UPSTREAM, name: 'new' }]);
      expect(outbox.queue('old').stats()).toMatchObject({ messages: 1, detached: true });
      expect(outbox.queue('new').stats()).toMatchObject({ messages: 0, detached: false });
      await outbox.append([entry('b')]);
      expect((await take(outbox.queue('new'))).map(text)).toEqual(['b']);
      expect(await outbox.purge('old')).toBe(2);
      expect(() => outbox.queue('old')).toThrow(expect.objectContaining({ code: 'GW_NOT_FOUND' }));
      expect(events.filter(({ kind }) => kind === 'dropped')).toMatchObject([
        { reason: 'purged', from: 1, to: 2, queue: 'old', count: 2 },
      ]);
    });

    it('tells what a flooded queue loses in few messages, and leaves the others theirs', async () => {
      await open({ queues: [UPSTREAM, { ...UPSTREAM, name: 'dead', maxBytes: 100_000 }] });
      for (let index = 0; index < 150; index += 1) {
        await outbox.append(Array.from({ length: 10 }, () => entry('x'.repeat(256))));
      }
      const { droppedTotal } = outbox.queue('dead').stats();
      expect(droppedTotal).toBeGreaterThan(1000);
      const told = events.filter(({ kind }) => kind === 'dropped');
      expect(told.length / droppedTotal).toBeLessThan(0.1);
    });

    it('purges more than one commit takes', async () => {
      const queue = await open();
      for (let index = 0; index < 20; index += 1) {
        await outbox.append(Array.from({ length: 4000 }, () => entry('x')));
      }
      expect(await outbox.purge('$upstream')).toBe(80_000);
      const purged = events.filter((event) => event.kind === 'dropped');
      expect(purged.reduce((sum, { count }) => sum + count, 0)).toBe(80_000);
      expect(purged.length).toBeGreaterThan(1);
      expect(queue.stats().messages).toBeLessThanOrEqual(purged.length);
    });

    it('takes a queue over its own quota its oldest, and no other queue anything', async () => {
      await open({ queues: [UPSTREAM, { ...UPSTREAM, name: 'small', maxBytes: 5000 }] });
      for (let index = 0; index < 20; index += 1) await outbox.append([entry(`${index}`.padEnd(500))]);
      expect(outbox.queue('small').stats().bytes).toBeLessThanOrEqual(5000);
      const kept = (await outbox.browse({ queue: 'small', limit: 100 })).filter(
        ({ message: { deviceId } }) => deviceId === 'meter-1',
      );
      expect(text(kept.at(-1) as StoredMessage).trim()).toBe('19');
      const upstream = await outbox.browse({ queue: '$upstream', limit: 100 });
      expect(upstream.filter(({ message: { deviceId } }) => deviceId === 'meter-1')).toHaveLength(20);
      const lost = events.filter((event) => event.kind === 'dropped');
      expect(lost.every((event) => event.queue === 'small' && event.reason === 'queue_max_bytes')).toBe(true);
    });
  });

  describe('limits', () => {
    it('drops the oldest, tells each range once, and writes it into the log', async () => {
      const queue = await open({ settings: { maxBytes: 20_000 } });
      for (let index = 0; index < 100; index += 1)
        await outbox.append([entry(`${index}`.padEnd(500), { device: `d${index % 2}` })]);
      expect(outbox.stats().bytes).toBeLessThanOrEqual(21_000);
      const lost = new Set<string>();
      for (const event of events) {
        if (event.kind !== 'dropped' || event.deviceId === 'gateway') continue;
        for (let seq = event.from ?? 0; seq <= (event.to ?? -1); seq += 1) {
          expect(lost.has(`${event.deviceId} ${seq}`)).toBe(false);
          lost.add(`${event.deviceId} ${seq}`);
        }
      }
      const kept = await take(queue, 1000);
      const own = kept.filter(({ message: { deviceId } }) => deviceId !== 'gateway');
      expect(lost.size + own.length).toBe(100);
      for (const {
        message: { deviceId },
        seq,
      } of own)
        expect(lost.has(`${deviceId} ${seq}`)).toBe(false);
      clock.pass(NEWS_INTERVAL_MS);
      await outbox.append([entry('more')]);
      const told = (await take(queue, 1000)).filter(
        ({ message: { properties } }) => properties[PROPERTY_FIELDPOST_EVENT] === 'dropped',
      );
      expect(told.length).toBeGreaterThan(0);
      expect(JSON.parse(text(told[0] as StoredMessage))).toMatchObject({
        event: 'dropped',
        epoch: outbox.epoch,
        reason: 'max_bytes',
      });
    });

    describe('tells what a queue loses for a while together', () => {
      const DEAD = { ...UPSTREAM, name: 'dead', maxBytes: 20_000 };
      const flood = async (count: number): Promise<void> => {
        for (let index = 0; index < count; index += 1) {
          await outbox.append(Array.from({ length: 10 }, (_, at) => entry('x'.repeat(256), { device: `d${at}` })));
        }
      };
      /** What messages in `$upstream` say to be lost, as `device seq`, and how many messages that takes. */
      const told = async (): Promise<{ lost: Set<string>; messages: number }> => {
        const lost = new Set<string>();
        let messages = 0;
        for (const stored of await outbox.browse({ queue: '$upstream', limit: 10_000 })) {
          if (stored.message.properties[PROPERTY_FIELDPOST_EVENT] !== 'dropped') continue;
          messages += 1;
          const { device, from, to } = JSON.parse(text(stored)) as { device: string; from: number; to: number };
          for (let seq = from; seq <= to; seq += 1) if (device !== 'gateway') lost.add(`${device} ${seq}`);
        }
        return { lost, messages };
      };
      const emitted = (): Set<string> => {
        const lost = new Set<string>();
        for (const event of events) {
          if (event.kind !== 'dropped' || event.deviceId === 'gateway') continue;
          for (let seq = event.from ?? 0; seq <= (event.to ?? -1); seq += 1) lost.add(`${event.deviceId} ${seq}`);
        }
        return lost;
      };

      it('the first at once, then no more than once an interval, also when nothing comes in any more', async () => {
        await open({ queues: [UPSTREAM, DEAD] });
        await flood(10);
        const first = await told();
        expect(first.lost.size).toBeGreaterThan(0);
        expect(first.messages).toBeLessThanOrEqual(11);
        await flood(100);
        // The listener has heard of each already.
        expect(emitted().size).toBeGreaterThan(900);
        expect((await told()).messages).toBe(first.messages);
        expect(outbox.stats().untoldLosses).toBeGreaterThan(0);
        clock.pass(NEWS_INTERVAL_MS);
        await waitFor(() => outbox.stats().untoldLosses === 0);
        const all = await told();
        expect(all.messages).toBeLessThanOrEqual(first.messages + 11);
        for (const each of emitted()) expect(all.lost.has(each), each).toBe(true);
      });

      it('at once when it would be too many', async () => {
        await open({ queues: [UPSTREAM, DEAD] });
        await flood(10);
        const before = (await told()).messages;
        const devices = Array.from({ length: 400 }, (_, at) => entry('x'.repeat(256), { device: `many-${at}` }));
        await outbox.append(devices);
        await outbox.append(devices);
        expect((await told()).messages).toBeGreaterThan(before + 256);
        expect(outbox.stats().untoldLosses).toBeLessThan(256);
      });

      if (!survives) return;
      it('also over a restart', async () => {
        await open({ queues: [UPSTREAM, DEAD] });
        await flood(40);
        const { untoldLosses } = outbox.stats();
        expect(untoldLosses).toBeGreaterThan(0);
        await outbox.close();
        outbox = await reopened(subject, options({ queues: [UPSTREAM, DEAD] }));
        expect(outbox.stats().untoldLosses).toBe(untoldLosses);
        await waitFor(() => outbox.stats().untoldLosses === 0);
        const all = await told();
        for (const each of emitted()) expect(all.lost.has(each), each).toBe(true);
      });
    });

    it.each(['reject', 'drop_newest'] as const)(
      'refuses with %s before the acknowledgement, and goes on when there is room',
      async (whenFull) => {
        const queue = await open({ settings: { maxBytes: 10_000, whenFull } });
        let stored = 0;
        let refused = 0;
        for (let index = 0; index < 40; index += 1) {
          try {
            await outbox.append([entry('x'.repeat(500))]);
            stored += 1;
          } catch (error) {
            expect(error).toMatchObject({ code: 'GW_OUTBOX_FULL', details: { policy: whenFull } });
            refused += 1;
          }
        }
        expect(stored).toBeGreaterThan(10);
        expect(refused).toBeGreaterThan(10);
        expect(outbox.stats().full).toBe(true);
        expect(outbox.queue('$upstream').stats().messages).toBe(stored);
        await accept(queue, await take(queue));
        await outbox.append([entry('room again')]);
        await waitFor(() => !outbox.stats().full);
        if (whenFull === 'reject') {
          expect(events.some(({ kind }) => kind === 'dropped')).toBe(false);
          return;
        }
        expect(events.filter(({ kind }) => kind === 'dropped')).toEqual([
          { kind: 'dropped', reason: 'outbox_full', deviceId: 'meter-1', epoch: outbox.epoch, count: refused },
        ]);
        const told = (await take(queue)).find(
          ({ message: { properties } }) => properties[PROPERTY_FIELDPOST_EVENT] === 'dropped',
        );
        expect(JSON.parse(text(told as StoredMessage))).toMatchObject({
          device: 'meter-1',
          count: refused,
          reason: 'outbox_full',
        });
      },
    );

    it('tells the listener and the log of what its caller could not keep, by device and reason', async () => {
      const queue = await open();
      const { deviceId } = entry('x').message;
      outbox.reportLost([
        { deviceId, count: 2, reason: 'busy' },
        { deviceId, count: 3, reason: 'busy' },
      ]);
      outbox.reportLost([{ deviceId, count: 1, reason: 'store_error' }]);
      await outbox.append([entry('next')]);
      const told = (await take(queue))
        .filter(({ message: { properties } }) => properties[PROPERTY_FIELDPOST_EVENT] === 'dropped')
        .map((stored) => JSON.parse(text(stored)) as unknown);
      expect(told).toMatchObject([
        { device: 'meter-1', count: 5, reason: 'busy' },
        { device: 'meter-1', count: 1, reason: 'store_error' },
      ]);
      expect(events.filter(({ kind }) => kind === 'dropped')).toMatchObject([{ count: 5 }, { count: 1 }]);
    });

    it('expires what is too old, and tells it again until somebody hears it', { timeout: 20_000 }, async () => {
      const queue = await open({ settings: { maxAgeSecs: 1 } });
      await outbox.append([entry('a'), entry('b')]);
      const lost = (): readonly OutboxEvent[] => events.filter(({ kind }) => kind === 'dropped');
      await waitFor(() => lost().length > 0);
      expect(lost()).toMatchObject([{ reason: 'max_age', from: 1, to: 2, count: 2 }]);
      // The news of it expires too, once at least.
      await waitFor(() => lost().some((event) => event.kind === 'dropped' && event.deviceId === 'gateway'));
      expect(outbox.stats().untoldLosses).toBeGreaterThan(0);
      clock.pass(NEWS_INTERVAL_MS);
      await waitFor(async () => {
        const told = await take(queue);
        await accept(queue, told);
        return told.some((stored) => text(stored).includes('"device":"meter-1","epoch"'));
      });
      expect(lost().filter((event) => event.kind === 'dropped' && event.deviceId === 'meter-1')).toHaveLength(1);
      await waitFor(() => outbox.stats().messages === 0);
    });
  });

  describe('clock offsets', () => {
    it('remembers a bounded number of boots', async () => {
      await open();
      for (let boot = 0; boot < 70; boot += 1) await outbox.recordClockOffset(`boot-${boot}`, boot);
      expect(outbox.clockOffset('boot-69')).toBe(69);
      expect(outbox.clockOffset('boot-0')).toBeUndefined();
    });
  });

  if (!survives) return;
  describe('close and reopen', () => {
    it('keeps everything but the leases', async () => {
      const queue = await open({ queues: [UPSTREAM, ROUTED] });
      const { epoch } = outbox;
      await outbox.append(
        ['a', 'b', 'c', 'd', 'e'].map((letter) => entry(letter, { queues: letter === 'd' ? ['alarms'] : [] })),
      );
      await take(queue, 4);
      await queue.settle([
        { offset: 1, outcome: 'accepted' },
        { offset: 3, outcome: 'rejected', reason: 'bad' },
      ]);
      await outbox.recordClockOffset('boot-1', 42);
      await outbox.close();
      outbox = await reopened(subject, options({ queues: [UPSTREAM, ROUTED] }));
      expect(outbox.epoch).toBe(epoch);
      // Totals begin anew: a crash would take the last second off those that were kept, and a counter never goes back.
      expect(outbox.stats()).toMatchObject({ appendedTotal: 0, droppedTotal: 0 });
      expect(outbox.queue('$upstream').stats()).toMatchObject({ acceptedTotal: 0, quarantinedTotal: 0 });
      expect(outbox.clockOffset('boot-1')).toBe(42);
      expect((await outbox.quarantined({ limit: 5 })).map(({ stored }) => text(stored))).toEqual(['d']);
      expect((await take(outbox.queue('$upstream'), 3)).map(text)).toEqual(['a', 'c', 'e']);
      expect((await take(outbox.queue('alarms'))).map(text)).toEqual(['d']);
      expect(await outbox.append([entry('f')])).toMatchObject([{ seq: 6 }]);
      expect(events.some(({ kind }) => kind === 'salvaged' || kind === 'dropped')).toBe(false);
    });

    it('makes what waits history again when the lanes were apart', async () => {
      const queue = await open();
      await outbox.append([entry('old')]);
      queue.split();
      await outbox.append([entry('newer')]);
      await outbox.close();
      outbox = await reopened(subject, options({}));
      await outbox.append([entry('fresh')]);
      expect((await take(outbox.queue('$upstream'))).map(text)).toEqual(['fresh']);
      expect((await take(outbox.queue('$upstream'), 10, 'history')).map(text)).toEqual(['old', 'newer']);
    });
  });
}
