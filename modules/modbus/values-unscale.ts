// From a wanted value back to what the device holds: exact in decimals for integers, the nearest for floats.

import type { PointType } from './config-point.ts';
import { decimalsOf, decodeFloat16, encodeFloat16 } from './values-number.ts';
import type { RawNumber } from './values-raw.ts';

/** How far, in parts of a step, a value may lie beside it: scales such as 1/3 are no decimals. */
const STEP_PARTS = 1_000_000n;
/** How far, in parts of the value, a fraction may be off: sums of binary fractions are not the decimals meant. */
const FRACTION_PARTS = 2n ** 50n;

interface FloatKind {
  /** What the type holds of a number. */
  readonly held: (value: number) => number;
  /** Largest error, in parts of the value, of the nearest one in the type's normal range. */
  readonly error: number;
  /** What is larger would round up to infinity. */
  readonly max: number;
}

const FLOAT64: FloatKind = { held: (value) => value, error: 0, max: Number.MAX_VALUE };
const FLOAT_KINDS: Partial<Record<PointType, FloatKind>> = {
  float16: { held: (value) => decodeFloat16(encodeFloat16(value)), error: 2 ** -11, max: 65_504 },
  float32: { held: Math.fround, error: 2 ** -24, max: 3.402_823_466_385_288_6e38 },
};
/** Of scaling there and back in doubles. */
const SCALING_ERROR = 2 ** -50;
/** The part of a value that may be lost beside an offset. */
const LOST_BESIDE_OFFSET = 1e-3;

/** @returns the raw integer whose scaled value was wanted; undefined when it lies between two. */
export function unscaleInteger(wanted: RawNumber, scale: number, offset: number): bigint | undefined {
  const isFraction = typeof wanted === 'number' && !Number.isInteger(wanted);
  const places = Math.max(placesOf(wanted), decimalsOf(scale), decimalsOf(offset));
  const value = digitsOf(wanted, places);
  const numerator = value - digitsOf(offset, places);
  const step = digitsOf(scale, places);
  const raw = divideNearest(numerator, step);
  const beside = absolute(numerator - raw * step);
  if (beside === 0n || beside * STEP_PARTS <= absolute(step)) return raw;
  return isFraction && beside * FRACTION_PARTS <= absolute(value) ? raw : undefined;
}

/**
 * @returns the raw number for a float type, as the type holds it. Of a fraction that is the nearest; undefined for an
 * integer that the type does not hold, and for what is so small or large that nothing near it is held.
 */
export function unscaleFloat(wanted: RawNumber, type: PointType, scale: number, offset: number): number | undefined {
  const { held, error, max } = FLOAT_KINDS[type] ?? FLOAT64;
  if (typeof wanted === 'bigint' && BigInt(Number(wanted)) !== wanted) return undefined;
  const whole =
    typeof wanted === 'bigint' || Number.isSafeInteger(wanted) ? unscaleInteger(wanted, scale, offset) : undefined;
  if (whole !== undefined) {
    const raw = Number(whole);
    return BigInt(raw) === whole && Math.abs(raw) <= max && held(raw) === raw ? raw : undefined;
  }
  const value = Number(wanted);
  const isScaled = scale !== 1 || offset !== 0;
  const exact = (value - offset) / scale;
  if (!(Math.abs(exact) <= max)) return undefined;
  const raw = held(exact);
  const off = Math.abs(raw * scale + offset - value);
  const parts = error + (isScaled ? SCALING_ERROR : 0);
  const isNear = off <= parts * Math.max(Math.abs(value), isScaled ? Math.abs(offset) : 0);
  // Beside a large offset nothing may be left of a small value.
  return isNear && (value === 0 || off <= Math.abs(value) * LOST_BESIDE_OFFSET) ? raw : undefined;
}

/** The largest number of a float type. */
export function floatMax(type: PointType): number {
  return (FLOAT_KINDS[type] ?? FLOAT64).max;
}

function placesOf(value: RawNumber): number {
  return typeof value === 'bigint' ? 0 : decimalsOf(value);
}

/** value × 10^places, for a number of at most so many decimals. */
function digitsOf(value: RawNumber, places: number): bigint {
  if (typeof value === 'bigint') return value * 10n ** BigInt(places);
  const [mantissa = '', exponent = '0'] = String(value).split('e');
  const [whole = '', fraction = ''] = mantissa.split('.');
  return BigInt(whole + fraction) * 10n ** BigInt(places + Number(exponent) - fraction.length);
}

/** Rounded half away from zero. */
function divideNearest(numerator: bigint, denominator: bigint): bigint {
  const half = absolute(denominator) / 2n;
  const isNegative = numerator < 0n !== denominator < 0n;
  const quotient = (absolute(numerator) + half) / absolute(denominator);
  return isNegative ? -quotient : quotient;
}

function absolute(value: bigint): bigint {
  return value < 0n ? -value : value;
}
