// The short way of publishes through the broker for leaf devices: byte streams cut anywhere, against the way through the
// library, which every publish takes while somebody subscribes to everything.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import mqtt from 'mqtt';
import { generate, type Packet } from 'mqtt-packet';
import { afterEach, describe, expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import type { AdapterContext } from '../../src/core/adapter.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { Message } from '../../src/core/message.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { record, type Recording } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.93.1';
const NEVER = new AbortController().signal;
const PUBACK = 4;
const LAST_ID = 65_535;
const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Rig extends Recording {
  readonly port: number;
}

async function startBroker(settings: object = {}, fields: Partial<AdapterContext> = {}): Promise<Rig> {
  const port = await freePort(ADDRESS);
  const recording = record(fields);
  const config = mqttConfig.parse({
    listen: { address: ADDRESS, port },
    anonymous: 'loopback',
    max_messages_per_sec: 0,
    max_connects_per_sec: 0,
    topics: [{ topic: 'sensors/{device_id}/telemetry' }],
    ...settings,
  });
  const adapter = createMqttAdapter(config, recording.context);
  await adapter.start(NEVER);
  ends.push(() => adapter.stop(NEVER));
  return { ...recording, port };
}

/** A device at the byte level. */
interface Device {
  readonly socket: Socket;
  /** Identifiers of PUBACKs, in the order of their arrival. */
  readonly acknowledged: number[];
  /** Packet types of everything else. */
  readonly others: number[];
  readonly closed: Promise<unknown>;
  send(...packets: readonly Buffer[]): Promise<void>;
}

/** A store that takes nothing while it is told so. */
function refusingStore(refuses: boolean) {
  const messages: Message[] = [];
  const store = {
    refuses,
    messages,
    fields: {
      publishMessages: (added: readonly Message[]): Promise<void> =>
        store.refuses
          ? Promise.reject(new GatewayError('GW_OUTBOX_BUSY', 'busy'))
          : Promise.resolve(void messages.push(...added)),
    },
  };
  return store;
}

async function connectDevice(
  { port }: Rig,
  clientId: string,
  { keepalive = 0, will }: { readonly keepalive?: number; readonly will?: string } = {},
): Promise<Device> {
  const socket = connect({ host: ADDRESS, port, noDelay: true });
  socket.on('error', () => {});
  ends.push(() => socket.destroy());
  const acknowledged: number[] = [];
  const others: number[] = [];
  let rest = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    // Nothing that a broker sends here is longer than 127 bytes.
    while (rest.length >= 2 && rest.length >= 2 + (rest[1] ?? 0)) {
      const type = (rest[0] ?? 0) >> 4;
      if (type === PUBACK) acknowledged.push(rest.readUInt16BE(2));
      else others.push(type);
      rest = rest.subarray(2 + (rest[1] ?? 0));
    }
  });
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  const last = will !== undefined && {
    will: { topic: will, payload: Buffer.from('the will'), qos: 0 as const, retain: false },
  };
  const hello = { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId, keepalive } as const;
  socket.write(generate({ ...hello, ...last }));
  await waitFor(() => others.length === 1, { everyMs: 1, what: 'the CONNACK' });
  others.length = 0;
  return {
    socket,
    acknowledged,
    others,
    closed,
    send: async (...pieces) => {
      for (const piece of pieces) {
        socket.write(piece);
        // Most pieces are then read one by one; that some are read together does no harm.
        await turn();
      }
    },
  };
}

function publish(
  id: number,
  options: { topic?: string; payload?: Buffer; retain?: boolean; dup?: boolean } = {},
): Buffer {
  const { topic = 'sensors/a/telemetry', payload = Buffer.from(`m${id}`), retain = false, dup = false } = options;
  const common = { cmd: 'publish', topic, payload, retain } as const;
  return generate(id === 0 ? { ...common, qos: 0, dup: false } : { ...common, qos: 1, messageId: id, dup });
}

const packet = (value: Packet): Buffer => generate(value);
const PING = packet({ cmd: 'pingreq' });
const DISCONNECT = packet({ cmd: 'disconnect' });
const subscribe = (messageId: number, topic: string): Buffer =>
  packet({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos: 1 }] });

const bodies = (messages: readonly Message[]): string[] =>
  messages.map(({ deviceId, body }) => `${deviceId} ${Buffer.from(body).toString('hex')}`);

/** Sends the pieces between two publishes more, and gives what was stored and answered. */
async function outcome(rig: Rig, pieces: readonly Buffer[], pubacks: number, others: number): Promise<object> {
  rig.messages.length = 0;
  const device = await connectDevice(rig, 'd');
  // Its topic is known from now on.
  await device.send(publish(1));
  await waitFor(() => device.acknowledged.length === 1, { everyMs: 1, what: 'the first PUBACK' });
  await device.send(...pieces, publish(LAST_ID));
  await waitFor(() => device.acknowledged.length === pubacks + 2 && device.others.length === others, {
    everyMs: 1,
    what: 'every answer',
  });
  device.socket.destroy();
  await device.closed;
  return {
    stored: bodies(rig.messages),
    acknowledged: device.acknowledged,
    others: device.others.sort(ascending),
  };
}

async function startPair(): Promise<{ readonly short: Rig; readonly long: Rig }> {
  const short = await startBroker();
  const long = await startBroker();
  const listener = await mqtt.connectAsync(`mqtt://${ADDRESS}:${long.port}`, { reconnectPeriod: 0 });
  ends.push(() => listener.endAsync(true));
  await listener.subscribeAsync('#', { qos: 0 });
  return { short, long };
}

const ascending = (a: number, b: number): number => a - b;

interface Step {
  readonly publish?: number;
  readonly device?: string;
  readonly topic?: string;
  readonly bytes?: number;
  readonly dup?: boolean;
  readonly retain?: boolean;
  readonly subscribe?: number;
  readonly unsubscribe?: number;
}

function packetOf(step: Step, index: number): Buffer {
  const { publish: id, device, bytes = 0, subscribe: subscribeId, unsubscribe: messageId } = step;
  const payload = Buffer.alloc(bytes, index + 1);
  if (id !== undefined) return publish(id, { topic: `sensors/${device}/telemetry`, ...step, payload });
  if (subscribeId !== undefined) return subscribe(subscribeId, 'elsewhere');
  if (messageId !== undefined) return packet({ cmd: 'unsubscribe', messageId, unsubscriptions: ['elsewhere'] });
  return PING;
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((from, index) => bytes.subarray(from, sorted[index] ?? bytes.length));
}

describe('streams of packets', () => {
  it('are taken alike wherever they are cut in two', async () => {
    const { short, long } = await startPair();
    const stream = Buffer.concat([
      publish(2),
      publish(0, { topic: 'sensors/b/telemetry' }),
      subscribe(7, 'elsewhere'),
      publish(3, { payload: Buffer.alloc(200, 7) }),
      PING,
      publish(4, { topic: 'sensors/b/telemetry', dup: true }),
      publish(5),
    ]);
    const expected = await outcome(long, [stream], 4, 2);
    expect(expected).toMatchObject({ acknowledged: [1, 2, 3, 4, 5, LAST_ID], others: [9, 13] });
    for (let at = 1; at < stream.length; at += 1) {
      expect(await outcome(short, cut(stream, [at]), 4, 2), `cut at ${at}`).toEqual(expected);
    }
  });

  it('are taken alike by both ways, whatever they hold and however they are cut', async () => {
    const { short, long } = await startPair();
    const id = fc.integer({ min: 1, max: LAST_ID - 1 });
    const bytes = fc.oneof(
      { weight: 8, arbitrary: fc.nat(300) },
      { weight: 1, arbitrary: fc.integer({ min: 10_000, max: 100_000 }) },
    );
    const device = fc.constantFrom('a', 'a', 'a', 'b', 'c');
    const step: fc.Arbitrary<Step> = fc.oneof(
      { weight: 12, arbitrary: fc.record({ publish: fc.oneof(id, fc.constant(0)), device, bytes, dup: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ publish: id, device, bytes, retain: fc.constant(true) }) },
      { weight: 1, arbitrary: fc.record({ publish: id, topic: fc.constant('nobody/takes/this'), bytes }) },
      { weight: 1, arbitrary: fc.record({ subscribe: id }) },
      { weight: 1, arbitrary: fc.record({ unsubscribe: id }) },
      { weight: 1, arbitrary: fc.constant<Step>({}) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        async (steps, places) => {
          const pieces = cut(Buffer.concat(steps.map(packetOf)), places);
          const pubacks = steps.filter((step) => (step.publish ?? 0) > 0).length;
          const others = steps.filter((step) => step.publish === undefined).length;
          const [byShort, byLong] = await Promise.all([
            outcome(short, pieces, pubacks, others),
            outcome(long, pieces, pubacks, others),
          ]);
          expect(byShort).toEqual(byLong);
          const asked = steps.map((step) => step.publish ?? 0).filter((publishId) => publishId > 0);
          expect(byShort).toMatchObject({ acknowledged: [1, ...asked, LAST_ID] });
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('a message of QoS 2', () => {
  const exact = (messageId: number, dup = false): Buffer =>
    packet({
      cmd: 'publish',
      topic: 'sensors/a/telemetry',
      payload: `m${messageId}`,
      retain: false,
      qos: 2,
      messageId,
      dup,
    });

  it('that comes again before its PUBREL is answered, and not taken a second time', async () => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd');
    await device.send(exact(1), exact(2));
    await waitFor(() => device.others.length === 2, { what: 'two PUBRECs' });
    await device.send(exact(1, true), exact(2, true));
    await waitFor(() => device.others.length === 4, { what: 'four PUBRECs' });
    expect(bodies(rig.messages)).toEqual(['a 6d31', 'a 6d32']);
    // Its identifier is free again.
    await device.send(packet({ cmd: 'pubrel', messageId: 1 }), exact(1));
    await waitFor(() => device.others.length === 6, { what: 'PUBCOMP and PUBREC' });
    expect(bodies(rig.messages)).toHaveLength(3);
    expect(device.others).toEqual([5, 5, 5, 5, 7, 5]);
  });

  it('is the last when a hundred are not released', async () => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd');
    await device.send(...Array.from({ length: 101 }, (_, index) => exact(index + 1)));
    await device.closed;
    expect(rig.refusals).toEqual(['too_many_unreleased']);
    expect(rig.messages).toHaveLength(100);
  });

  it('is taken when it comes again after it could not be stored', async () => {
    const store = refusingStore(true);
    const rig = await startBroker({}, store.fields);
    const session = generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: false,
      clientId: 'kept',
    });
    for (const dup of [false, true]) {
      const socket = connect({ host: ADDRESS, port: rig.port });
      ends.push(() => socket.destroy());
      let heard = Buffer.alloc(0);
      socket.on('data', (chunk) => (heard = Buffer.concat([heard, chunk])));
      socket.write(session);
      await waitFor(() => heard.length === 4, { what: 'the CONNACK' });
      socket.write(exact(7, dup));
      if (store.refuses) await once(socket, 'close');
      else await waitFor(() => heard.length === 8, { what: 'the PUBREC' });
      store.refuses = false;
    }
    expect(bodies(store.messages)).toEqual(['a 6d37']);
  });
});

describe('the end of a connection', () => {
  it('comes in order: what stands before DISCONNECT is stored and acknowledged', async () => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd');
    await device.send(publish(1));
    await waitFor(() => device.acknowledged.length === 1, { everyMs: 1, what: 'the first PUBACK' });
    await device.send(Buffer.concat([publish(2), publish(3), DISCONNECT]));
    await device.closed;
    expect(device.acknowledged).toEqual([1, 2, 3]);
    expect(rig.messages).toHaveLength(3);
  });

  it.each([0, 1] as const)('comes after all that was sent before it, with QoS %i and a slow disk', async (qos) => {
    const stored: string[] = [];
    const rig = await startBroker(
      {},
      {
        publishMessages: async (added) => {
          await sleep(50);
          stored.push(...added.map(({ body }) => Buffer.from(body).toString()));
        },
      },
    );
    const device = await connectDevice(rig, 'd', { will: 'sensors/a/telemetry' });
    const say = (id: number, name: string): Buffer =>
      publish(qos * id, { topic: `sensors/${name}/telemetry`, payload: Buffer.from(`m${id}`) });
    await device.send(say(1, 'a'));
    await waitFor(() => stored.length === 1, { everyMs: 1, what: 'the first message' });
    // The device has closed its end before the second message is on disk.
    device.socket.end(Buffer.concat([say(2, 'a'), say(3, 'b'), say(4, 'a'), DISCONNECT]));
    await device.closed;
    await waitFor(() => stored.length === 4, { what: 'every message' });
    expect(stored).toEqual(['m1', 'm2', 'm3', 'm4']);
    await sleep(100);
    expect(stored).not.toContain('the will');
  });

  it.each([
    ['a length that ends within the topic', Buffer.from([0x32, 3, 0, 9, 0x73])],
    ['no length of a topic', Buffer.from([0x32, 1, 0])],
    ['a wildcard', publish(9).fill('+', 4, 5)],
    ['a length of five bytes', Buffer.from([0x32, 0x80, 0x80, 0x80, 0x80, 1])],
  ])('comes with %s, behind publishes that are whole', async (_, malformed) => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd');
    await device.send(publish(1));
    await waitFor(() => device.acknowledged.length === 1, { everyMs: 1, what: 'the first PUBACK' });
    await device.send(Buffer.concat([publish(2), malformed]));
    await device.closed;
    expect(['m1', 'm2'].slice(0, rig.messages.length)).toEqual(
      rig.messages.map(({ body }) => Buffer.from(body).toString()),
    );
  });

  it('comes a second after a message that could not be stored, and nothing is acknowledged after it', async () => {
    const store = refusingStore(false);
    const rig = await startBroker({}, store.fields);
    const device = await connectDevice(rig, 'd');
    await device.send(publish(1));
    await waitFor(() => device.acknowledged.length === 1, { everyMs: 1, what: 'the first PUBACK' });
    store.refuses = true;
    await device.send(Buffer.concat([publish(2), publish(3)]));
    await waitFor(() => rig.refusals.length === 2, { what: 'two refusals' });
    store.refuses = false;
    await device.send(publish(4));
    await device.closed;
    expect(device.acknowledged).toEqual([1]);
    expect(rig.refusals).toEqual(['outbox_busy', 'outbox_busy']);
    expect(store.messages).toHaveLength(1);
  });

  it('does not come for want of other packets: publishes count for the keep-alive time', async () => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd', { keepalive: 1 });
    let isClosed = false;
    void device.closed.then(() => (isClosed = true));
    for (let id = 1; id <= 10; id += 1) {
      await device.send(publish(id));
      await sleep(250);
    }
    expect(isClosed).toBe(false);
    await device.closed;
    expect(rig.refusals).toEqual(['keepalive_timeout']);
  });
});

describe('a subscriber', () => {
  it('gets what is published after its SUBACK, and nothing before', async () => {
    const rig = await startBroker();
    const device = await connectDevice(rig, 'd');
    await device.send(publish(1), publish(2));
    await waitFor(() => device.acknowledged.length === 2, { what: 'two PUBACKs' });
    const listener = await mqtt.connectAsync(`mqtt://${ADDRESS}:${rig.port}`, { reconnectPeriod: 0 });
    ends.push(() => listener.endAsync(true));
    const heard: string[] = [];
    listener.on('message', (_topic, payload) => heard.push(payload.toString()));
    await listener.subscribeAsync('sensors/+/telemetry', { qos: 1 });
    await device.send(publish(3), publish(4));
    await waitFor(() => heard.length === 2, { what: 'two messages' });
    await listener.unsubscribeAsync('sensors/+/telemetry');
    await device.send(publish(5));
    await waitFor(() => device.acknowledged.length === 5, { what: 'five PUBACKs' });
    expect(heard).toEqual(['m3', 'm4']);
    expect(rig.messages).toHaveLength(5);
  });
});

describe('a client that floods', () => {
  it('is held to its rate whatever fits into one segment, and heard out after it has closed', async () => {
    const rate = 400;
    const times: number[] = [];
    const rig = await startBroker(
      { max_messages_per_sec: rate, topics: [{ topic: '{device_id}' }] },
      {
        publishMessages: (added) => {
          for (const _message of added) times.push(performance.now());
          return Promise.resolve();
        },
      },
    );
    const device = await connectDevice(rig, 'd', { will: 'a' });
    const startedMs = performance.now();
    const count = 1000;
    const tiny = publish(0, { topic: 'a', payload: Buffer.alloc(0) });
    expect(tiny).toHaveLength(5);
    device.socket.end(Buffer.concat([...Array.from({ length: count }, () => tiny), DISCONNECT]));
    await device.closed;
    await waitFor(() => times.length >= count, { what: 'every message' });
    const tooEarly = times.filter((atMs, index) => index > rate + ((atMs - startedMs) / 1000) * rate + 1);
    expect(tooEarly).toEqual([]);
    expect(times).toHaveLength(count);
    // One second's worth at once, the rest at the rate, and not much slower.
    expect((times.at(-1) ?? 0) - startedMs).toBeGreaterThan(1400);
    expect(rig.refusals).toEqual(['slowed_down']);
  });
});

describe('a client whose messages wait for the disk', () => {
  it('is read no further than its share, and loses nothing', async () => {
    let store: () => void = () => {};
    const gate = new Promise<void>((resolve) => (store = resolve));
    let waits = false;
    let most = 0;
    const stored: Message[] = [];
    const rig = await startBroker(
      {},
      {
        publishMessages: async (added) => {
          most += added.reduce((bytes, { body }) => bytes + body.length, 0);
          if (waits) await gate;
          stored.push(...added);
        },
      },
    );
    const device = await connectDevice(rig, 'd');
    await device.send(publish(1));
    await waitFor(() => device.acknowledged.length === 1, { everyMs: 1, what: 'the first PUBACK' });
    waits = true;
    const count = 2000;
    for (let id = 2; id <= count; id += 1) device.socket.write(publish(id, { payload: Buffer.alloc(1000, id) }));
    await sleep(300);
    expect(most).toBeLessThan(200_000);
    expect(device.acknowledged).toHaveLength(1);
    store();
    await waitFor(() => device.acknowledged.length === count, { what: 'every PUBACK' });
    expect(device.acknowledged).toEqual(Array.from({ length: count }, (_, index) => index + 1));
    expect(stored).toHaveLength(count);
  });
});
