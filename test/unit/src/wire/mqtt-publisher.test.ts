import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { MqttPublisher, SubscriptionIds } from '../../../../src/wire/mqtt-publisher.ts';

interface Parsed {
  readonly cmd: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly dup: boolean;
  readonly topic: string;
  readonly messageId: number;
  readonly payload: Buffer;
  readonly properties?: object;
}

const { parser } = createRequire(createRequire(import.meta.url).resolve('mqtt'))('mqtt-packet') as {
  parser: (options: { protocolVersion: number }) => {
    on: (event: 'packet', listener: (packet: Parsed) => void) => void;
    parse: (bytes: Buffer) => number;
  };
};

function read(bytes: Buffer, protocolVersion: 4 | 5): Parsed[] {
  const packets: Parsed[] = [];
  const reader = parser({ protocolVersion });
  reader.on('packet', (packet) => packets.push(packet));
  expect(reader.parse(bytes)).toBe(0);
  return packets;
}

function create(protocolVersion: 4 | 5): { publisher: MqttPublisher; writes: Buffer[] } {
  const writes: Buffer[] = [];
  return { publisher: new MqttPublisher(protocolVersion, (bytes) => writes.push(bytes)), writes };
}

const ignore = (): void => {};

describe('MqttPublisher', () => {
  it('writes what an independent parser reads, in every size of the remaining length', () => {
    const { publisher, writes } = create(4);
    const payloads = [0, 1, 90, 128, 16_000, 16_500, 300_000].map((bytes) => Buffer.alloc(bytes, bytes % 251));
    for (const payload of payloads) publisher.publish('site/ü/x', payload, undefined, ignore);
    publisher.flush();
    const packets = read(Buffer.concat(writes), 4);
    expect(packets.map(({ payload }) => payload.length)).toEqual(payloads.map(({ length }) => length));
    for (const [index, packet] of packets.entries()) {
      expect(packet).toMatchObject({ cmd: 'publish', qos: 1, retain: false, dup: false, topic: 'site/ü/x' });
      expect(packet.payload.equals(payloads[index] as Buffer)).toBe(true);
    }
    expect(new Set(packets.map(({ messageId }) => messageId)).size).toBe(payloads.length);
  });

  it('writes the properties of MQTT 5', () => {
    const { publisher, writes } = create(5);
    const properties = {
      payloadFormatIndicator: true,
      contentType: 'text/plain; charset=utf-8',
      responseTopic: 'answer/ä',
      correlationData: Buffer.from([0, 1, 255]),
      userProperties: { name: 'value', größe: 'ß'.repeat(200), empty: '' },
    };
    publisher.publish('t', Buffer.from('body'), properties, ignore);
    publisher.publish('t', Buffer.from('bare'), undefined, ignore);
    publisher.flush();
    const [first, second] = read(Buffer.concat(writes), 5);
    expect(JSON.parse(JSON.stringify(first?.properties))).toEqual(JSON.parse(JSON.stringify(properties)));
    expect(first?.payload.toString()).toBe('body');
    expect(second?.payload.toString()).toBe('bare');
    expect(second?.properties ?? {}).toEqual({});
  });

  it('gathers the publishes of one turn into one write', async () => {
    const { publisher, writes } = create(4);
    for (let index = 0; index < 10; index += 1) publisher.publish('t', Buffer.from([index]), undefined, ignore);
    expect(writes).toHaveLength(0);
    await new Promise((resolve) => setImmediate(resolve));
    expect(writes).toHaveLength(1);
    publisher.publish('t', Buffer.from([99]), undefined, ignore);
    await new Promise((resolve) => setImmediate(resolve));
    // What was written is not touched by what follows.
    expect(read(Buffer.concat(writes), 4).map(({ payload }) => payload[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99]);
  });

  it('leaves what was written alone until it is written, and uses its memory again then', () => {
    const writes: { readonly bytes: Buffer; readonly written: () => void }[] = [];
    const publisher = new MqttPublisher(4, (bytes, written) => writes.push({ bytes, written }));
    const publish = (index: number): void => {
      publisher.publish('t', Buffer.from([index]), undefined, ignore);
      publisher.flush();
    };
    const payloads = (): number[] => writes.map(({ bytes }) => read(bytes, 4)[0]?.payload[0] ?? -1);
    for (const index of [0, 1, 2]) publish(index);
    expect(payloads()).toEqual([0, 1, 2]);
    expect(new Set(writes.map(({ bytes }) => bytes.buffer)).size).toBe(3);
    writes[1]?.written();
    publish(3);
    publish(4);
    expect(payloads()).toEqual([0, 4, 2, 3, 4]);
    expect(writes[4]?.bytes.buffer).toBe(writes[1]?.bytes.buffer);
  });

  it('hands the tag of each publish to a function that they share', () => {
    const { publisher, writes } = create(4);
    const told: (readonly [number | undefined, number])[] = [];
    const done = (code: number | undefined, tag: number): void => void told.push([code, tag]);
    for (const tag of [7, 8, 9]) publisher.publish('t', Buffer.alloc(0), undefined, done, tag);
    publisher.flush();
    publisher.answered(read(Buffer.concat(writes), 4)[1]?.messageId ?? 0, 0);
    publisher.end();
    expect(told).toEqual([
      [0, 8],
      [undefined, 7],
      [undefined, 9],
    ]);
  });

  it('tells each answer once, and the rest at the end', () => {
    const { publisher, writes } = create(5);
    const told: (readonly [string, number | undefined])[] = [];
    for (const name of ['a', 'b', 'c']) {
      publisher.publish(name, Buffer.alloc(0), undefined, (code) => told.push([name, code]));
    }
    publisher.flush();
    const [a = 0, b = 0] = read(Buffer.concat(writes), 5).map(({ messageId }) => messageId);
    publisher.answered(b, 0x97);
    publisher.answered(a, 0);
    publisher.answered(a, 0);
    publisher.answered(40_000, 0);
    expect(told).toEqual([
      ['b', 0x97],
      ['a', 0],
    ]);
    publisher.end();
    publisher.end();
    publisher.publish('late', Buffer.alloc(0), undefined, (code) => told.push(['late', code]));
    expect(told.slice(2)).toEqual([
      ['c', undefined],
      ['late', undefined],
    ]);
  });

  it('never uses an identifier that is unanswered, nor one of the subscriptions', () => {
    const { publisher, writes } = create(4);
    publisher.publish('held', Buffer.alloc(0), undefined, ignore);
    const used = new Set<number>();
    const taken = (): number => {
      publisher.flush();
      return read(writes.splice(0).at(-1) ?? Buffer.alloc(0), 4).at(-1)?.messageId ?? 0;
    };
    const held = taken();
    for (let index = 0; index < 70_000; index += 1) {
      publisher.publish('t', Buffer.alloc(0), undefined, ignore);
      const id = taken();
      publisher.answered(id, 0);
      used.add(id);
    }
    expect(used.has(held)).toBe(false);
    const ids = new SubscriptionIds();
    for (let index = 0; index < 1000; index += 1) {
      const id = ids.allocate();
      expect(id > 0 && id <= 0xffff && !used.has(id)).toBe(true);
    }
  });
});
