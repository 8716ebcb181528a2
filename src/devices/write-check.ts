// Whether a value may be written to a point by what the configuration says of it (core/write-rules.ts).

import type { PointInfo } from '../core/adapter.ts';
import { GatewayError } from '../core/errors.ts';
import type { PointValue } from '../core/reading.ts';
import { exactNumberOf, type Limit } from '../core/write-rules.ts';

/** @throws GatewayError GW_WRITE_REFUSED, with what is allowed. */
export function checkValue(deviceId: string, { name, writable, writeRules }: PointInfo, value: PointValue): void {
  const refuse = (why: string): GatewayError =>
    new GatewayError('GW_WRITE_REFUSED', `Point "${name}" of "${deviceId}" ${why}`, { details: { point: name } });
  if (!writable) {
    throw refuse(
      'is not writable. Set `writable: true` on the point in the configuration if it is meant to be written.',
    );
  }
  if (writeRules === undefined) return;
  const { allowed, min, max } = writeRules;
  const number = exactNumberOf(value);
  if (allowed !== undefined && !allowed.some((one) => one === value || isSameNumber(one, number))) {
    throw refuse(`does not take ${textOf(value)}: it takes ${allowed.map((one) => JSON.stringify(one)).join(', ')}.`);
  }
  if (min === undefined && max === undefined) return;
  if (number === undefined) throw refuse(`does not take ${textOf(value)}: its limits are for numbers.`);
  if (min !== undefined && number < min) throw refuse(`does not take ${textOf(value)}: ${min} is the least.`);
  if (max !== undefined && number > max) throw refuse(`does not take ${textOf(value)}: ${max} is the most.`);
}

/** A short text in the list is meant as a text. */
function isSameNumber(allowed: number | boolean | string, number: Limit | undefined): boolean {
  const wanted = exactNumberOf(allowed);
  return wanted !== undefined && wanted === number && (typeof allowed === 'number' || typeof wanted === 'bigint');
}

function textOf(value: PointValue): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  return value instanceof Uint8Array ? `${value.length} bytes` : String(value);
}
