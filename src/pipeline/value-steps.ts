// Scale, offset, decimals and clamp: what a value is before anything looks at it.

import type { Quality, Reading } from '../core/reading.ts';
import type { PointShape } from '../core/shape.ts';
import type { Limit } from '../core/write-rules.ts';

const NOT_A_NUMBER: Quality = Object.freeze({ level: 'bad', reason: 'not_a_number' });
const DECIMALS_MAX = 15;

/** The steps of one point; undefined when there are none. Texts, booleans and bytes pass as they are. */
export function valueSteps(shape: PointShape): ((reading: Reading) => Reading) | undefined {
  const { scale = 1, offset = 0, decimals, clamp } = shape;
  const isScaled = scale !== 1 || offset !== 0 || decimals !== undefined;
  if (!isScaled && clamp === undefined) return undefined;
  // 2301 × 0.1 is 230.1 and not 230.10000000000002.
  const ofIntegers = Math.min(Math.max(decimalsOf(scale), decimalsOf(offset)), DECIMALS_MAX);
  const low: Limit = clamp?.min ?? Number.NEGATIVE_INFINITY;
  const high: Limit = clamp?.max ?? Number.POSITIVE_INFINITY;

  function scaled(value: number | bigint): number | bigint {
    if (!isScaled) return value;
    const raw = Number(value);
    const result = raw * scale + offset;
    const places = decimals ?? (Number.isInteger(raw) ? ofIntegers : undefined);
    return places === undefined ? result : Number(result.toFixed(places));
  }

  return (reading) => {
    const { value } = reading;
    if (typeof value !== 'number' && typeof value !== 'bigint') return reading;
    let result = scaled(value);
    if (typeof result === 'number' && !Number.isFinite(result)) {
      const { value: _, ...rest } = reading;
      return { ...rest, quality: NOT_A_NUMBER };
    }
    if (result < low) result = low;
    else if (result > high) result = high;
    return result === value ? reading : { ...reading, value: result };
  };
}

/** Digits after the point that a number is written with: 2 for 0.25, 3 for 1e-3. */
function decimalsOf(value: number): number {
  const [mantissa = '', exponent = '0'] = String(value).split('e');
  return Math.max(0, (mantissa.split('.')[1]?.length ?? 0) - Number(exponent));
}
