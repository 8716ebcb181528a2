// For adapters that scale while decoding, so that a write can be turned back: value = raw × scale + offset, in decimals as a person would calculate it: 1234 × 0.01 is 12.34.

export interface Scaling {
  readonly scale?: number | undefined;
  readonly offset?: number | undefined;
  /** Default: as many as the exact result has. */
  readonly decimals?: number | undefined;
}

const DECIMALS_MAX = 15;
/** Significant digits of a raw value: as few as will do, because division leaves noise behind them, an offset more of it. */
const RAW_DIGITS_MAX = 15;
/** From so many on the value that they give need only be as near as the noise is. */
const NOISY_DIGITS_MIN = 13;
/** How far, in parts of a value, calculating in doubles may leave it beside the decimals meant. */
const NOISE = 2 ** -50;

/** The value of a raw one. */
export function scaled(raw: number, { scale, offset, decimals }: Scaling): number {
  if (scale === undefined && offset === undefined && decimals === undefined) return raw;
  const exact = Math.max(decimalsOf(raw) + decimalsOf(scale ?? 1), decimalsOf(offset ?? 0));
  return round(raw * (scale ?? 1) + (offset ?? 0), decimals ?? exact);
}

/** The raw value; the inverse of `scaled`. Where no decimal is (a third), the nearest double. */
export function unscaled(value: number, { scale, offset }: Scaling): number {
  if (scale === undefined && offset === undefined) return value;
  const raw = (value - (offset ?? 0)) / (scale ?? 1);
  for (let digits = 1; digits <= RAW_DIGITS_MAX; digits += 1) {
    const decimal = Number(raw.toPrecision(digits));
    const farness = Math.abs(scaled(decimal, { scale, offset }) - value);
    if (farness <= (digits < NOISY_DIGITS_MIN ? 0 : Math.abs(value) * NOISE)) return decimal;
  }
  return raw;
}

function round(value: number, decimals: number): number {
  // toFixed takes larger numbers as they are; they have no decimals to round.
  return Math.abs(value) < 1e21 ? Number(value.toFixed(Math.min(decimals, DECIMALS_MAX))) : value;
}

/** Digits behind the point of the shortest decimal. */
function decimalsOf(value: number): number {
  const [mantissa = '', exponent = '0'] = String(value).split('e');
  const fraction = mantissa.split('.')[1]?.length ?? 0;
  return Math.max(0, fraction - Number(exponent));
}

/** The shortest decimal that is the same 32-bit float: 230.1, not 230.10000610351562. Takes what a float holds, NaN too. */
export function shortestFloat32(value: number): number {
  for (let digits = 6; digits <= 9; digits += 1) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return candidate;
  }
  return value;
}
