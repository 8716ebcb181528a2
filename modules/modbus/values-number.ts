// Numbers without binary noise: what a person would write for what the device sent.

import type { PointType } from './config-point.ts';

/** Powers of ten that a double holds exactly. */
const EXACT_POWERS = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);
/** The most decimals that scaled integers are given exactly. */
const DECIMALS_MAX = 15;

/** Digits that identify a binary float, from those that every decimal survives to those that always suffice. */
interface FloatDigits {
  readonly min: number;
  readonly max: number;
  readonly round: (value: number) => number;
}

const FLOAT16: FloatDigits = { min: 3, max: 5, round: (value) => decodeFloat16(encodeFloat16(value)) };
const FLOAT32: FloatDigits = { min: 6, max: 9, round: Math.fround };

/**
 * The shortest decimal that is this float32: 230.10000610351562 becomes 230.1; subnormal ones keep at least 6 digits.
 * Takes what a float32 holds.
 */
export function shortestFloat32(value: number): number {
  return shortest(value, FLOAT32);
}

/** The same for float16, with at least 3 digits. */
export function shortestFloat16(value: number): number {
  return shortest(value, FLOAT16);
}

function shortest(value: number, { min, max, round }: FloatDigits): number {
  // Whole numbers may be counters and are kept as they are. Also turns -0 into 0.
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value + 0;
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  for (let digits = min; digits < max; digits += 1) {
    const candidate = roundDigits(value, digits, exponent);
    if (round(candidate) === value) return candidate;
  }
  return roundDigits(value, max, exponent);
}

/** To so many significant digits; `exponent` is that of the first one. */
function roundDigits(value: number, digits: number, exponent: number): number {
  const power = EXACT_POWERS[digits - 1 - exponent];
  // Numerator and power are exact, so the division gives the double nearest to the decimal.
  if (power !== undefined) return Math.round(value * power) / power;
  return Number(value.toPrecision(digits));
}

/** Decimals in which a number is written: 0.01 has 2, 1e-7 has 7. */
export function decimalsOf(value: number): number {
  const [mantissa = '', exponent = '0'] = String(value).split('e');
  const fraction = mantissa.split('.')[1]?.length ?? 0;
  return Math.max(0, fraction - Number(exponent));
}

export interface Scaling {
  readonly scale: number;
  readonly offset: number;
  readonly decimals: number | undefined;
}

/** Raw value × scale + offset. */
export type Scaler = (raw: number | bigint) => number | bigint;

/** For integers: exact in decimals, as far as scale and offset are decimals. Integer results stay integers of any size. */
export function integerScaler({ scale, offset, decimals }: Scaling): Scaler {
  const places = Math.max(decimalsOf(scale), decimalsOf(offset));
  const power = EXACT_POWERS[places];
  const factor = Math.round(scale * (power ?? Number.NaN));
  const addend = Math.round(offset * (power ?? Number.NaN));
  const round = rounder(decimals);
  if (power === undefined || places > DECIMALS_MAX || !Number.isSafeInteger(factor) || !Number.isSafeInteger(addend)) {
    const scaleFloat = floatScaler({ scale, offset, decimals });
    return (raw) => scaleFloat(Number(raw));
  }
  return (raw) => {
    if (typeof raw === 'number') {
      const product = raw * factor;
      const numerator = product + addend;
      if (Number.isSafeInteger(product) && Number.isSafeInteger(numerator)) return round(numerator / power);
    }
    const numerator = BigInt(raw) * BigInt(factor) + BigInt(addend);
    if (places === 0) return narrow(numerator);
    return round(Number(`${numerator}e-${places}`));
  };
}

/** For floats: 15 significant digits, which hides that binary fractions are not decimals. */
export function floatScaler({ scale, offset, decimals }: Scaling): (raw: number) => number {
  const round = rounder(decimals);
  if (scale === 1 && offset === 0) return round;
  if (decimals !== undefined) return (raw) => round(raw * scale + offset);
  return (raw) => Number((raw * scale + offset).toPrecision(15)) + 0;
}

function rounder(decimals: number | undefined): (value: number) => number {
  if (decimals === undefined) return (value) => value + 0;
  const power = EXACT_POWERS[decimals] ?? 1;
  return (value) => {
    const scaled = Math.abs(value) * power;
    if (scaled > Number.MAX_SAFE_INTEGER) return value;
    // 1.005 × 100 is 100.49999999999999; a person rounds 100.5.
    const rounded = Math.round(Number(scaled.toPrecision(15))) / power;
    return value < 0 ? 0 - rounded : rounded;
  };
}

/** A bigint only where a number would not be exact. */
export function narrow(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** IEEE 754 binary16 from its 16 bits. */
export function decodeFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (fraction + 0x400) * 2 ** (exponent - 25);
}

/** The 16 bits of the nearest IEEE 754 binary16, ties to even; beyond its range infinity. */
export function encodeFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude === Number.POSITIVE_INFINITY) return sign | 0x7c00;
  // Subnormal numbers have the exponent of the smallest normal one, 2^-14.
  let exponent = magnitude < 2 ** -14 ? -14 : Math.floor(Math.log2(magnitude));
  if (2 ** exponent > magnitude && exponent > -14) exponent -= 1;
  if (exponent > 15) return sign | 0x7c00;
  // In units of the last place; 2048 carries into the exponent by itself when the fields are added.
  const units = roundHalfEven(magnitude / 2 ** (exponent - 10));
  return sign | (units + (exponent + 14) * 0x400);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1;
  return floor;
}

/** Smallest and largest raw value of an integer type. */
export interface IntegerRange {
  readonly min: bigint;
  readonly max: bigint;
}

const INTEGER_BITS: Partial<Record<PointType, number>> = {
  int8: 8,
  uint8: 8,
  int16: 16,
  uint16: 16,
  int32: 32,
  uint32: 32,
  int64: 64,
  uint64: 64,
};

/** Undefined for types that are not integers. */
export function integerRange(type: PointType): IntegerRange | undefined {
  if (type === 'bcd16') return { min: 0n, max: 9999n };
  if (type === 'bcd32') return { min: 0n, max: 99_999_999n };
  const bits = INTEGER_BITS[type];
  if (bits === undefined) return undefined;
  if (type.startsWith('u')) return { min: 0n, max: (1n << BigInt(bits)) - 1n };
  return { min: -(1n << BigInt(bits - 1)), max: (1n << BigInt(bits - 1)) - 1n };
}

/** A raw integer as the type decodes it; bit patterns of signed types may be given as unsigned. */
export function asTyped(value: bigint, type: PointType): bigint {
  const range = integerRange(type);
  const bits = INTEGER_BITS[type];
  if (range === undefined || bits === undefined || value <= range.max) return value;
  return range.min < 0n && value < 1n << BigInt(bits) ? value - (1n << BigInt(bits)) : value;
}
