// Bounds of integers that a double cannot hold.

import { expect, it } from 'vitest';
import type { PointConfig } from '../../../../modules/serial/config.ts';
import { createPoint } from '../../../../modules/serial/point.ts';
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
