import { describe, expect, it } from 'vitest';
import { bagProperties, commandBag, parsePropertyBag } from '../../../../src/iothub/property-bag.ts';

describe('properties of a bag', () => {
  it('are sorted by what they mean', () => {
    const bag = parsePropertyBag(
      '%24.mid=1&$.cid=2&%24.ct=application%2Fjson&%24.on=out&%24.ifid=urn&%24.diagid=t1&%24.diagctx=k%3Dv&a=1&b&iothub-creation-time-utc=2026-01-02T03:04:05Z',
    );
    expect(bagProperties(bag)).toEqual({
      properties: { a: '1', b: '' },
      systemProperties: {
        messageId: '1',
        correlationId: '2',
        contentType: 'application/json',
        creationTimeUtc: '2026-01-02T03:04:05Z',
        diagnosticId: 't1',
        correlationContext: 'k=v',
      },
      outputName: 'out',
      interfaceId: 'urn',
    });
  });

  it('say nothing of the connection: that the hub says itself', () => {
    expect(bagProperties(parsePropertyBag('%24.cdid=other&%24.cmid=m&$.unknown=1'))).toEqual({
      properties: {},
      systemProperties: {},
    });
  });

  it('may have any name', () => {
    const { properties } = bagProperties(parsePropertyBag('__proto__=1&constructor=2'));
    expect(Object.entries(properties)).toEqual([
      ['__proto__', '1'],
      ['constructor', '2'],
    ]);
  });
});

describe('the bag of a command', () => {
  const message = { body: new Uint8Array(), properties: {}, ack: 'none' as const };

  it('is never empty', () => {
    expect(commandBag(message, '/devices/d1/messages/deviceBound')).toBe(
      '%24.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound',
    );
  });

  it('has what the service set, system keys first, blanks as %20 and plus as %2B', () => {
    const full = {
      ...message,
      messageId: 'm 1',
      correlationId: '',
      ack: 'full' as const,
      properties: { 'a+b': '\ud800' },
    };
    expect(commandBag(full, '/x', '2026-01-02T03:04:05Z')).toBe(
      '%24.mid=m%201&%24.to=%2Fx&%24.exp=2026-01-02T03%3A04%3A05Z&iothub-ack=full&a%2Bb=%EF%BF%BD',
    );
  });
});
