import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../../../src/core/device.ts';
import type { HubStamps, Message } from '../../../../src/core/message.ts';
import { decodeChunk, decodeIdentity, decodeRecord } from '../../../../src/store/chunk-decoder.ts';
import { ChunkEncoder, type SentAgain } from '../../../../src/store/chunk-encoder.ts';
import type { Chunk } from '../../../../src/store/chunk-format.ts';
import { message, timestamp } from '../../../support/builders.ts';

const AT = { firstOffset: 7, logBytesBefore: 100 };

function encodeChunk(
  messages: readonly Message[],
  seqOf: (index: number) => number = (index) => index + 1,
  again?: SentAgain,
): Chunk {
  const encoder = new ChunkEncoder();
  encoder.start({ epoch: 'epoch', shelfMs: 5, time: timestamp() });
  messages.forEach((sent, index) => encoder.add(sent, seqOf(index), again));
  return encoder.finish(AT);
}

function encode(messages: readonly Message[]): Buffer {
  return encodeChunk(messages).bytes;
}

function decodeWhole(bytes: Buffer): Chunk {
  const chunk = decodeChunk(bytes, AT.firstOffset);
  if (chunk === undefined) throw new Error('damaged');
  return chunk;
}

function messagesOf(chunk: Chunk): Message[] {
  return Array.from({ length: chunk.count }, (_, index) => {
    const { message: found } = decodeRecord(chunk, index);
    return { ...found, body: Buffer.from(found.body) };
  });
}

function decode(bytes: Buffer): Message[] {
  return messagesOf(decodeWhole(bytes));
}

const text = fc.string({ unit: 'binary', maxLength: 200 }).map((value) => value.toWellFormed());
// Few texts, so that messages share some, and some share the object itself.
const stamp = fc.constantFrom('', 'sas', 'x509', 'Telemetry', 'ü'.repeat(100));
const stamps: fc.Arbitrary<HubStamps> = fc.record(
  { authMethod: stamp, generationId: stamp, source: stamp, interfaceId: stamp, dataSchema: stamp, outputName: stamp },
  { requiredKeys: ['authMethod', 'generationId', 'source'], noNullPrototype: true },
);
const SESSION: HubStamps = { authMethod: '{"scope":"device"}', generationId: '63751', source: 'Telemetry' };
const arbitraryMessage: fc.Arbitrary<Message> = fc.record(
  {
    deviceId: fc.stringMatching(/^[a-z0-9.-]{1,128}$/).map((id) => id as DeviceId),
    body: fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
    properties: fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
    systemProperties: fc.record(
      { correlationId: text, contentType: text, to: text, diagnosticId: text, correlationContext: text },
      { requiredKeys: [] },
    ),
    time: fc.record({
      bootId: fc.constantFrom('boot-1', 'boot-2'),
      monotonicMs: fc.integer({ min: 0, max: 2 ** 37 }),
      wallMs: fc.integer({ min: 0, max: 2 ** 45 }),
      clock: fc.constantFrom('synced', 'rtc', 'restored', 'unknown'),
    }),
    hubId: fc.oneof(stamp, text),
    moduleId: fc.oneof(stamp, text),
    hub: fc.oneof(stamps, fc.constant(SESSION)),
  },
  { requiredKeys: ['deviceId', 'body', 'properties', 'systemProperties', 'time'] },
);

describe('chunk codec', () => {
  it('gives back what it was given', () => {
    fc.assert(
      fc.property(fc.array(arbitraryMessage, { minLength: 1, maxLength: 20 }), (messages) => {
        const chunk = encodeChunk(messages);
        expect(messagesOf(decodeWhole(chunk.bytes))).toEqual(messages);
        // What the encoder gives along is what a reader finds.
        expect(decodeWhole(chunk.bytes)).toEqual(chunk);
      }),
    );
  });

  it('keeps what a hub stamps in few bytes', () => {
    const stamped = (index: number, devices: number): Message => ({
      ...message({ device: `device-${index % devices}`, text: 'x'.repeat(100) }),
      hubId: 'hub',
      hub: {
        authMethod: '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
        generationId: `6388112345678901${index % devices}`,
        source: 'Telemetry',
      },
    });
    const bytesEach = (devices: number, make: (index: number) => Message): number =>
      encode(Array.from({ length: 512 }, (_, index) => make(index))).length / 512;
    const plain = (sent: Message): Message => {
      const { hub: _, hubId: __, ...rest } = sent;
      return rest;
    };
    const sessions = Array.from({ length: 8 }, (_, index) => stamped(index, 8).hub as HubStamps);
    const shared = bytesEach(8, (index) => ({ ...stamped(index, 8), hub: sessions[index % 8] as HubStamps }));
    const ofFew = bytesEach(8, (index) => stamped(index, 8));
    const ofMany = bytesEach(512, (index) => stamped(index, 512));
    expect(shared - bytesEach(8, (index) => plain(stamped(index, 8)))).toBeLessThan(5);
    expect(ofFew - bytesEach(8, (index) => plain(stamped(index, 8)))).toBeLessThan(19);
    expect(ofMany - bytesEach(512, (index) => plain(stamped(index, 512)))).toBeLessThan(40);
  });

  it('keeps any numbers of few devices, and the time of the body', () => {
    const record = fc.record({
      device: fc.constantFrom('a', 'ab', 'abc', 'x-1', 'x-2'),
      seq: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 ** 48 })),
      timeAt: fc.integer({ min: 0, max: 200_000 }),
    });
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 20 }), (records) => {
        const shared = { contentType: 'application/json' };
        const messages = records.map(({ device, timeAt }, index) =>
          message({ device, stamps: { timeAt }, systemProperties: index % 3 === 0 ? {} : shared }),
        );
        const chunk = decodeWhole(encodeChunk(messages, (index) => records[index]?.seq ?? 0).bytes);
        expect(messagesOf(chunk)).toEqual(messages);
        expect(records.map((_, index) => decodeIdentity(chunk, index))).toEqual(
          records.map(({ device, seq }) => ({
            deviceId: device,
            epoch: 'epoch',
            seq,
            again: false,
            onlyQueues: undefined,
          })),
        );
      }),
    );
  });

  it('needs 13 bytes a message beside its body when a thousand devices report in turn', () => {
    const messages = Array.from({ length: 256 }, (_, index) =>
      message({
        device: `meter-${index + 200}`,
        body: Buffer.alloc(256),
        time: timestamp({ monotonicMs: 1000 - index / 100 }),
      }),
    );
    const { bytes } = encodeChunk(messages, (index) => 10_000 + index);
    expect(bytes.length / messages.length).toBeLessThan(256 + 13);
  });

  it('writes system properties that messages share once', () => {
    const shared = { contentType: 'application/json', contentEncoding: 'utf-8' };
    const one = encode([message({ systemProperties: shared })]).length;
    const ten = encode(Array.from({ length: 10 }, () => message({ systemProperties: shared })));
    const tenAlike = encode(Array.from({ length: 10 }, () => message({ systemProperties: { ...shared } })));
    expect(ten.length).toBeLessThan(tenAlike.length);
    expect(decode(ten)).toEqual(decode(tenAlike));
    expect(one).toBeGreaterThan(0);
  });

  it('tells damage of any byte, and the wrong offset', () => {
    const bytes = encode([message(), message({ text: 'more' })]);
    for (let index = 0; index < bytes.length; index += 1) {
      const damaged = Buffer.from(bytes);
      damaged[index] = (damaged[index] as number) ^ 0x10;
      expect(decodeChunk(damaged, AT.firstOffset)).toBeUndefined();
      expect(decodeChunk(bytes.subarray(0, index), AT.firstOffset)).toBeUndefined();
    }
    expect(decodeChunk(bytes, AT.firstOffset + 1)).toBeUndefined();
  });

  it('skips fields that a later release may add, in the header and in a record', () => {
    const systemProperties = { contentType: 'text/plain' };
    const again = { epoch: 'earlier', onlyQueues: [3, 300] };
    const chunk = encodeChunk([message({ systemProperties }), message({ systemProperties })], () => 17, again);
    const { bytes } = chunk;
    const [first = 0] = chunk.positions;
    const fieldsAt = bytes.indexOf(Buffer.from([42 - 5, 10])) - 1;
    const unknown = Buffer.from([120, 3, 1, 2, 3]);
    const end = fieldsAt + 1 + (bytes[fieldsAt] as number);
    const later = Buffer.concat([
      bytes.subarray(0, first),
      unknown,
      bytes.subarray(first, end),
      unknown,
      bytes.subarray(end),
    ]);
    later[fieldsAt + unknown.length] = (bytes[fieldsAt] as number) + unknown.length;
    later.writeUInt16LE(first + unknown.length, 10);
    later.writeUInt32LE(crc32(later.subarray(8)), 4);
    expect(decode(later)).toEqual(decode(bytes));
    const identity = { deviceId: 'meter-1', epoch: 'earlier', seq: 17, again: true, onlyQueues: [3, 300] };
    expect(decodeIdentity(decodeWhole(later), 0)).toEqual(identity);
    expect(decodeRecord(decodeWhole(later), 0)).toMatchObject({ epoch: 'earlier', messageId: 'earlier.meter-1.17' });
  });

  it('refuses a version that it does not know', () => {
    const bytes = encode([message()]);
    bytes[8] = 3;
    bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
    expect(decodeChunk(bytes, AT.firstOffset)).toBeUndefined();
  });

  it('keeps a property named __proto__', () => {
    const properties = JSON.parse('{"__proto__":"x","constructor":"y"}') as Record<string, string>;
    const [decoded] = decode(encode([message({ properties })]));
    expect(Object.entries(decoded?.properties ?? {})).toEqual([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });

  it('grows for messages of any size', () => {
    const messages = [70_000, 1, 262_144, 0].map((bytes) => message({ body: Buffer.alloc(bytes, 0x61) }));
    expect(decode(encode(messages))).toEqual(messages);
  });
});
