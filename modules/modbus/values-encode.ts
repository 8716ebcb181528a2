// From a value that somebody wants written to what goes into the device. A value that the point cannot hold exactly is
// refused with what is allowed: commands move machines, so nothing is clipped or rounded in silence.

import { exactNumberOf, GatewayError, type PointValue } from '#sdk';
import { isBitTable, parseRegister } from './address.ts';
import type { PointConfig, PointType } from './config-point.ts';
import { integerRange, integerScaler, narrow } from './values-number.ts';
import { numberFormat, type NumberType, type RawNumber, textFormat } from './values-raw.ts';
import { partMask } from './values-shape.ts';
import { floatMax, unscaleFloat, unscaleInteger } from './values-unscale.ts';

/** What goes into the device. */
export type EncodedWrite =
  | { readonly kind: 'bits'; readonly states: readonly boolean[] }
  | {
      readonly kind: 'registers';
      readonly values: readonly number[];
      /** The bits of the one register that belong to the point; undefined when all of its registers do. */
      readonly mask?: number;
    };

export type Encoder = (value: PointValue) => EncodedWrite;

type Refuse = (value: PointValue, allowed: string) => GatewayError;

/** Takes what `checkModbusConfig` found no fault in. */
export function encoderFor(name: string, config: PointConfig, type: PointType, order: string): Encoder {
  const refuse: Refuse = (value, allowed) =>
    new GatewayError('GW_WRITE_REFUSED', `${name} does not take ${quote(value)}: ${allowed}.`, {
      details: { point: name },
    });
  if (!config.writable) {
    return (value) => {
      throw refuse(value, 'it is not writable in the configuration');
    };
  }
  if (type === 'string') return textEncoder(config, order, refuse);
  if (type === 'bool') return boolEncoder(config, order, refuse);
  const { write } = numberFormat(type, order, config.byte ?? 'low');
  const toRaw = config.enum === undefined ? rawNumber(config, type, refuse) : rawEnum(config.enum, refuse);
  const mask = partMask(config, type, order);
  return (value) => ({ kind: 'registers', values: write(toRaw(value)), ...(mask === undefined ? {} : { mask }) });
}

function quote(value: PointValue): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  return value instanceof Uint8Array ? `${value.length} bytes` : String(value);
}

function textEncoder(config: PointConfig, order: string, refuse: Refuse): Encoder {
  const encoding = config.encoding ?? 'utf8';
  const { capacityBytes, write } = textFormat(config.length_registers ?? 1, order, config.byte, encoding);
  return (value) => {
    const values = typeof value === 'string' && !value.includes('\0') ? write(value) : undefined;
    if (values === undefined) throw refuse(value, `it takes text of at most ${capacityBytes} bytes in ${encoding}`);
    return { kind: 'registers', values };
  };
}

function boolEncoder(config: PointConfig, order: string, refuse: Refuse): Encoder {
  const isCoil = isBitTable(parseRegister(config.register).table);
  const mask = partMask(config, 'bool', order);
  return (value) => {
    if (value !== true && value !== false && value !== 0 && value !== 1) {
      throw refuse(value, 'it takes true or false');
    }
    const state = Boolean(value);
    if (isCoil) return { kind: 'bits', states: [state] };
    if (mask === undefined) return { kind: 'registers', values: [state ? 1 : 0] };
    return { kind: 'registers', values: [state ? mask : 0], mask };
  };
}

function rawEnum(names: Readonly<Record<string, string>>, refuse: Refuse): (value: PointValue) => RawNumber {
  const codes = new Map(Object.entries(names).map(([code, text]) => [text, Number(code)]));
  return (value) => {
    const code = typeof value === 'string' ? codes.get(value) : undefined;
    if (code === undefined) throw refuse(value, `it takes one of ${[...codes.keys()].join(', ')}`);
    return code;
  };
}

function rawNumber(config: PointConfig, type: NumberType, refuse: Refuse): (value: PointValue) => RawNumber {
  const [min, max] = [exactNumberOf(config.min), exactNumberOf(config.max)];
  const range = integerRange(type);
  const unscale = range === undefined ? floatUnscaler(config, type, refuse) : integerUnscaler(config, range, refuse);
  return (value) => {
    const wanted = numeric(value);
    if (wanted === undefined) throw refuse(value, 'it takes a number');
    if ((min !== undefined && wanted < min) || (max !== undefined && wanted > max)) {
      throw refuse(value, `it takes ${min ?? 'any number'} to ${max ?? 'any number'}`);
    }
    return unscale(wanted);
  };
}

/** Integers beyond 2^53 come as decimal text from JSON. */
function numeric(value: PointValue): RawNumber | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value === 'bigint') return narrow(value);
  return typeof value === 'string' && /^-?\d{1,20}$/.test(value) ? narrow(BigInt(value)) : undefined;
}

function floatUnscaler(config: PointConfig, type: NumberType, refuse: Refuse): (wanted: RawNumber) => RawNumber {
  const { scale = 1, offset = 0 } = config;
  return (wanted) => {
    const raw = unscaleFloat(wanted, type, scale, offset);
    if (raw !== undefined) return raw;
    const isTooLarge = Math.abs(Number(wanted) - offset) > floatMax(type) * Math.abs(scale);
    throw refuse(wanted, isTooLarge ? `a ${type} ends at ${floatMax(type)}` : `a ${type} holds numbers beside it only`);
  };
}

function integerUnscaler(
  config: PointConfig,
  range: { readonly min: bigint; readonly max: bigint },
  refuse: Refuse,
): (wanted: RawNumber) => RawNumber {
  const { scale = 1, offset = 0 } = config;
  const scaled = integerScaler({ scale, offset, decimals: undefined });
  const ends = [scaled(range.min), scaled(range.max)].sort((a, b) => (a < b ? -1 : 1));
  const [min, max] = [exactNumberOf(config.min), exactNumberOf(config.max)];
  const first = min === undefined || min < Number(ends[0]) ? ends[0] : min;
  const last = max === undefined || max > Number(ends[1]) ? ends[1] : max;
  const allowed = `it takes ${first} to ${last} in steps of ${Math.abs(scale)}`;
  return (wanted) => {
    const raw = unscaleInteger(wanted, scale, offset);
    if (raw === undefined || raw < range.min || raw > range.max) throw refuse(wanted, allowed);
    return narrow(raw);
  };
}
