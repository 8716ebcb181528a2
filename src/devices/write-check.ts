// Whether a value may be written to a point by what the configuration says of it (core/write-rules.ts).

import type { PointInfo } from '../core/adapter.ts';
import { GatewayError } from '../core/errors.ts';
import type { PointValue } from '../core/reading.ts';

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
  const number = numberOf(value);
  if (allowed !== undefined && !allowed.some((one) => one === value || (number !== undefined && one === number))) {
    throw refuse(`does not take ${textOf(value)}: it takes ${allowed.map((one) => JSON.stringify(one)).join(', ')}.`);
  }
  if (min === undefined && max === undefined) return;
  if (number === undefined) throw refuse(`does not take ${textOf(value)}: its limits are for numbers.`);
  if (min !== undefined && number < min) throw refuse(`does not take ${textOf(value)}: ${min} is the least.`);
  if (max !== undefined && number > max) throw refuse(`does not take ${textOf(value)}: ${max} is the most.`);
}

/** Integers beyond 2^53-1 come as bigint or as text. */
function numberOf(value: PointValue): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || (typeof value === 'string' && /^-?\d{1,20}$/.test(value))) return Number(value);
  return undefined;
}

function textOf(value: PointValue): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  return value instanceof Uint8Array ? `${value.length} bytes` : String(value);
}
