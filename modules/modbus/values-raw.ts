// Raw values of registers: from the bytes of an answer to number, bigint or text, and back to registers.

import assert from 'node:assert';
import { swapsBytes, wireIndexes } from './byte-order.ts';
import { decodeFloat16, encodeFloat16, narrow, shortestFloat16, shortestFloat32 } from './values-number.ts';

export type RawNumber = number | bigint;

/** Reads at a byte offset; NaN stands for what is no number, a digit of BCD above 9 included. */
export type NumberReader = (data: Uint8Array, at: number) => RawNumber;

/** Registers of a raw value that the type can hold. */
export type NumberWriter = (raw: RawNumber) => number[];

export interface NumberFormat {
  readonly registers: number;
  readonly read: NumberReader;
  readonly write: NumberWriter;
}

export type NumberType =
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'float16'
  | 'float32'
  | 'float64'
  | 'bcd16'
  | 'bcd32';

const scratch = new DataView(new ArrayBuffer(8));

/** How a type is read and written; closures over constant offsets, so that a read allocates nothing. */
export function numberFormat(type: NumberType, order: string, byte: 'low' | 'high'): NumberFormat {
  switch (type) {
    case 'int8':
    case 'uint8':
      return byteFormat(type === 'int8', order, byte);
    case 'int16':
      return format16(
        order,
        (bits) => (bits << 16) >> 16,
        (raw) => Number(raw) & 0xffff,
      );
    case 'uint16':
      return format16(order, (bits) => bits, Number);
    case 'float16':
      return format16(
        order,
        (bits) => shortestFloat16(decodeFloat16(bits)),
        (raw) => encodeFloat16(Number(raw)),
      );
    case 'bcd16':
      return format16(
        order,
        (bits) => decodeBcd(bits, 4),
        (raw) => encodeBcd(Number(raw), 4),
      );
    case 'int32':
      return format32(
        order,
        (bits) => bits | 0,
        (raw) => Number(raw) >>> 0,
      );
    case 'uint32':
      return format32(order, (bits) => bits, Number);
    case 'bcd32':
      return format32(
        order,
        (bits) => decodeBcd(bits, 8),
        (raw) => encodeBcd(Number(raw), 8),
      );
    case 'float32':
      return format32(order, decodeFloat32, encodeFloat32);
    case 'float64':
      return format64(order, decodeFloat64, (raw) => {
        scratch.setFloat64(0, Number(raw));
        return scratch.getBigUint64(0);
      });
    case 'uint64':
      return format64(order, decodeUint64, BigInt);
    case 'int64':
      return format64(order, decodeInt64, (raw) => BigInt.asUintN(64, BigInt(raw)));
  }
}

function byteFormat(signed: boolean, order: string, byte: 'low' | 'high'): NumberFormat {
  const index = byteIndex(order, byte);
  const shift = byteShift(order, byte);
  return {
    registers: 1,
    read: signed ? (data, at) => ((data[at + index] ?? 0) << 24) >> 24 : (data, at) => data[at + index] ?? 0,
    write: (raw) => [(Number(raw) & 0xff) << shift],
  };
}

/** Where a byte of a register lies on the wire: the high one first, unless the order swaps them. */
export function byteIndex(order: string, byte: 'low' | 'high'): 0 | 1 {
  return (byte === 'high') === swapsBytes(order) ? 1 : 0;
}

/** By how many bits that byte is shifted in the register as it is sent. */
export function byteShift(order: string, byte: 'low' | 'high'): 0 | 8 {
  return byteIndex(order, byte) === 0 ? 8 : 0;
}

function format16(order: string, decode: (bits: number) => number, encode: (raw: RawNumber) => number): NumberFormat {
  const [high, low] = offsets(order, 2) as [number, number];
  return {
    registers: 1,
    read: (data, at) => decode(((data[at + high] ?? 0) << 8) | (data[at + low] ?? 0)),
    write: (raw) => registersOf([encode(raw)], 16, [high, low]),
  };
}

function format32(order: string, decode: (bits: number) => number, encode: (raw: RawNumber) => number): NumberFormat {
  const wire = offsets(order, 4);
  const [a, b, c, d] = wire as [number, number, number, number];
  return {
    registers: 2,
    read: (data, at) => decode(word32(data, at + a, at + b, at + c, at + d)),
    write: (raw) => registersOf([encode(raw)], 32, wire),
  };
}

function format64(
  order: string,
  decode: (high: number, low: number) => RawNumber,
  encode: (raw: RawNumber) => bigint,
): NumberFormat {
  const wire = offsets(order, 8);
  const [a, b, c, d, e, f, g, h] = wire as [number, number, number, number, number, number, number, number];
  return {
    registers: 4,
    read: (data, at) =>
      decode(word32(data, at + a, at + b, at + c, at + d), word32(data, at + e, at + f, at + g, at + h)),
    write: (raw) => {
      const bits = encode(raw);
      return registersOf([Number(bits >> 32n), Number(bits & 0xffff_ffffn)], 32, wire);
    },
  };
}

function offsets(order: string, bytes: 2 | 4 | 8): readonly number[] {
  return wireIndexes(order, bytes);
}

function word32(data: Uint8Array, a: number, b: number, c: number, d: number): number {
  return (((data[a] ?? 0) << 24) | ((data[b] ?? 0) << 16) | ((data[c] ?? 0) << 8) | (data[d] ?? 0)) >>> 0;
}

/** Puts the bytes of words, the most significant first, at their places on the wire. */
function registersOf(words: readonly number[], bits: 16 | 32, wire: readonly number[]): number[] {
  const bytes = bits / 8;
  const registers = Array.from({ length: wire.length / 2 }, () => 0);
  for (const [index, place] of wire.entries()) {
    const word = words[Math.floor(index / bytes)] ?? 0;
    const byte = (word >>> (bits - 8 - (index % bytes) * 8)) & 0xff;
    const register = place >> 1;
    registers[register] = (registers[register] ?? 0) | (byte << (place % 2 === 0 ? 8 : 0));
  }
  return registers;
}

function decodeBcd(bits: number, digits: number): number {
  let value = 0;
  for (let shift = (digits - 1) * 4; shift >= 0; shift -= 4) {
    const digit = (bits >>> shift) & 0xf;
    if (digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

function encodeBcd(raw: number, digits: number): number {
  let bits = 0;
  let rest = raw;
  for (let index = 0; index < digits; index += 1) {
    bits += (rest % 10) * 16 ** index;
    rest = Math.floor(rest / 10);
  }
  return bits;
}

function decodeFloat32(bits: number): number {
  scratch.setUint32(0, bits);
  return shortestFloat32(scratch.getFloat32(0));
}

function encodeFloat32(raw: RawNumber): number {
  scratch.setFloat32(0, Number(raw));
  return scratch.getUint32(0);
}

function decodeFloat64(high: number, low: number): number {
  scratch.setUint32(0, high);
  scratch.setUint32(4, low);
  return scratch.getFloat64(0) + 0;
}

function decodeUint64(high: number, low: number): RawNumber {
  // 2^53 has its one at bit 21 of the high word.
  if (high < 0x20_0000) return high * 0x1_0000_0000 + low;
  return (BigInt(high) << 32n) | BigInt(low);
}

function decodeInt64(high: number, low: number): RawNumber {
  const signed = high | 0;
  if (signed >= -0x1f_ffff && signed < 0x20_0000) return signed * 0x1_0000_0000 + low;
  return narrow(BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)));
}

export interface TextFormat {
  readonly registers: number;
  /** The most bytes of text. */
  readonly capacityBytes: number;
  /** Up to the first NUL, without trailing blanks. */
  readonly read: (data: Uint8Array, at: number) => string;
  /** Undefined when the text does not fit or has characters that the encoding has not. */
  readonly write: (text: string) => number[] | undefined;
}

export type TextEncoding = 'utf8' | 'ascii' | 'latin1';

/** U+FFFD stands for bytes that are no characters of the encoding. */
export const REPLACEMENT = '\u{FFFD}';

export function textFormat(
  registers: number,
  order: string,
  byte: 'low' | 'high' | undefined,
  encoding: TextEncoding,
): TextFormat {
  const places = textPlaces(registers, order, byte);
  return {
    registers,
    capacityBytes: places.length,
    read(data, at) {
      const bytes = Buffer.allocUnsafe(places.length);
      let length = 0;
      for (const place of places) {
        const byte = data[at + place] ?? 0;
        if (byte === 0) break;
        bytes[length] = byte;
        length += 1;
      }
      return decodeText(bytes.subarray(0, length), encoding).replace(/ +$/, '');
    },
    write(text) {
      const bytes = Buffer.from(text, encoding === 'utf8' ? 'utf8' : 'latin1');
      if (bytes.length > places.length || decodeText(bytes, encoding) !== text) return undefined;
      const values = Array.from({ length: registers }, () => 0);
      for (const [index, value] of bytes.entries()) {
        const place = places[index];
        assert(place !== undefined);
        values[place >> 1] = (values[place >> 1] ?? 0) | (value << (place % 2 === 0 ? 8 : 0));
      }
      return values;
    },
  };
}

/** Where on the wire the bytes of a text lie. Only the swap of bytes matters: words of a text are never reversed. */
function textPlaces(registers: number, order: string, byte: 'low' | 'high' | undefined): readonly number[] {
  const indexes = Array.from({ length: registers }, (_, index) => index);
  if (byte !== undefined) return indexes.map((index) => index * 2 + byteIndex(order, byte));
  return indexes.flatMap((index) => [index * 2 + byteIndex(order, 'high'), index * 2 + byteIndex(order, 'low')]);
}

function decodeText(bytes: Buffer, encoding: TextEncoding): string {
  if (encoding === 'utf8') return bytes.toString('utf8');
  const text = bytes.toString('latin1');
  return encoding === 'ascii' ? text.replace(/[\u0080-\u00ff]/g, REPLACEMENT) : text;
}
