// The server's side of MQTT: packets are found in bytes however they are cut, as the library finds them, and nothing is gathered
// that will not be taken.

import fc from 'fast-check';
import packets, { type Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import {
  connackPacket,
  loadMqttServer,
  pingrespPacket,
  pubackPackets,
  subackPacket,
  unsubackPacket,
  type ClientPacket,
} from '../../../../src/wire/mqtt-server.ts';

const server = await loadMqttServer();

const CONNECT: Packet = {
  cmd: 'connect',
  protocolId: 'MQTT',
  protocolVersion: 4,
  clean: true,
  clientId: 'd1',
  keepalive: 60,
  username: 'hub/d1/?api-version=1',
  password: Buffer.from('SharedAccessSignature sr=x'),
};

const topic = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }).filter((text) => text.isWellFormed());
const messageId = fc.integer({ min: 1, max: 0xffff });
const payload = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const later: fc.Arbitrary<Packet> = fc.oneof(
  fc.record({ topic, payload, retain: fc.boolean() }).map((more): Packet => {
    return { cmd: 'publish', qos: 0, dup: false, ...more };
  }),
  fc
    .record({ topic, payload, messageId, retain: fc.boolean(), dup: fc.boolean(), qos: fc.constantFrom(1, 2) })
    .map((more): Packet => ({ cmd: 'publish', ...more })),
  messageId.map((id): Packet => ({ cmd: 'puback', messageId: id })),
  fc
    .record({
      messageId,
      subscriptions: fc.array(fc.record({ topic, qos: fc.constantFrom(0, 1, 2) }), { minLength: 1 }),
    })
    .map((more) => ({ cmd: 'subscribe', ...more }) as unknown as Packet),
  fc
    .record({ messageId, unsubscriptions: fc.array(topic, { minLength: 1 }) })
    .map((more): Packet => ({ cmd: 'unsubscribe', ...more })),
  fc.constant<Packet>({ cmd: 'pingreq' }),
  fc.constant<Packet>({ cmd: 'disconnect' }),
);

/** Fields that both have. */
function essence(packet: Packet | ClientPacket): unknown {
  const { cmd } = packet;
  if (cmd === 'publish') {
    const { topic: name, payload: body, qos, retain, dup } = packet;
    const id = packet.messageId === 0 ? undefined : packet.messageId;
    return { cmd, name, body: Buffer.from(body).toString('hex'), qos, retain, dup, id };
  }
  if (cmd === 'subscribe') {
    return { cmd, id: packet.messageId, filters: packet.subscriptions.map((one) => [one.topic, one.qos]) };
  }
  if (cmd === 'unsubscribe') return { cmd, id: packet.messageId, filters: packet.unsubscriptions };
  return { cmd, id: 'messageId' in packet ? packet.messageId : undefined };
}

describe('packets of a client', () => {
  it('are those that were sent, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(later, { maxLength: 12 }), fc.array(fc.nat(2000), { maxLength: 12 }), (rest, cuts) => {
        const sent = [CONNECT, ...rest];
        const bytes = Buffer.concat(sent.map((packet) => packets.generate(packet)));
        const reader = server.reader(100_000);
        const found: ClientPacket[] = [];
        let at = 0;
        for (const cut of [...cuts.map((one) => one % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
          found.push(...reader.take(bytes.subarray(at, cut)));
          at = cut;
        }
        expect(reader.fault).toBeUndefined();
        expect(found.map(essence)).toEqual(sent.map(essence));
      }),
    );
  });

  it('never throw, whatever the bytes are', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 }), (chunks) => {
        const reader = server.reader(1000);
        reader.take(packets.generate(CONNECT));
        for (const chunk of chunks) reader.take(Buffer.from(chunk));
      }),
    );
  });

  it.each([
    ['no_connect', 'c000'],
    ['no_connect', '474554'],
    ['malformed_packet', '10ffffffff7f'],
    ['packet_too_large', '10ffff7f'],
    ['malformed_packet', '1003000561'],
  ])('that begin wrong are a fault: %s (%s)', (fault, hex) => {
    const reader = server.reader(10_000);
    expect(reader.take(Buffer.from(hex, 'hex'))).toEqual([]);
    expect(reader.fault).toBe(fault);
    expect(reader.take(packets.generate(CONNECT))).toEqual([]);
  });

  it.each([
    ['QoS 3', '3605000141000a'],
    ['an identifier of 0', '32050001410000'],
    ['a topic longer than the packet', '3004000941c000'],
    ['no room for an identifier', '3203000141'],
    ['DUP with QoS 0', '3803000141'],
    ['a SUBSCRIBE without its flags', '8006000100014100'],
    ['a SUBSCRIBE without filters', '82020001'],
    ['an UNSUBSCRIBE without an identifier', 'a2050000000141'],
    ['a reserved type', 'f000'],
  ])('are malformed with %s, and those before them are given', (_, hex) => {
    const reader = server.reader(10_000);
    const found = reader.take(Buffer.concat([packets.generate(CONNECT), Buffer.from(`c000${hex}`, 'hex')]));
    expect(found.map(({ cmd }) => cmd)).toEqual(['connect', 'pingreq']);
    expect(reader.fault).toBe('malformed_packet');
  });

  it('that are too long end with their length, before they are sent', () => {
    const reader = server.reader(1000);
    reader.take(packets.generate(CONNECT));
    reader.maxPacketBytes = 200;
    expect(reader.take(Buffer.from('30c801', 'hex'))).toEqual([]);
    expect(reader.fault).toBeUndefined();
    reader.take(Buffer.alloc(200));
    expect(reader.take(Buffer.from('30c901', 'hex'))).toEqual([]);
    expect(reader.fault).toBe('packet_too_large');
  });
});

describe('packets of a server', () => {
  it('are what the library reads', () => {
    const seen: Packet[] = [];
    const parser = packets.parser();
    parser.on('packet', (packet) => seen.push(packet));
    const granted = Array.from({ length: 200 }, (_, n) => n % 2);
    for (const bytes of [
      connackPacket(0, true),
      connackPacket(5),
      pubackPackets([1, 0xffff]),
      subackPacket(0x1234, granted),
      unsubackPacket(0x1234),
      pingrespPacket(),
      server.publish({ topic: 'a/b', payload: Buffer.from('x'), messageId: 0, dup: false }),
      server.publish({ topic: 'a/b', payload: Buffer.alloc(300), messageId: 9, dup: true }),
    ]) {
      parser.parse(bytes);
    }
    expect(seen).toMatchObject([
      { cmd: 'connack', sessionPresent: true, returnCode: 0 },
      { cmd: 'connack', sessionPresent: false, returnCode: 5 },
      { cmd: 'puback', messageId: 1 },
      { cmd: 'puback', messageId: 0xffff },
      { cmd: 'suback', messageId: 0x1234, granted },
      { cmd: 'unsuback', messageId: 0x1234 },
      { cmd: 'pingresp' },
      { cmd: 'publish', topic: 'a/b', qos: 0, dup: false, payload: Buffer.from('x') },
      { cmd: 'publish', topic: 'a/b', qos: 1, dup: true, messageId: 9 },
    ]);
  });
});
