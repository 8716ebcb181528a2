import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../../../src/core/device.ts';
import type { Message } from '../../../../src/core/message.ts';
import { ChunkEncoder, decodeChunk, decodeIdentity, decodeRecord } from '../../../../src/store/chunk-codec.ts';
import { message, timestamp } from '../../../support/builders.ts';

const AT = { firstOffset: 7, logBytesBefore: 100, shelfMs: 5, time: timestamp() };

function encode(messages: readonly Message[], onlyQueues?: readonly number[]): Buffer {
  const encoder = new ChunkEncoder();
  encoder.start('epoch', 'boot-1');
  messages.forEach((sent, index) => encoder.add(sent, index + 1, onlyQueues));
  return encoder.finish(AT);
}

function decode(bytes: Buffer): Message[] {
  const chunk = decodeChunk(bytes, AT.firstOffset);
  if (chunk === undefined) throw new Error('damaged');
  return Array.from({ length: chunk.count }, (_, index) => {
    const { message: found } = decodeRecord(chunk, index);
    return { ...found, body: Buffer.from(found.body) };
  });
}

const text = fc.string({ unit: 'binary', maxLength: 200 }).map((value) => value.toWellFormed());
const arbitraryMessage: fc.Arbitrary<Message> = fc.record(
  {
    deviceId: fc.stringMatching(/^[a-z0-9.-]{1,128}$/).map((id) => id as DeviceId),
    body: fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
    properties: fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
    systemProperties: fc.record({ correlationId: text, contentType: text, to: text }, { requiredKeys: [] }),
    time: fc.record({
      bootId: fc.constantFrom('boot-1', 'boot-2'),
      monotonicMs: fc.integer({ min: 0, max: 2 ** 37 }),
      wallMs: fc.integer({ min: 0, max: 2 ** 45 }),
      clock: fc.constantFrom('synced', 'rtc', 'restored', 'unknown'),
    }),
    hubId: text,
    moduleId: text,
  },
  { requiredKeys: ['deviceId', 'body', 'properties', 'systemProperties', 'time'] },
);

describe('chunk codec', () => {
  it('gives back what it was given', () => {
    fc.assert(
      fc.property(fc.array(arbitraryMessage, { minLength: 1, maxLength: 20 }), (messages) => {
        expect(decode(encode(messages))).toEqual(messages);
      }),
    );
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

  it('skips fields that a later release may add, in the fixed part and behind it', () => {
    const bytes = encode([message({ text: 'body' })], [3, 300]);
    const chunk = decodeChunk(bytes, AT.firstOffset);
    if (chunk === undefined) throw new Error('damaged');
    const start = chunk.positions[0] as number;
    const record = bytes.subarray(start);
    const fixedBytes = record[4] as number;
    const later = Buffer.concat([
      bytes.subarray(0, start),
      record.subarray(0, fixedBytes),
      Buffer.from('four'),
      Buffer.from([120, 3, 1, 2, 3]),
      record.subarray(fixedBytes),
    ]);
    later.writeUInt32LE(record.length + 9, start);
    later[start + 4] = fixedBytes + 4;
    later.writeUInt32LE(crc32(later.subarray(8)), 4);
    expect(decode(later)).toEqual(decode(bytes));
    const again = decodeChunk(later, AT.firstOffset);
    expect(again && decodeIdentity(again, 0)).toEqual({ deviceId: 'meter-1', seq: 1, onlyQueues: [3, 300] });
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
