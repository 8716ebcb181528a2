// Decoding and encoding as properties, against the runtime's own conversions.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pointSchema } from '../../modules/modbus/config-point.ts';
import { compilePoint } from '../../modules/modbus/values.ts';
import { decodeFloat16, encodeFloat16, shortestFloat32 } from '../../modules/modbus/values-number.ts';

const order = fc.oneof(
  fc.constantFrom('ABCD', 'CDAB', 'BADC', 'DCBA'),
  fc.shuffledSubarray('ABCDEFGH'.split(''), { minLength: 8 }).map((letters) => letters.join('')),
);

/** What lies on the wire, from the bytes of the value; the definition of the orders, written down another way. */
function toWire(bytes: Buffer, letters: string): Uint8Array {
  if (letters.length === 8) {
    return bytes.length === 8
      ? Uint8Array.from(letters.split(''), (letter) => bytes['ABCDEFGH'.indexOf(letter)] ?? 0)
      : toWire(bytes, 'ABCD');
  }
  const wire = Buffer.from(bytes);
  if (letters === 'CDAB' || letters === 'DCBA') wire.reverse().swap16();
  if (letters === 'BADC' || letters === 'DCBA') wire.swap16();
  return wire;
}

const types = {
  int16: { bytes: 2, read: (b: Buffer) => b.readInt16BE() },
  uint16: { bytes: 2, read: (b: Buffer) => b.readUInt16BE() },
  int32: { bytes: 4, read: (b: Buffer) => b.readInt32BE() },
  uint32: { bytes: 4, read: (b: Buffer) => b.readUInt32BE() },
  int64: { bytes: 8, read: (b: Buffer) => b.readBigInt64BE() },
  uint64: { bytes: 8, read: (b: Buffer) => b.readBigUInt64BE() },
  float64: { bytes: 8, read: (b: Buffer) => b.readDoubleBE() },
} as const;

describe.each(Object.entries(types))('%s', (type, { bytes, read }) => {
  it('reads what the runtime reads, in every order, and writes the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: bytes, maxLength: bytes }), order, (raw, letters) => {
        const byteOrder = letters.length === 8 && bytes < 8 ? 'ABCD' : letters;
        const point = compilePoint('p', pointSchema.parse({ register: 'holding:0', type, writable: true }), byteOrder);
        const wire = toWire(Buffer.from(raw), byteOrder);
        const value = read(Buffer.from(raw));
        const reading = point.read(wire, 0);
        if (typeof value === 'number' && !Number.isFinite(value)) {
          expect(reading.quality).toEqual({ level: 'bad', reason: 'not_a_number' });
          return;
        }
        if (typeof value === 'bigint') {
          expect(BigInt(reading.value as number | bigint)).toBe(value);
          expect(typeof reading.value).toBe(Number.isSafeInteger(Number(value)) ? 'number' : 'bigint');
        } else {
          expect(reading.value).toBe(value + 0);
        }
        if (Object.is(value, -0)) return;
        expect(point.holds(point.encode(reading.value ?? 0), wire, 0)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('float32', () => {
  const float32 = fc.float({ noNaN: true, noDefaultInfinity: true });

  it('is the same float, in no more digits than needed', () => {
    fc.assert(
      fc.property(float32, (value) => {
        const short = shortestFloat32(value);
        expect(Math.fround(short)).toBe(value + 0);
        const digits = (number: number): number => number.toExponential().replace(/e.*$|[-.]/g, '').length;
        if (Math.abs(value) < 1.2e-38 || Number.isInteger(value)) return;
        const needed =
          [1, 2, 3, 4, 5, 6, 7, 8, 9].find((n) => Math.fround(Number(value.toPrecision(n))) === value) ?? 9;
        expect(digits(short)).toBeLessThanOrEqual(needed);
      }),
      { numRuns: 5000 },
    );
  });

  it('gives back decimals of up to six digits as they were', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -999_999, max: 999_999 }),
        fc.integer({ min: -12, max: 12 }),
        (digits, exponent) => {
          const decimal = Number(`${digits}e${exponent}`);
          const float = Math.fround(decimal);
          // Whole numbers are not shortened: what the device holds may be a counter.
          const isCounter = Number.isInteger(float) && Math.abs(float) < 1e15;
          expect(shortestFloat32(float)).toBe((isCounter ? float : decimal) + 0);
        },
      ),
      { numRuns: 5000 },
    );
  });
});

it('float16 goes there and back for all 65536 patterns, and rounds to the nearest', () => {
  for (let bits = 0; bits < 0x10000; bits += 1) {
    const value = decodeFloat16(bits);
    if (!Number.isNaN(value)) expect(encodeFloat16(value)).toBe(bits);
  }
  for (let bits = 0; bits < 0x7bff; bits += 1) {
    const [low, high] = [decodeFloat16(bits), decodeFloat16(bits + 1)];
    const middle = (low + high) / 2;
    expect(encodeFloat16(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(encodeFloat16(middle - (high - low) / 8)).toBe(bits);
    expect(encodeFloat16(middle + (high - low) / 8)).toBe(bits + 1);
  }
});

it('scaled integers are the decimals a person would write', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -32_768, max: 32_767 }),
      fc.integer({ min: -9999, max: 9999 }).filter((scale) => scale !== 0),
      fc.integer({ min: -9999, max: 9999 }),
      fc.integer({ min: 0, max: 6 }),
      (raw, scale, offset, places) => {
        const point = compilePoint(
          'p',
          pointSchema.parse({
            register: 'holding:0',
            type: 'int16',
            scale: Number(`${scale}e-${places}`),
            offset: Number(`${offset}e-${places}`),
            writable: true,
          }),
          'ABCD',
        );
        const bytes = Buffer.alloc(2);
        bytes.writeInt16BE(raw);
        const { value } = point.read(bytes, 0);
        expect(value).toBe(Number(`${raw * scale + offset}e-${places}`) + 0);
        expect(point.encode(value ?? 0)).toEqual({ kind: 'registers', values: [bytes.readUInt16BE()] });
      },
    ),
    { numRuns: 3000 },
  );
});
