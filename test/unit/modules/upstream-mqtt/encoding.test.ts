import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { wrapBody } from '../../../../modules/upstream-mqtt/envelope.ts';
import {
  propertiesFault,
  publishPacketBytes,
  publishProperties,
} from '../../../../modules/upstream-mqtt/properties.ts';
import { createTopicCache, fillTopic } from '../../../../modules/upstream-mqtt/topic-template.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { Message, StoredMessage } from '../../../../src/core/message.ts';
import { message } from '../../../support/builders.ts';

// The codec inside the `mqtt` library, which the daemon itself never calls directly.
const { generate } = createRequire(createRequire(import.meta.url).resolve('mqtt'))('mqtt-packet') as {
  generate: (packet: unknown, options: unknown) => Buffer;
};

function stored(fields: Partial<Message> & { text?: string } = {}, messageId = 'abcd.meter-1.7'): StoredMessage {
  return { offset: 1, seq: 7, epoch: 'abcd', messageId, message: message(fields) };
}

describe('properties', () => {
  it('carry the id alone when there is nothing else', () => {
    expect(publishProperties(stored())).toEqual({ userProperties: { 'message-id': 'abcd.meter-1.7' } });
  });

  it('carry application and system properties, and our id beside a sender’s own', () => {
    const properties = publishProperties(
      stored(
        {
          properties: { level: 'alarm', to: 'shadowed' },
          systemProperties: { contentType: 'a/b', correlationId: 'c', userId: 'u', to: '/x', creationTimeUtc: 't' },
        },
        'own',
      ),
    );
    expect(properties).toEqual({
      contentType: 'a/b',
      correlationData: Buffer.from('c'),
      userProperties: {
        level: 'alarm',
        to: '/x',
        'message-id': 'own',
        'user-id': 'u',
        'iothub-creation-time-utc': 't',
        'fieldpost-id': 'abcd.meter-1.7',
      },
    });
  });

  it.each([
    [{ properties: { a: 'x\0y' } }, /"a" is not an MQTT string/],
    [{ properties: { a: '\ud800' } }, /"a" is not an MQTT string/],
    [{ properties: { a: 'ä'.repeat(40_000) } }, /"a" is not an MQTT string/],
    [{ systemProperties: { contentType: 'x\0' } }, /content type/],
  ])('that MQTT cannot carry are found: %#', (fields, pattern) => {
    expect(propertiesFault(publishProperties(stored(fields)))).toMatch(pattern);
  });

  it('the size of a packet is what the library writes', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, maxLength: 200 }).filter((topic) => !/[+#\0]/.test(topic) && topic.isWellFormed()),
        fc.nat(40_000),
        fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.string({ unit: 'grapheme', maxLength: 300 }), {
          maxKeys: 8,
        }),
        fc.option(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }), { nil: undefined }),
        (topic, payloadBytes, properties, contentType) => {
          const built = publishProperties(
            stored({
              properties,
              systemProperties: { ...(contentType !== undefined && { contentType, correlationId: contentType }) },
            }),
          );
          const packet = generate(
            { cmd: 'publish', topic, payload: Buffer.alloc(payloadBytes), qos: 1, messageId: 5, properties: built },
            { protocolVersion: 5 },
          );
          expect(publishPacketBytes(topic, payloadBytes, built)).toBe(packet.byteLength);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('the envelope', () => {
  const parse = (entry: StoredMessage): unknown => JSON.parse(Buffer.from(wrapBody(entry)).toString());

  it('leaves bodies of ours alone', () => {
    const ours = stored({ text: '{"time":"2026-01-02T03:04:05.678Z"}', stamps: { timeAt: 9 } });
    expect(wrapBody(ours)).toBe(ours.message.body);
  });

  it('wraps JSON, text and bytes', () => {
    const head = { device: 'meter-1', time: '2026-01-02T03:04:05.678Z', epoch: 'abcd', seq: 7, id: 'abcd.meter-1.7' };
    expect(parse(stored({ text: '{"a":1.50}' }))).toEqual({ ...head, body: { a: 1.5 } });
    expect(Buffer.from(wrapBody(stored({ text: '12345678901234567890' }))).toString()).toContain(
      '"body":12345678901234567890}',
    );
    expect(parse(stored({ text: 'W 12 kg', properties: { x: 'y' } }))).toEqual({
      ...head,
      properties: { x: 'y' },
      body: 'W 12 kg',
    });
    expect(parse(stored({ body: Buffer.from([0xff, 0x00]) }))).toEqual({ ...head, body_base64: '/wA=' });
    expect(parse(stored({ body: Buffer.alloc(0) }))).toEqual({ ...head, body: '' });
  });
});

describe('topics', () => {
  const gatewayId = parseDeviceId('plant-7');

  it('are filled from ids', () => {
    expect(fillTopic('a/{gateway_id}/{device_id}/{device_id}', { gatewayId, deviceId: parseDeviceId('m$1') })).toBe(
      'a/plant-7/m$1/m$1',
    );
    const topicOf = createTopicCache('{device_id}', gatewayId);
    // An id may hold what means something to String.replace.
    expect(topicOf(parseDeviceId('$1$$'))).toBe('$1$$');
    expect(topicOf(parseDeviceId('$1$$'))).toBe('$1$$');
  });
});
