// Bounds of integers that a double cannot hold.

import { expect, it } from 'vitest';
import { GOOD } from '../../../../src/core/reading.ts';
import { pointShape } from '../../../../src/core/shape-of.ts';
import { valueSteps } from '../../../../src/pipeline/value-steps.ts';

it('clamps integers beyond 2^53 exactly', () => {
  const steps = valueSteps(pointShape({ clamp: { min: '9007199254740993', max: '9007199254740995' } }));
  const values = [5, 9_007_199_254_740_992n, 9_007_199_254_740_994n, 9_007_199_254_740_996n];
  expect(values.map((value) => steps?.({ point: 'p', value, quality: GOOD }).value)).toEqual([
    9_007_199_254_740_993n,
    9_007_199_254_740_993n,
    9_007_199_254_740_994n,
    9_007_199_254_740_995n,
  ]);
});
