// Made-up values that move the way real ones do: by the unit of a point, its type and its bounds. A function of time
// and of the point's name alone, so that nothing has to be kept and two runs show the same.

import type { PointInfo, ValueKind } from '../core/adapter.ts';
import type { PointValue } from '../core/reading.ts';
import { exactNumberOf, type WriteRules } from '../core/write-rules.ts';

interface Bounds {
  readonly min?: number;
  readonly max?: number;
}

/** What a quantity in a unit is like: about `mean`, give or take `swing`; or a counter that gains `perHour`. */
type Habit = { readonly mean: number; readonly swing: number } | { readonly start: number; readonly perHour: number };

const HABITS: ReadonlyMap<string, Habit> = new Map(
  Object.entries({
    V: { mean: 230, swing: 4 },
    kV: { mean: 20, swing: 0.3 },
    mV: { mean: 500, swing: 80 },
    A: { mean: 6, swing: 3 },
    mA: { mean: 12, swing: 5 },
    W: { mean: 1400, swing: 600 },
    kW: { mean: 14, swing: 6 },
    var: { mean: 250, swing: 150 },
    kvar: { mean: 2.5, swing: 1.5 },
    VA: { mean: 1450, swing: 600 },
    kVA: { mean: 14.5, swing: 6 },
    Hz: { mean: 50, swing: 0.04 },
    Wh: { start: 1_234_000, perHour: 1400 },
    kWh: { start: 1234, perHour: 1.4 },
    MWh: { start: 12, perHour: 0.0014 },
    varh: { start: 123_000, perHour: 250 },
    kvarh: { start: 123, perHour: 0.25 },
    kVAh: { start: 1300, perHour: 1.45 },
    VAh: { start: 1_300_000, perHour: 1450 },
    h: { start: 4200, perHour: 1 },
    'm³': { start: 820, perHour: 0.6 },
    '°C': { mean: 22, swing: 3 },
    '°F': { mean: 72, swing: 5 },
    K: { mean: 295, swing: 3 },
    '%': { mean: 50, swing: 20 },
    bar: { mean: 3, swing: 0.3 },
    mbar: { mean: 1013, swing: 6 },
    hPa: { mean: 1013, swing: 6 },
    Pa: { mean: 101_300, swing: 600 },
    kg: { mean: 12, swing: 5 },
    l: { mean: 2800, swing: 900 },
    'l/min': { mean: 14, swing: 6 },
    'm³/h': { mean: 0.9, swing: 0.5 },
    rpm: { mean: 1450, swing: 40 },
    '1/min': { mean: 1450, swing: 40 },
    lx: { mean: 400, swing: 250 },
    ppm: { mean: 600, swing: 150 },
    '°': { mean: 0, swing: 20 },
  }),
);
const ANYTHING: Habit = { mean: 50, swing: 25 };

/** Periods of the two waves of a value; they have no common multiple that one would notice. */
const SLOW_MS = 611_000;
const QUICK_MS = 47_000;
/** How long a state stays as it is. */
const STATE_MS = 90_000;
const HOUR_MS = 3_600_000;
const FULL_TURN = 2 * Math.PI;
/** Part of the range between bounds that a value moves in. */
const SHARE_OF_RANGE = 0.4;
const DEFAULT_DECIMALS = 2;

/**
 * The value of a point at a time.
 * @param seed text that tells points of one name apart: the device id
 */
export function simulatedValue(point: PointInfo, seed: string, wallMs: number): PointValue {
  const kind: ValueKind = point.values ?? { kind: 'number' };
  const rules = point.writeRules ?? {};
  const written = firstAllowed(kind, rules);
  if (written !== undefined) return written;
  const phase = fraction(`${seed}/${point.name}`);
  switch (kind.kind) {
    case 'boolean':
      // What can be switched stays as it was switched; what is only seen changes now and then.
      return point.writable ? false : stateAt(phase, wallMs) % 2 === 1;
    case 'text':
      if (kind.texts === undefined || kind.texts.length === 0) return `${point.name}-${seed}`;
      return kind.texts[point.writable ? 0 : stateAt(phase, wallMs) % kind.texts.length] ?? '';
    case 'integer':
      return Math.round(numberAt(point, boundsOf(kind, rules), phase, wallMs));
    case 'number':
      return Number(numberAt(point, boundsOf(kind, rules), phase, wallMs).toFixed(kind.decimals ?? DEFAULT_DECIMALS));
  }
}

/** Where only some values may be written, the first of them stands there. */
function firstAllowed({ kind }: ValueKind, { allowed = [], min, max }: WriteRules): PointValue | undefined {
  if (kind === 'boolean' || kind === 'text') {
    const type = kind === 'text' ? 'string' : kind;
    return allowed.find((value) => typeof value === type);
  }
  return allowed
    .map(exactNumberOf)
    .find((value) => value !== undefined && !(min !== undefined && value < min) && !(max !== undefined && value > max));
}

/** What a point can hold, and what may be written to it: nobody leaves it outside of that. */
function boundsOf(kind: Bounds, rules: WriteRules): Bounds {
  const least = Math.max(kind.min ?? Number.NEGATIVE_INFINITY, Number(rules.min ?? Number.NEGATIVE_INFINITY));
  const most = Math.min(kind.max ?? Number.POSITIVE_INFINITY, Number(rules.max ?? Number.POSITIVE_INFINITY));
  return { ...(Number.isFinite(least) && { min: least }), ...(Number.isFinite(most) && { max: most }) };
}

function stateAt(phase: number, wallMs: number): number {
  return Math.floor(wallMs / STATE_MS + phase * 8);
}

function numberAt(point: PointInfo, { min, max }: Bounds, phase: number, wallMs: number): number {
  const habit = habitOf(point.unit, min, max);
  // The same time of the year everywhere: a counter that is shown again later has gone on.
  if ('perHour' in habit)
    return bounded(habit.start * (0.5 + phase) + (habit.perHour * (wallMs % (HOUR_MS * 8766))) / HOUR_MS, min, max);
  const wave = (periodMs: number, turn: number): number =>
    Math.sin(((wallMs % periodMs) / periodMs + turn) * FULL_TURN);
  const moves = point.writable ? 0 : 0.75 * wave(SLOW_MS, phase) + 0.25 * wave(QUICK_MS, phase * 7);
  return bounded(habit.mean + habit.swing * moves, min, max);
}

/** A range that says more than the unit: a tank of 0 to 5000 l, a setpoint of 10 to 30 °C. */
function habitOf(unit: string | undefined, min: number | undefined, max: number | undefined): Habit {
  const known = unit === undefined ? undefined : HABITS.get(unit);
  const fits = (value: number): boolean => (min === undefined || value >= min) && (max === undefined || value <= max);
  if (known !== undefined && ('perHour' in known || fits(known.mean))) return known;
  if (min === undefined || max === undefined) return known ?? ANYTHING;
  return { mean: (min + max) / 2, swing: ((max - min) / 2) * SHARE_OF_RANGE };
}

function bounded(value: number, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY): number {
  return Math.min(max, Math.max(min, value));
}

/** 0 to 1 by a text, evenly spread (FNV-1a). */
function fraction(text: string): number {
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return (hash >>> 0) / 2 ** 32;
}
