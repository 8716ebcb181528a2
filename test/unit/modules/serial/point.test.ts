// What a point takes for a value: exact bounds, the right type, the raw value of a scaled one.

import { describe, expect, it } from 'vitest';
import type { PointConfig } from '../../../../modules/serial/config.ts';
import type { ValueType } from '../../../../modules/serial/config-decode.ts';
import { createPoint, type Point } from '../../../../modules/serial/point.ts';
import { qualityText } from '../../../../src/core/reading.ts';

it('compares with bounds beyond 2^53 exactly', () => {
  const config: PointConfig = { min: '9007199254740993', max: '9007199254740995' };
  const point = createPoint({ name: 'total', address: 'here', config, decode: undefined, scale: undefined });
  const values = [9_007_199_254_740_992n, 9_007_199_254_740_993n, 9_007_199_254_740_995n, 9_007_199_254_740_996n];
  expect(values.map((value) => qualityText(point.read({ value }).quality))).toEqual([
    'bad:out_of_range',
    'good',
    'good',
    'bad:out_of_range',
  ]);
  expect(() => point.raw(9_007_199_254_740_996n)).toThrow(/outside 9007199254740993 to 9007199254740995/);
});

describe('a write', () => {
  function point(type: ValueType, config?: PointConfig): Point {
    const decode = {
      kind: 'regex',
      pattern: '(?<v>.*)',
      types: { v: type },
      decimal_separator: '.',
      encoding: 'utf8',
    } as const;
    return createPoint({ name: 'v', address: 'here', config, decode, scale: undefined });
  }

  it.each<[ValueType, string | number | boolean]>([
    ['number', 'abc'],
    ['number', true],
    ['number', Number.NaN],
    ['number', '1.5'],
    ['integer', 1.5],
    ['hex', 'FF'],
    ['boolean', 'maybe'],
    ['boolean', 2],
  ])('of the wrong type is refused: %s, %j', (type, value) => {
    expect(() => point(type).raw(value)).toThrow(/does not take the value: (it takes|1\.5 is not a whole number)/);
  });

  it.each<[ValueType, string | number | boolean | bigint, unknown]>([
    ['number', 1e30, 1e30],
    ['integer', '9007199254740993', 9_007_199_254_740_993n],
    ['integer', 2n ** 60n, 2n ** 60n],
    ['boolean', true, true],
    ['boolean', 1, 1],
    ['boolean', 'OFF', 'OFF'],
    ['string', 'abc', 'abc'],
    ['string', 5, 5],
  ])('of the type goes on: %s, %s', (type, value, raw) => {
    expect(point(type).raw(value)).toBe(raw);
  });

  it('of a scaled point keeps all its digits', () => {
    expect(point('number', { scale: 0.001 }).raw(12_345_678_901.234)).toBe(12_345_678_901_234);
  });
});
