import rhea from 'rhea';
import { describe, expect, it } from 'vitest';
import { encodeMessage } from '../../../../modules/upstream-amqp/outgoing-message.ts';
import type { SystemProperties } from '../../../../src/core/message.ts';
import { stored } from '../../../support/upstream-rig.ts';

function decoded(systemProperties: SystemProperties, properties: Readonly<Record<string, string>> = {}): object {
  const outgoing = encodeMessage(stored('body', 1, { systemProperties, properties }));
  if ('rejected' in outgoing) throw new Error(outgoing.rejected);
  return rhea.message.decode(Buffer.from(outgoing.bytes));
}

describe('a message in AMQP', () => {
  it('is durable, and names its device whatever it says itself', () => {
    expect(decoded({}, { device_id: 'another', a: 'b' })).toMatchObject({
      durable: true,
      message_id: 'abcd.meter-1.1',
      application_properties: { device_id: 'meter-1', a: 'b' },
    });
  });

  it('keeps a time that is none as a text', () => {
    expect(decoded({ absoluteExpiryTime: 'soon', creationTimeUtc: 'then' })).toMatchObject({
      application_properties: { 'absolute-expiry-time': 'soon', 'iothub-creation-time-utc': 'then' },
    });
  });

  it('has as annotations, as events of IoT Hub do, what has no place among the standard properties', () => {
    expect(decoded({ messageSchema: 'meter;v1', contentType: 'text/plain' })).toMatchObject({
      content_type: 'text/plain',
      message_annotations: { 'iothub-message-schema': 'meter;v1' },
      application_properties: { 'iothub-message-schema': 'meter;v1' },
    });
  });

  it('keeps a user id from the standard property, which brokers compare with who has logged in', () => {
    const { user_id, application_properties } = decoded({ userId: 'operator' }) as Record<string, unknown>;
    expect(user_id).toBeUndefined();
    expect(application_properties).toMatchObject({ 'user-id': 'operator' });
  });

  it.each([{ contentType: 'täxt/plain' }, { contentEncoding: 'ütf-8' }])(
    'refuses what is no symbol: %j',
    (properties) => {
      expect(encodeMessage(stored('x', 1, { systemProperties: properties }))).toHaveProperty('rejected');
    },
  );
});
