import { expect, it } from 'vitest';
import { Scale } from '../../../../modules/simulator/scale.ts';

it('the scale weighs, tares and keeps a limit', () => {
  const scale = new Scale();
  expect(scale.answer('W', 0)).toBe('W 12.50 kg');
  expect(scale.answer('T', 0)).toBe('OK');
  expect(scale.answer('W', 0)).toBe('W 0.00 kg');
  expect(scale.answer('L042.50', 0)).toBe('OK');
  expect(scale.answer('L?', 0)).toBe('L 42.50 kg');
  expect(scale.answer('L200.00', 0)).toBe('ERR 2');
  expect(scale.answer('?', 0)).toBe('ERR 1');
});
