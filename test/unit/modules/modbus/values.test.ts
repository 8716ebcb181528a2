import { describe, expect, it } from 'vitest';
import { isGatewayError, qualityText, type PointValue } from '../../../../src/sdk/index.ts';
import { pointSchema } from '../../../../modules/modbus/config-point.ts';
import { type CompiledPoint, compilePoint } from '../../../../modules/modbus/values.ts';

type Fields = Record<string, unknown>;

function point(fields: Fields, deviceOrder = 'ABCD'): CompiledPoint {
  return compilePoint('p', pointSchema.parse({ register: 'holding:10', writable: true, ...fields }), deviceOrder);
}

function bytesOf(registers: readonly number[]): Uint8Array {
  return Uint8Array.from(registers.flatMap((register) => [register >> 8, register & 0xff]));
}

/** Value and quality of registers that start at the point. */
function read(fields: Fields, registers: readonly number[], deviceOrder?: string): [PointValue | undefined, string] {
  const { value, quality } = point(fields, deviceOrder).read(bytesOf(registers), 10);
  return [value, qualityText(quality)];
}

function write(fields: Fields, value: PointValue, deviceOrder?: string): unknown {
  const { kind, ...rest } = point(fields, deviceOrder).encode(value);
  return kind === 'bits' ? rest : Object.keys(rest).length === 1 ? Object.values(rest)[0] : rest;
}

describe('numbers', () => {
  it.each([
    ['int8', {}, [0xff80], -128],
    ['int8', { byte: 'high' }, [0x7f80], 127],
    ['uint8', {}, [0x12ff], 255],
    ['uint8', { byte: 'high' }, [0x12ff], 0x12],
    ['uint8', { byte: 'high', byte_order: 'DCBA' }, [0x12ff], 0xff],
    ['int16', {}, [0x8000], -32_768],
    ['int16', { byte_order: 'BADC' }, [0x0080], -32_768],
    ['int16', { byte_order: 'CDAB' }, [0x8000], -32_768],
    ['uint16', {}, [0xffff], 65_535],
    ['int32', {}, [0xffff, 0xfffe], -2],
    ['int32', {}, [0x8000, 0], -2_147_483_648],
    ['uint32', {}, [0xffff, 0xfffe], 4_294_967_294],
    ['uint32', { byte_order: 'CDAB' }, [0x5678, 0x1234], 0x12345678],
    ['uint32', { byte_order: 'BADC' }, [0x3412, 0x7856], 0x12345678],
    ['uint32', { byte_order: 'DCBA' }, [0x7856, 0x3412], 0x12345678],
    ['int64', {}, [0xffff, 0xffff, 0xffff, 0xffff], -1],
    ['int64', {}, [0x8000, 0, 0, 0], -(2n ** 63n)],
    ['int64', {}, [0xffe0, 0, 0, 1], -9_007_199_254_740_991],
    ['int64', {}, [0xffe0, 0, 0, 0], -9_007_199_254_740_992n],
    ['int64', {}, [0x001f, 0xffff, 0xffff, 0xffff], 9_007_199_254_740_991],
    ['int64', {}, [0x0020, 0, 0, 0], 9_007_199_254_740_992n],
    ['uint64', {}, [0x001f, 0xffff, 0xffff, 0xffff], 9_007_199_254_740_991],
    ['uint64', {}, [0x0020, 0, 0, 0], 9_007_199_254_740_992n],
    ['uint64', {}, [0xffff, 0xffff, 0xffff, 0xffff], 2n ** 64n - 1n],
    ['uint64', { byte_order: 'CDAB' }, [4, 3, 2, 1], 0x0001_0002_0003_0004],
    ['uint64', { byte_order: 'GHEFCDAB' }, [4, 3, 2, 1], 0x0001_0002_0003_0004],
    ['uint64', { byte_order: 'CDABGHEF' }, [2, 1, 4, 3], 0x0001_0002_0003_0004],
    ['float16', {}, [0x3555], 0.3333],
    ['float16', {}, [0x0001], 5.96e-8],
    ['float16', {}, [0xfbff], -65_504],
    ['float32', {}, [0x4366, 0x199a], 230.1],
    ['float32', {}, [0x8000, 0], 0],
    ['float32', { byte_order: 'CDAB' }, [0x199a, 0x4366], 230.1],
    ['float32', { byte_order: 'BADC' }, [0x6643, 0x9a19], 230.1],
    ['float32', { byte_order: 'DCBA' }, [0x9a19, 0x6643], 230.1],
    ['float64', {}, [0x406c, 0xc333, 0x3333, 0x3333], 230.1],
    ['float64', { byte_order: 'DCBA' }, [0x3333, 0x3333, 0x33c3, 0x6c40], 230.1],
    ['bcd16', {}, [0x9807], 9807],
    ['bcd32', {}, [0x1234, 0x5678], 12_345_678],
    ['bcd32', { byte_order: 'CDAB' }, [0x5678, 0x1234], 12_345_678],
  ])('%s %o reads %o and writes it back', (type, fields, registers, value) => {
    const own = { type, ...fields };
    expect(read(own, registers)).toEqual([value, 'good']);
    const p = point(own);
    const encoded = p.encode(value);
    if (encoded.kind !== 'registers') throw new Error('registers expected');
    const mask = encoded.mask ?? 0xffff;
    // -0 is written as 0.
    const expected = Object.is(value, 0) ? [0, 0] : registers;
    expect(encoded.values.map((register) => register & mask)).toEqual(expected.map((register) => register & mask));
    expect(p.holds(encoded, bytesOf(expected), 10)).toBe(true);
    expect(p.holds(encoded, bytesOf(expected.map((register) => register ^ mask)), 10)).toBe(false);
  });

  it('takes the order of the device unless the point has its own', () => {
    expect(read({ type: 'uint32' }, [2, 1], 'CDAB')).toEqual([0x10002, 'good']);
    expect(read({ type: 'uint32', byte_order: 'ABCD' }, [1, 2], 'CDAB')).toEqual([0x10002, 'good']);
  });

  it('finds the point inside a longer answer', () => {
    expect(point({ type: 'uint16' }).read(bytesOf([1, 2, 3, 4]), 8).value).toBe(3);
  });

  it.each([
    [[], 10],
    [[1], 10],
    [[1, 2], 11],
    [[1, 2], 9],
  ])('is bad when the answer %o from %i is too short', (registers, start) => {
    const { value, quality } = point({ type: 'uint32' }).read(bytesOf(registers), start);
    expect([value, qualityText(quality)]).toEqual([undefined, 'bad:short_answer']);
  });
});

describe('values that are none', () => {
  it.each([
    ['float32', [0x7fc0, 0]],
    ['float32', [0xff80, 0]],
    ['float64', [0x7ff0, 0, 0, 0]],
    ['float16', [0x7c00]],
  ])('%s %o is not a number', (type, registers) => {
    expect(read({ type }, registers)).toEqual([undefined, 'bad:not_a_number']);
  });

  it('is not BCD with a digit above 9', () => {
    expect(read({ type: 'bcd16' }, [0x12a4])).toEqual([undefined, 'bad:not_bcd']);
    expect(read({ type: 'bcd32' }, [0xf234, 0])).toEqual([undefined, 'bad:not_bcd']);
  });

  it.each([
    ['uint16', 0xffff, [0xffff]],
    ['int16', 0x8000, [0x8000]],
    ['int16', -32_768, [0x8000]],
    ['int32', '0x80000000', [0x8000, 0]],
    ['uint64', '0xFFFFFFFFFFFFFFFF', [0xffff, 0xffff, 0xffff, 0xffff]],
    ['int64', '0x8000000000000000', [0x8000, 0, 0, 0]],
    ['float32', -9999, [0xc61c, 0x3c00]],
    ['float32', 0.1, [0x3dcc, 0xcccd]],
  ])('%s knows the sentinel %s', (type, sentinel, registers) => {
    expect(read({ type, sentinels: [sentinel] }, registers)).toEqual([undefined, 'bad:sentinel']);
    const other = registers.map((register) => register ^ 1);
    expect(read({ type, sentinels: [sentinel] }, other)[1]).toBe('good');
  });

  it('compares with bounds beyond 2^53 exactly, and takes none that YAML has rounded', () => {
    const fields = { type: 'uint64', min: '9007199254740993', max: '9007199254740995' };
    const last = (low: number): [PointValue | undefined, string] => read(fields, [0x20, 0, 0, low]);
    expect([0, 1, 3, 4].map(last)).toEqual([
      [undefined, 'bad:out_of_range'],
      [9_007_199_254_740_993n, 'good'],
      [9_007_199_254_740_995n, 'good'],
      [undefined, 'bad:out_of_range'],
    ]);
    expect(write(fields, 9_007_199_254_740_995n)).toEqual([0x20, 0, 0, 3]);
    expect(() => write(fields, 9_007_199_254_740_996n)).toThrow(/9007199254740993 to 9007199254740995/);
    expect(() => point({ type: 'uint64', max: Number(9_007_199_254_740_995n) })).toThrow(/must stand in quotes/);
  });

  it('compares sentinels before scaling, and the range after', () => {
    const fields = { type: 'int16', scale: 0.1, sentinels: [2000], min: -40, max: 125 };
    expect(read(fields, [2000])).toEqual([undefined, 'bad:sentinel']);
    expect(read(fields, [1250])).toEqual([125, 'good']);
    expect(read(fields, [1251])).toEqual([undefined, 'bad:out_of_range']);
    expect(read(fields, [0x10000 - 400])).toEqual([-40, 'good']);
    expect(read(fields, [0x10000 - 401])).toEqual([undefined, 'bad:out_of_range']);
  });
});

describe('scale and offset', () => {
  it.each([
    [{ type: 'uint16', scale: 0.1 }, [2301], 230.1],
    [{ type: 'uint16', scale: 0.01 }, [28], 0.28],
    [{ type: 'uint16', scale: 0.001, offset: -0.5 }, [1009], 0.509],
    [{ type: 'int16', scale: 0.1 }, [0xfff9], -0.7],
    [{ type: 'uint16', scale: -1 }, [0], 0],
    [{ type: 'uint16', scale: 10, offset: 5 }, [7], 75],
    [{ type: 'uint16', scale: 1e-7 }, [3], 3e-7],
    [{ type: 'uint16', scale: 1 / 3 }, [3], 1],
    [{ type: 'uint64', scale: 10 }, [0x001f, 0xffff, 0xffff, 0xffff], 90_071_992_547_409_910n],
    [{ type: 'uint64', scale: 0.01 }, [0xffff, 0xffff, 0xffff, 0xffff], Number('184467440737095516.15')],
    [{ type: 'float32', scale: 0.1 }, [0x4366, 0x199a], 23.01],
    [{ type: 'float32', offset: -273.15 }, [0x4396, 0], 26.85],
    [{ type: 'float32', decimals: 1 }, [0x4048, 0xf5c3], 3.1],
    [{ type: 'uint16', scale: 0.005, decimals: 2 }, [201], 1.01],
    [{ type: 'int16', scale: 0.5, decimals: 0 }, [0xfffd], -2],
  ])('%o of %o is %s', (fields, registers, value) => {
    expect(read(fields, registers)).toEqual([value, 'good']);
  });
});

describe('bits and bools', () => {
  it('reads packed bits, the first in the least significant place', () => {
    const coil = (address: number): CompiledPoint =>
      compilePoint('c', pointSchema.parse({ register: `coil:${address}` }), 'ABCD');
    const packed = Uint8Array.of(0b0000_0001, 0b0000_0100);
    expect(Array.from({ length: 16 }, (_, index) => coil(100 + index).read(packed, 100).value)).toEqual(
      Array.from({ length: 16 }, (_, index) => index === 0 || index === 10),
    );
    expect(qualityText(coil(116).read(packed, 100).quality)).toBe('bad:short_answer');
    expect(qualityText(coil(99).read(packed, 100).quality)).toBe('bad:short_answer');
  });

  it('reads and writes one bit of a register', () => {
    for (let bit = 0; bit < 16; bit += 1) {
      expect(read({ bit }, [1 << bit])).toEqual([true, 'good']);
      expect(read({ bit }, [~(1 << bit) & 0xffff])).toEqual([false, 'good']);
      expect(write({ bit }, true)).toEqual({ values: [1 << bit], mask: 1 << bit });
      expect(write({ bit }, false)).toEqual({ values: [0], mask: 1 << bit });
    }
    expect(read({ bit: 0, byte_order: 'BADC' }, [0x0100])).toEqual([true, 'good']);
    expect(write({ bit: 15, byte_order: 'DCBA' }, true)).toEqual({ values: [0x80], mask: 0x80 });
  });

  it('takes any register but 0 for true', () => {
    expect(read({ type: 'bool' }, [0])).toEqual([false, 'good']);
    expect(read({ type: 'bool' }, [0x8000])).toEqual([true, 'good']);
    expect(write({ type: 'bool' }, true)).toEqual([1]);
  });

  it('writes coils', () => {
    const coil = compilePoint('c', pointSchema.parse({ register: 'coil:3', writable: true }), 'ABCD');
    const on = coil.encode(true);
    expect(on).toEqual({ kind: 'bits', states: [true] });
    expect(coil.encode(0)).toEqual({ kind: 'bits', states: [false] });
    expect(coil.holds(on, Uint8Array.of(0b1000), 0)).toBe(true);
    expect(coil.holds(on, Uint8Array.of(0b0111), 0)).toBe(false);
  });
});

describe('names of values', () => {
  const names = { type: 'uint16', enum: { 0: 'off', 1: 'on' } };

  it('reads and writes texts', () => {
    expect(read(names, [1])).toEqual(['on', 'good']);
    expect(write(names, 'off')).toEqual([0]);
    expect(read({ type: 'int16', enum: { '-1': 'fault' } }, [0xffff])).toEqual(['fault', 'good']);
  });

  it('shows a number without a name, as uncertain', () => {
    expect(read(names, [7])).toEqual(['7', 'uncertain:unknown_enum']);
  });
});

describe('strings', () => {
  const text = (fields: Fields = {}): Fields => ({ type: 'string', length_registers: 3, ...fields });

  it.each([
    [{}, [0x4142, 0x4344, 0x4500], 'ABCDE'],
    [{}, [0x4142, 0x2020, 0x2020], 'AB'],
    [{}, [0x2041, 0x2020, 0x2000], ' A'],
    [{}, [0, 0x4142, 0x4344], ''],
    [{}, [0x4142, 0x4344, 0x4546], 'ABCDEF'],
    [{ byte_order: 'BADC' }, [0x4241, 0x4443, 0x0045], 'ABCDE'],
    [{ byte_order: 'CDAB' }, [0x4142, 0x4344, 0x4500], 'ABCDE'],
    [{ byte: 'low' }, [0x0041, 0x0042, 0x0043], 'ABC'],
    [{ byte: 'high' }, [0x4100, 0x4200, 0x4300], 'ABC'],
    [{ byte: 'high', byte_order: 'DCBA' }, [0x0041, 0x0042, 0x0043], 'ABC'],
    [{}, [0xc2b0, 0x4300, 0], '°C'],
    [{ encoding: 'latin1' }, [0xb043, 0, 0], '°C'],
  ])('%o reads %o', (fields, registers, value) => {
    expect(read(text(fields), registers)).toEqual([value, 'good']);
  });

  it('marks what is no text of the encoding', () => {
    expect(read(text({ encoding: 'ascii' }), [0xb043, 0, 0])).toEqual(['\u{FFFD}C', 'uncertain:not_text']);
    expect(read(text(), [0xb043, 0, 0])).toEqual(['\u{FFFD}C', 'uncertain:not_text']);
  });

  it('writes with NULs behind', () => {
    expect(write(text(), 'ABC')).toEqual([0x4142, 0x4300, 0]);
    expect(write(text({ byte_order: 'BADC' }), 'ABC')).toEqual([0x4241, 0x0043, 0]);
    expect(write(text({ byte: 'low' }), 'AB')).toEqual([0x41, 0x42, 0]);
    expect(write(text({ encoding: 'latin1' }), '°')).toEqual([0xb000, 0, 0]);
  });

  it('knows sentinels', () => {
    expect(read(text({ sentinels: ['N/A'] }), [0x4e2f, 0x4100, 0])).toEqual([undefined, 'bad:sentinel']);
  });
});

describe('what may not be written', () => {
  const text = { type: 'string', length_registers: 2 };
  it.each<[Fields, PointValue, RegExp]>([
    [{ type: 'uint16', writable: false }, 1, /not writable/],
    [{ type: 'uint16' }, 65_536, /0 to 65535 in steps of 1/],
    [{ type: 'uint16' }, -1, /0 to 65535/],
    [{ type: 'uint16' }, 1.5, /steps of 1/],
    [{ type: 'uint16' }, Number.NaN, /a number/],
    [{ type: 'uint16' }, true, /a number/],
    [{ type: 'uint16' }, 'twelve', /a number/],
    [{ type: 'int8' }, 128, /-128 to 127/],
    [{ type: 'uint64' }, 2n ** 64n, /0 to 18446744073709551615/],
    [{ type: 'int64' }, -(2n ** 63n) - 1n, /-9223372036854775808/],
    [{ type: 'bcd16' }, 10_000, /0 to 9999/],
    [{ type: 'int16', scale: 0.1 }, 23.05, /-3276.8 to 3276.7 in steps of 0.1/],
    [{ type: 'int16', scale: 0.1 }, 3276.8, /3276.7/],
    [{ type: 'int16', scale: -2 }, 65_538, /-65534 to 65536 in steps of 2/],
    [{ type: 'uint16', min: 10, max: 20 }, 9, /10 to 20/],
    [{ type: 'uint16', min: 10, max: 20 }, 21, /10 to 20/],
    [{ type: 'float32' }, 3.5e38, /float32 ends at/],
    [{ type: 'float32' }, Number.POSITIVE_INFINITY, /a number/],
    [{ type: 'float16' }, 65_520, /float16 ends at 65504/],
    [{ type: 'float32' }, 16_777_217, /float32 holds numbers beside it/],
    [{ type: 'float32' }, '123456789', /beside it/],
    [{ type: 'float32' }, 1e-50, /beside it/],
    [{ type: 'float16' }, 2049, /beside it/],
    [{ type: 'float32', scale: 2 }, 33_554_434, /beside it/],
    [{ type: 'float32', scale: 0.1 }, 16_777_217, /beside it/],
    [{ type: 'float32', offset: 1e9 }, 1, /beside it/],
    [{ type: 'float32', offset: 1e9 }, 0.5, /beside it/],
    [{ type: 'float64' }, '12345678901234567890', /beside it/],
    [{ type: 'float64', scale: 10 }, 9_007_199_254_740_993n, /beside it/],
    [{ type: 'uint32', scale: 0.01 }, 30_000_000.005, /steps of 0.01/],
    [{ type: 'uint64', scale: 10 }, '90071992547409931', /steps of 10/],
    [{ type: 'bool' }, 2, /true or false/],
    [{ type: 'bool' }, 'true', /true or false/],
    [{ type: 'uint16', enum: { 0: 'off', 1: 'on' } }, 'On', /one of off, on/],
    [{ type: 'uint16', enum: { 0: 'off', 1: 'on' } }, 1, /one of off, on/],
    [text, 'ABCDE', /at most 4 bytes in utf8/],
    [text, '°°°', /at most 4 bytes/],
    [{ ...text, encoding: 'ascii' }, '°', /in ascii/],
    [{ ...text, encoding: 'latin1' }, '€', /in latin1/],
    [text, 'A\0B', /text/],
    [text, 5, /text/],
    [{ type: 'uint16' }, Uint8Array.of(1), /1 bytes/],
  ])('%o does not take %s', (fields, value, allowed) => {
    let error: unknown;
    try {
      point(fields).encode(value);
    } catch (caught) {
      error = caught;
    }
    expect(isGatewayError(error, 'GW_WRITE_REFUSED')).toBe(true);
    expect((error as Error).message).toMatch(allowed);
  });

  it.each<[Fields, PointValue, number[]]>([
    [{ type: 'int16', scale: 0.1 }, 23.1, [231]],
    [{ type: 'int16', scale: 0.1 }, -0.3, [0xfffd]],
    [{ type: 'uint16', scale: 0.01, offset: -10 }, -9.57, [43]],
    [{ type: 'uint64' }, '18446744073709551615', [0xffff, 0xffff, 0xffff, 0xffff]],
    [{ type: 'uint32' }, 7n, [0, 7]],
    [{ type: 'float32' }, 230.1, [0x4366, 0x199a]],
    [{ type: 'float32', scale: 0.1 }, 23.01, [0x4366, 0x199a]],
    [{ type: 'float32' }, -65_504n, [0xc77f, 0xe000]],
    [{ type: 'uint16', min: 10, max: 20 }, 20, [20]],
    [{ type: 'uint64', offset: 5 }, '9007199254740998', [0x20, 0, 0, 1]],
    [{ type: 'uint64', scale: 10 }, '90071992547409930', [0x20, 0, 0, 1]],
    [{ type: 'uint16', scale: 1 / 3 }, 7, [21]],
    [{ type: 'uint16', scale: 0.1 }, 0.1 + 0.2, [3]],
    [{ type: 'float32' }, 64 / 3, [0x41aa, 0xaaab]],
    [{ type: 'float32', scale: 1.8, offset: 32 }, 70, [0x41a8, 0xe38e]],
    [{ type: 'float32', scale: 1.8, offset: 32 }, 0, [0xc18e, 0x38e4]],
    [{ type: 'float32' }, 16_777_216, [0x4b80, 0]],
    [{ type: 'float32' }, 1e20, [0x60ad, 0x78ec]],
  ])('%o takes %s', (fields, value, registers) => {
    expect(write(fields, value)).toEqual(registers);
  });
});

it('describes a point for people', () => {
  expect(point({ register: 'holding:0x156', type: 'float32', byte_order: 'CDAB' }).text).toBe(
    'holding:342 float32 CDAB',
  );
  expect(point({ bit: 3 }).text).toBe('holding:10 bool bit 3');
  expect(point({ register: 'coil:0' }).text).toBe('coil:0');
});

it('carries the unit on good and bad readings', () => {
  const p = point({ unit: 'V' });
  expect(p.read(bytesOf([1]), 10)).toEqual({ point: 'p', value: 1, quality: { level: 'good' }, unit: 'V' });
  expect(p.bad('timeout')).toEqual({ point: 'p', quality: { level: 'bad', reason: 'timeout' }, unit: 'V' });
  expect(point({}).bad('timeout')).toEqual({ point: 'p', quality: { level: 'bad', reason: 'timeout' } });
});
