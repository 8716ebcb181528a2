// Binary frames: values at their places, by bytes and bits.

import { shortestFloat32 } from '#sdk';
import type { LayoutField, DecodeConfig } from './config-decode.ts';
import type { Decoded, Decoder } from './decoded.ts';
import { whole } from './decode-value.ts';

/** Bytes of each type; those of texts and BCD are given. */
const TYPE_BYTES = {
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  int24: 3,
  uint24: 3,
  int32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
  float32: 4,
  float64: 8,
} as const;

export function createLayoutDecoder({ fields }: Extract<DecodeConfig, { kind: 'layout' }>): Decoder {
  const entries = Object.entries(fields);
  return {
    points: new Map(entries.map(([name, field]) => [name, `byte ${field.offset} ${field.type}`])),
    decode(frame) {
      const values = entries.map(([name, field]): [string, Decoded] => [name, readField(frame, field)]);
      // A frame that has room for none of them is another one.
      if (values.every(([, value]) => 'bad' in value && value.bad === 'short'))
        return { kind: 'fault', reason: 'short' };
      return { kind: 'values', values: new Map(values) };
    },
  };
}

/** How many bytes a field takes. */
export function fieldBytes({ type, length_bytes: length, bits, bit }: LayoutField): number {
  if (type === 'bool') return 1;
  if (type === 'bits') return Math.ceil(((bit ?? 0) + (bits ?? 1)) / 8);
  if (type === 'text' || type === 'bcd') return length ?? 1;
  return TYPE_BYTES[type];
}

function readField(frame: Buffer, field: LayoutField): Decoded {
  // Below zero: counted from the end.
  const start = field.offset < 0 ? frame.length + field.offset : field.offset;
  const length = fieldBytes(field);
  if (start < 0 || start + length > frame.length) return { bad: 'short' };
  const wire = frame.subarray(start, start + length);
  // From here on the most significant byte comes first.
  const bytes = field.type === 'text' ? wire : inOrder(wire, field.order);
  switch (field.type) {
    case 'text':
      return { value: textOf(bytes) };
    case 'bcd':
      return readBcd(bytes);
    case 'float32':
      return finite(shortestFloat32(bytes.readFloatBE(0)));
    case 'float64':
      return finite(bytes.readDoubleBE(0));
    case 'bool':
      return { value: field.bit === undefined ? bytes[0] !== 0 : (((bytes[0] ?? 0) >>> field.bit) & 1) === 1 };
    case 'bits':
      return whole((unsigned(bytes) >> BigInt(field.bit ?? 0)) & ((1n << BigInt(field.bits ?? 1)) - 1n));
    default:
      return whole(field.type.startsWith('u') ? unsigned(bytes) : BigInt.asIntN(length * 8, unsigned(bytes)));
  }
}

function inOrder(wire: Buffer, order: LayoutField['order']): Buffer {
  const bytes = Buffer.from(wire);
  switch (order) {
    case 'big':
      return bytes;
    case 'little':
      return bytes.reverse();
    case 'word_swapped':
      // Least significant word first, the bytes of each word in order: CDAB.
      return bytes.length % 2 === 0 ? bytes.reverse().swap16() : bytes;
  }
}

function unsigned(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

function readBcd(bytes: Buffer): Decoded {
  const digits = bytes.toString('hex');
  return /^\d+$/.test(digits) ? whole(BigInt(digits)) : { bad: 'not_bcd' };
}

function textOf(bytes: Buffer): string {
  const text = bytes.toString('latin1');
  const end = text.indexOf('\0');
  return (end < 0 ? text : text.slice(0, end)).trim();
}

function finite(value: number): Decoded {
  return Number.isFinite(value) ? { value } : { bad: 'not_a_number' };
}
