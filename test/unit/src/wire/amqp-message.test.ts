import rhea from 'rhea';
import { describe, expect, it } from 'vitest';
import {
  amqpInt,
  amqpLong,
  amqpTimestamp,
  amqpUbyte,
  amqpUlong,
  encodeAmqpMessage,
  uuidBytes,
  uuidText,
} from '../../../../src/wire/amqp-message.ts';

interface Typed {
  readonly type: { readonly name: string };
  readonly value: unknown;
}

const library = rhea as unknown as {
  message: { decode(bytes: Buffer): Record<string, unknown> };
  types: { Reader: new (bytes: Buffer) => { remaining(): number; read(): Typed & { descriptor: { value: number } } } };
};

const decode = (bytes: Buffer): Record<string, unknown> => library.message.decode(bytes);

/** Each section by its number, with types. */
function sections(bytes: Buffer): Map<number, Typed> {
  const reader = new library.types.Reader(bytes);
  const found = new Map<number, Typed>();
  while (reader.remaining() > 0) {
    const section = reader.read();
    found.set(section.descriptor.value, section);
  }
  return found;
}

describe('encodeAmqpMessage', () => {
  it('is read by another implementation, all sections of it', () => {
    const bytes = encodeAmqpMessage({
      deliveryAnnotations: { last: amqpLong(7) },
      annotations: { 'x-opt-offset': '12', at: amqpTimestamp(1_700_000_000_123), yes: true, no: false },
      properties: {
        messageId: 'm',
        userId: Buffer.from('u'),
        to: '/t',
        replyTo: 'r',
        correlationId: uuidBytes('00112233-4455-6677-8899-aabbccddeeff'),
        contentType: 'application/json',
        contentEncoding: 'utf-8',
        absoluteExpiryTimeMs: 1_800_000_000_000,
        creationTimeMs: 5,
      },
      applicationProperties: { k: 'v', empty: '' },
      data: Buffer.from('body'),
    });
    expect(decode(bytes)).toMatchObject({
      delivery_annotations: { last: 7 },
      message_annotations: { 'x-opt-offset': '12', at: new Date(1_700_000_000_123), yes: true, no: false },
      message_id: 'm',
      user_id: Buffer.from('u'),
      to: '/t',
      reply_to: 'r',
      correlation_id: Buffer.from('00112233445566778899aabbccddeeff', 'hex'),
      content_type: 'application/json',
      content_encoding: 'utf-8',
      absolute_expiry_time: new Date(1_800_000_000_000),
      creation_time: new Date(5),
      application_properties: { k: 'v', empty: '' },
      body: { typecode: 0x75, content: Buffer.from('body') },
    });
  });

  it.each([0, 1, 84, 85, 86, 127, 128, 255, 256, 70_000])('writes texts and bytes of %i', (length) => {
    for (const sign of ['a', 'ä', '€', '😀']) {
      const text = sign.repeat(length);
      const decoded = decode(
        encodeAmqpMessage({ applicationProperties: { [`k${sign}`]: text }, data: Buffer.from(text) }),
      );
      expect(decoded['application_properties']).toEqual({ [`k${sign}`]: text });
      expect((decoded['body'] as { content: Buffer }).content.equals(Buffer.from(text))).toBe(true);
    }
  });

  it('writes numbers in the type that was asked for, to their bounds', () => {
    const values = [
      0,
      -1,
      1,
      127,
      128,
      -129,
      2 ** 31,
      -(2 ** 31) - 1,
      Number.MAX_SAFE_INTEGER,
      Number.MIN_SAFE_INTEGER,
    ];
    for (const value of values) {
      const decoded = decode(encodeAmqpMessage({ annotations: { n: amqpLong(value) } }));
      // The reader gives numbers past 2^53 as bytes.
      expect(asNumber((decoded['message_annotations'] as { n: number | Buffer }).n)).toBe(value);
    }
    const typed = sections(
      encodeAmqpMessage({
        annotations: { a: amqpInt(-5), b: amqpLong(5), c: amqpUlong(2 ** 40), d: amqpUbyte(300), e: amqpTimestamp(1) },
      }),
    ).get(0x72);
    const items = typed?.value as readonly Typed[];
    expect(items.filter((_, index) => index % 2 === 1).map(({ type, value }) => [type.name, value])).toEqual([
      ['Int', -5],
      ['Long', 5],
      ['Ulong', 2 ** 40],
      ['Ubyte', 255],
      ['Timestamp', new Date(1)],
    ]);
    expect(items[0]?.type.name).toBe('Sym8');
  });

  it('gives an id back in the type that it came in', () => {
    const typeOf = (correlationId: string | number | Uint8Array): string | undefined =>
      (sections(encodeAmqpMessage({ properties: { correlationId } })).get(0x73) as { value: readonly Typed[] }).value[5]
        ?.type.name;
    expect([typeOf('x'), typeOf(0), typeOf(2 ** 50), typeOf(Buffer.alloc(16)), typeOf(Buffer.alloc(3))]).toEqual([
      'Str8',
      'Ulong',
      'Ulong',
      'Uuid',
      'Vbin8',
    ]);
  });

  it('says that a message is durable, where it is', () => {
    expect(decode(encodeAmqpMessage({ durable: true, data: Buffer.from('x') }))['durable']).toBe(true);
    expect(encodeAmqpMessage({ data: Buffer.from('x') }).readUInt8(2)).toBe(0x75);
  });

  it('writes a value with maps and arrays', () => {
    const bytes = encodeAmqpMessage({
      value: { map: { name: 'hub', ids: ['0', '1', ''], count: amqpInt(2), none: [] } },
    });
    expect(decode(bytes)['body']).toEqual({ name: 'hub', ids: ['0', '1', ''], count: 2, none: [] });
  });
});

describe('UUIDs', () => {
  it('go both ways, and nothing else is one', () => {
    const text = '01234567-89ab-cdef-0123-456789abcdef';
    expect(uuidText(uuidBytes(text))).toBe(text);
    expect(() => uuidBytes('no')).toThrow('is no UUID');
  });
});

function asNumber(value: number | Buffer): number {
  return typeof value === 'number' ? value : Number(value.readBigInt64BE());
}
