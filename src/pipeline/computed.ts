// Computed points of one device: evaluated whenever a reading of one of their inputs came in, over the last reading of each.

import type { DeviceInfo } from '../core/adapter.ts';
import { computedOrder } from '../core/computed-order.ts';
import type { Expression } from '../core/expression.ts';
import { GOOD, type PointValue, type Quality, type Reading } from '../core/reading.ts';
import { valueSteps } from './value-steps.ts';

const NO_VALUE: Quality = Object.freeze({ level: 'bad', reason: 'no_value' });
const NOT_COMPUTED: Quality = Object.freeze({ level: 'bad', reason: 'expression' });

interface ComputedPoint {
  readonly name: string;
  readonly unit: string | undefined;
  readonly expression: Expression;
  readonly steps: ((reading: Reading) => Reading) | undefined;
}

export interface Computed {
  /** Of each input the last reading. */
  readonly last: ReadonlyMap<string, Reading>;
  /** Remembers the readings; gives those of the computed points that they touch. */
  update(readings: readonly Reading[]): readonly Reading[];
}

/**
 * Undefined when the device has none. Those with faults, which the configuration's check refuses, stay `bad:expression`; a
 * point that the device has not shown yet has no value yet.
 * @param known what was read before: of the inputs it is the last reading until there is a newer one
 */
export function createComputed(
  { points }: DeviceInfo,
  known: Iterable<readonly [string, Reading]> = [],
): Computed | undefined {
  const expressions = new Map<string, string>();
  for (const { name, shape } of points) if (shape?.expression !== undefined) expressions.set(name, shape.expression);
  if (expressions.size === 0) return undefined;
  const infos = new Map(points.map((info) => [info.name, info]));
  const { sorted, faults } = computedOrder(expressions, (name) => !expressions.has(name));
  const computed = sorted.map(({ name, expression }): ComputedPoint => {
    const info = infos.get(name);
    return { name, expression, unit: info?.unit, steps: valueSteps(info?.shape ?? {}) };
  });
  const inputs = new Set(computed.flatMap(({ expression }) => expression.inputs));
  const last = new Map([...known].filter(([name]) => inputs.has(name)));

  return {
    last,
    update(readings) {
      const touched = new Set<string>();
      for (const reading of readings) {
        if (!inputs.has(reading.point)) continue;
        last.set(reading.point, reading);
        touched.add(reading.point);
      }
      if (touched.size === 0) return [];
      const results: Reading[] = faults.map(({ name }) => ({ point: name, quality: NOT_COMPUTED }));
      for (const point of computed) {
        if (!point.expression.inputs.some((input) => touched.has(input))) continue;
        const reading = evaluate(point, last);
        results.push(reading);
        touched.add(point.name);
        if (inputs.has(point.name)) last.set(point.name, reading);
      }
      return results;
    },
  };
}

/** Bad when one input is, with its reason; uncertain when one is. */
function evaluate({ name, unit, expression, steps }: ComputedPoint, last: ReadonlyMap<string, Reading>): Reading {
  const values: PointValue[] = [];
  let quality: Quality = GOOD;
  const head = unit === undefined ? { point: name } : { point: name, unit };
  for (const input of expression.inputs) {
    const reading = last.get(input);
    if (reading?.value === undefined || reading.quality.level === 'bad') {
      return { ...head, quality: reading?.quality ?? NO_VALUE };
    }
    if (reading.quality.level !== 'good') quality = reading.quality;
    values.push(reading.value);
  }
  const value = expression.evaluate(values);
  if (value === undefined) return { ...head, quality: NOT_COMPUTED };
  const reading: Reading = { ...head, value, quality };
  return steps === undefined ? reading : steps(reading);
}
