// For adapters that scale while decoding, so that a write can be turned back: value = raw × scale + offset, in decimals as a person would calculate it: 1234 × 0.01 is 12.34.

export interface Scaling {
  readonly scale?: number | undefined;
  readonly offset?: number | undefined;
  /** Default: as many as the exact result has. */
  readonly decimals?: number | undefined;
}

const DECIMALS_MAX = 15;

/** The value of a raw one. */
export function scaled(raw: number, { scale, offset, decimals }: Scaling): number {
  if (scale === undefined && offset === undefined && decimals === undefined) return raw;
  const exact = Math.max(decimalsOf(raw) + decimalsOf(scale ?? 1), decimalsOf(offset ?? 0));
  return round(raw * (scale ?? 1) + (offset ?? 0), decimals ?? exact);
}

/** The raw value; the inverse of `scaled`. */
export function unscaled(value: number, { scale, offset }: Scaling): number {
  if (scale === undefined && offset === undefined) return value;
  return Number(((value - (offset ?? 0)) / (scale ?? 1)).toPrecision(DECIMALS_MAX - 2));
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
