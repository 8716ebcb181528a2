import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { scaled, unscaled } from '../../../../src/core/scaling.ts';

const SCALES = [0.001, 0.01, 0.1, 0.25, 1, 2, 10, -0.1];

describe('scaling', () => {
  it('gives the decimals that a person would calculate', () => {
    expect(scaled(1234, { scale: 0.01 })).toBe(12.34);
    expect(scaled(3, { scale: 0.1, offset: -40 })).toBe(-39.7);
  });

  it('is turned back without a loss', () => {
    const raws = fc.integer({ min: -(10 ** 15) + 1, max: 10 ** 15 - 1 });
    fc.assert(
      fc.property(raws, fc.constantFrom(...SCALES), (raw, scale) => {
        expect(unscaled(scaled(raw, { scale }), { scale })).toBe(raw);
      }),
    );
  });

  it('is turned back without a loss where an offset leaves few digits', () => {
    for (const scaling of [
      { scale: 0.01, offset: -40 },
      { scale: 0.1, offset: -273.15 },
      { scale: 0.001, offset: 1000 },
    ]) {
      for (let raw = -2500; raw <= 2500; raw += 1) expect(unscaled(scaled(raw, scaling), scaling)).toBe(raw);
    }
    // What an exact inverse has many digits for is not made shorter.
    expect(unscaled(20.123456, { scale: 0.1, offset: -40 })).toBe(601.23456);
  });

  it('takes the noise of sums of binary fractions for the decimals meant', () => {
    expect(unscaled(0.1 + 0.2, { scale: 0.1 })).toBe(3);
    expect(unscaled(20.1, { scale: 0.1, offset: -40 })).toBe(601);
  });

  it('gives the nearest double where no decimal is', () => {
    expect(unscaled(1, { scale: 3 })).toBe(1 / 3);
  });
});
