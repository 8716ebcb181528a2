import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseExactJson } from '../../../../src/core/exact-json.ts';

it.each<[string, unknown]>([
  ['9007199254740991', 9_007_199_254_740_991],
  ['-9007199254740991', -9_007_199_254_740_991],
  ['9007199254740992', 9_007_199_254_740_992n],
  ['9007199254740993', 9_007_199_254_740_993n],
  ['-9007199254740993', -9_007_199_254_740_993n],
  ['12345678901234567890', 12_345_678_901_234_567_890n],
  ['18446744073709551615', 18_446_744_073_709_551_615n],
  ['-9223372036854775808', -9_223_372_036_854_775_808n],
  ['18446744073709551616', Number.NaN],
  ['-9223372036854775809', Number.NaN],
  ['99999999999999999999999999', Number.NaN],
  ['0.30000000000000004', 0.300_000_000_000_000_04],
  ['12345678901234567.5', Number('12345678901234567.5')],
  ['1234567890123456789e3', Number('1234567890123456789e3')],
  ['1e300', 1e300],
  ['"12345678901234567890"', '12345678901234567890'],
])('reads %s', (text, value) => {
  expect(parseExactJson(text)).toEqual(value);
  expect(parseExactJson(` {"a":[1,{"b":${text}}],"c":0.25}`)).toEqual({ a: [1, { b: value }], c: 0.25 });
});

it('finds a long integer at any place', () => {
  for (let blanks = 0; blanks < 40; blanks += 1) {
    expect(parseExactJson(`${' '.repeat(blanks)}9007199254740993`)).toBe(9_007_199_254_740_993n);
  }
});

it('reads what holds no long integers as JSON.parse does', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      const holdsLong = /(?:^|[^.\d])\d{16}/.test(text);
      if (!holdsLong) expect(parseExactJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

it('keeps every integer of 64 bits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), fc.json(), (integer, other) => {
      const [, read] = parseExactJson(`[${other},${integer}]`) as [unknown, number | bigint];
      expect(BigInt(read)).toBe(integer);
    }),
  );
});

it('is not held up by endless digits', () => {
  const digits = '7'.repeat(1_000_000);
  const startMs = performance.now();
  expect(parseExactJson(digits)).toBeNaN();
  expect(parseExactJson(`0.${digits}`)).toBeCloseTo(0.777_777);
  expect(performance.now() - startMs).toBeLessThan(1000);
});

it.each(['', '{', 'nul', '9007199254740993x', '[9007199254740993'])('refuses %j', (text) => {
  expect(() => parseExactJson(text)).toThrow(SyntaxError);
});
