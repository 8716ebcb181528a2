// One point of a device: from what decoding found to a reading, and from a value to what a template takes.

import {
  exactNumberOf,
  GatewayError,
  GOOD,
  scaled,
  type Scaling,
  unscaled,
  writeRulesOf,
  type PointInfo,
  type PointValue,
  type Reading,
} from '#sdk';
import type { PointConfig, WriteConfig } from './config.ts';
import type { DecodeConfig } from './config-decode.ts';
import { parseValue } from './decode-value.ts';
import type { Decoded } from './decoded.ts';
import { valueKind } from './value-kind.ts';

export interface Point {
  readonly name: string;
  readonly info: PointInfo;
  readonly write: WriteConfig | undefined;
  /** What was decoded as a reading. */
  read(decoded: Decoded): Reading;
  /** No value, for that reason. */
  bad(reason: string): Reading;
  /** What a template takes for a value. @throws GatewayError GW_WRITE_REFUSED. */
  raw(value: PointValue): PointValue;
}

export interface PointOptions {
  readonly name: string;
  /** Where it stands, in words. */
  readonly address: string;
  readonly config: PointConfig | undefined;
  /** What finds it; undefined when it can only be written. */
  readonly decode: DecodeConfig | undefined;
  /** A scale that stands with its place in the frame. */
  readonly scale: number | undefined;
}

export function createPoint({ name, address, config, decode, scale }: PointOptions): Point {
  const values = valueKind(name, config, decode);
  const scaling: Scaling = { scale: config?.scale ?? scale, offset: config?.offset, decimals: config?.decimals };
  const isScaled = scaling.scale !== undefined || scaling.offset !== undefined;
  const unit = config?.unit === undefined ? {} : { unit: config.unit };
  const bad = (reason: string): Reading => ({ point: name, quality: { level: 'bad', reason }, ...unit });
  const [min, max] = [exactNumberOf(config?.min), exactNumberOf(config?.max)];
  const isBounded = min !== undefined || max !== undefined;
  const isInside = (value: number | bigint): boolean =>
    value >= (min ?? Number.NEGATIVE_INFINITY) && value <= (max ?? Number.POSITIVE_INFINITY);
  const rawNumber = (value: PointValue): number | bigint => {
    // Integers beyond 2^53 come as decimal text from JSON.
    const number = typeof value === 'number' ? value : exactNumberOf(value);
    if (number === undefined || Number.isNaN(number)) throw refused(name, 'it takes a number');
    if (!isInside(number)) throw refused(name, `${number} is outside ${min ?? '…'} to ${max ?? '…'}`);
    if (values?.kind === 'integer' && typeof number === 'number' && !Number.isInteger(number)) {
      throw refused(name, `${number} is not a whole number`);
    }
    if (typeof number === 'number') return unscaled(number, scaling);
    if (isScaled) throw refused(name, `${number} is too large for a scaled point`);
    return number;
  };
  return {
    name,
    info: {
      name,
      address,
      ...unit,
      writable: config?.write !== undefined,
      ...(values && { values }),
      writeRules: writeRulesOf({ write: config?.write }),
    },
    write: config?.write,
    bad,
    read(decoded) {
      if ('bad' in decoded) return bad(decoded.bad);
      // What is scaled is a double; an integer beyond 2^53-1 that is not stays exact.
      const isNumeric = typeof decoded.value === 'number' || (typeof decoded.value === 'bigint' && isScaled);
      const value = isNumeric ? scaled(Number(decoded.value), scaling) : decoded.value;
      const isNumber = typeof value === 'number' || typeof value === 'bigint';
      return isNumber && !isInside(value) ? bad('out_of_range') : { point: name, value, quality: GOOD, ...unit };
    },
    raw(value) {
      const choices = config?.write?.values;
      if (choices !== undefined) {
        const chosen = Object.hasOwn(choices, String(value)) ? choices[String(value)] : undefined;
        if (chosen !== undefined) return chosen;
        throw refused(name, `${String(value)} is none of ${Object.keys(choices).join(', ')}`);
      }
      if (values?.kind === 'number' || values?.kind === 'integer' || isBounded || isScaled) return rawNumber(value);
      if (values?.kind === 'boolean' && 'bad' in parseValue(String(value), 'boolean', '.')) {
        throw refused(name, 'it takes true or false');
      }
      return value;
    },
  };
}

export function refused(point: string, why: string): GatewayError {
  return new GatewayError('GW_WRITE_REFUSED', `Point "${point}" does not take the value: ${why}.`);
}
