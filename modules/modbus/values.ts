// One point, made ready once: where it lies, how its readings are made from an answer and its writes from a value.

import assert from 'node:assert';
import { exactNumberOf, GOOD, type PointValue, type Quality, type Reading } from '#sdk';
import { isBitTable, parseRegister, registerText, type RegisterTable } from './address.ts';
import type { PointConfig, PointType } from './config-point.ts';
import { type EncodedWrite, encoderFor } from './values-encode.ts';
import { asTyped, floatScaler, integerRange, integerScaler, narrow } from './values-number.ts';
import { numberFormat, type NumberType, type RawNumber, REPLACEMENT, textFormat } from './values-raw.ts';
import { bitMask, pointSpan, pointType } from './values-shape.ts';

export type { EncodedWrite } from './values-encode.ts';

export interface CompiledPoint {
  readonly name: string;
  readonly table: RegisterTable;
  /** Zero-based protocol address of the first register or bit that is read for it. */
  readonly address: number;
  /** Registers, or bits in the bit tables. */
  readonly quantity: number;
  readonly type: PointType;
  /** For people: `holding:342 float32 CDAB`. */
  readonly text: string;
  readonly unit: string | undefined;
  readonly config: PointConfig;
  /**
   * The reading in an answer to functions 1 to 4: bytes of registers, or packed bits.
   * @param start address of the first register or bit of the answer
   */
  read(data: Uint8Array, start: number): Reading;
  /** A reading without a value. */
  bad(reason: string): Reading;
  /** @throws GatewayError GW_WRITE_REFUSED, with what is allowed. */
  encode(value: PointValue): EncodedWrite;
  /** Whether an answer holds just what was written: compared bit by bit, so that no rounding matters. */
  holds(write: EncodedWrite, data: Uint8Array, start: number): boolean;
}

/** `sunssf` of the SunSpec Device Information Model Specification: powers of ten, and one value for none. */
const SCALE_FACTOR_MAX = 10;
const NO_SCALE_FACTOR = -0x8000;
const ABSENT_TYPES: ReadonlySet<NumberType> = new Set(['int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64']);

type Finish<Raw> = (raw: Raw) => Reading;

const BAD_NOT_A_NUMBER: Quality = Object.freeze({ level: 'bad', reason: 'not_a_number' });
const BAD_NOT_BCD: Quality = Object.freeze({ level: 'bad', reason: 'not_bcd' });
const BAD_SENTINEL: Quality = Object.freeze({ level: 'bad', reason: 'sentinel' });
/** SunSpec has a value of each type for it. */
const BAD_NOT_AVAILABLE: Quality = Object.freeze({ level: 'bad', reason: 'not_available' });
const BAD_SCALE_FACTOR: Quality = Object.freeze({ level: 'bad', reason: 'scale_factor' });
const BAD_OUT_OF_RANGE: Quality = Object.freeze({ level: 'bad', reason: 'out_of_range' });
const BAD_SHORT_ANSWER: Quality = Object.freeze({ level: 'bad', reason: 'short_answer' });
const UNCERTAIN_ENUM: Quality = Object.freeze({ level: 'uncertain', reason: 'unknown_enum' });
const UNCERTAIN_TEXT: Quality = Object.freeze({ level: 'uncertain', reason: 'not_text' });

/**
 * Makes a point ready. Takes what `checkModbusConfig` found no fault in.
 * @param deviceByteOrder for points that do not say their own
 * @param origin address that the point's registers are counted from
 */
export function compilePoint(name: string, config: PointConfig, deviceByteOrder: string, origin = 0): CompiledPoint {
  const { table } = parseRegister(config.register);
  const type = pointType(config);
  const span = pointSpan(config);
  const address = origin + span.address;
  const { quantity } = span;
  const order = config.byte_order ?? deviceByteOrder;
  const make = readingMaker(name, config.unit);
  const short = make(undefined, BAD_SHORT_ANSWER);
  const shared = {
    name,
    table,
    address,
    quantity,
    type,
    text: describe(config, order),
    unit: config.unit,
    config,
    bad: (reason: string) => make(undefined, { level: 'bad', reason }),
    encode: encoderFor(name, config, type, order),
  };
  if (isBitTable(table)) {
    return {
      ...shared,
      read(data, start) {
        const at = address - start;
        const byte = data[at >> 3];
        return at < 0 || byte === undefined ? short : make(((byte >> (at & 7)) & 1) === 1, GOOD);
      },
      holds: holdsBits(address),
    };
  }
  const decode = spanDecoder(config, type, order, make);
  const bytes = quantity * 2;
  return {
    ...shared,
    read(data, start) {
      const at = (address - start) * 2;
      return at < 0 || at + bytes > data.length ? short : decode(data, at);
    },
    holds: holdsRegisters(address),
  };
}

function describe(config: PointConfig, order: string): string {
  const register = parseRegister(config.register);
  const type = pointType(config);
  const words =
    config.sunspec_models === undefined
      ? [registerText(register)]
      : [`SunSpec model ${config.sunspec_models.join(' or ')}, register ${register.address}`];
  if (isBitTable(register.table)) return words.join(' ');
  words.push(type);
  if (config.bit !== undefined) words.push(`bit ${config.bit}`);
  if (config.byte !== undefined) words.push(`${config.byte} byte`);
  if (type === 'string') words.push(`${config.length_registers ?? 1} registers`);
  if (order !== 'ABCD') words.push(order);
  return words.join(' ');
}

type MakeReading = (value: PointValue | undefined, quality: Quality) => Reading;

// One object shape a kind of point keeps the code that reads them fast.
function readingMaker(point: string, unit: string | undefined): MakeReading {
  if (unit === undefined) {
    return (value, quality) => (value === undefined ? { point, quality } : { point, value, quality });
  }
  return (value, quality) => (value === undefined ? { point, quality, unit } : { point, value, quality, unit });
}

type Decoder = (data: Uint8Array, at: number) => Reading;

/** Reads from the start of what is read for a point. */
function spanDecoder(config: PointConfig, type: PointType, order: string, make: MakeReading): Decoder {
  if (config.scale_register === undefined) return registerDecoder(config, type, order, make);
  const { address } = pointSpan(config);
  const valueAt = (parseRegister(config.register).address - address) * 2;
  const powerAt = (parseRegister(config.scale_register).address - address) * 2;
  const power = numberFormat('int16', order, 'low');
  // Devices change their scale factors seldom, and there are few.
  const decoders = new Map<RawNumber, Decoder>();
  const decoderFor = (exponent: RawNumber): Decoder => {
    const known = decoders.get(exponent);
    if (known !== undefined) return known;
    // The product of two decimals, without the noise of their binary forms.
    const scale = Number(((config.scale ?? 1) * Number(`1e${exponent}`)).toPrecision(15));
    const decode = registerDecoder({ ...config, scale }, type, order, make);
    decoders.set(exponent, decode);
    return decode;
  };
  return (data, at) => {
    const exponent = power.read(data, at + powerAt);
    if (exponent === NO_SCALE_FACTOR) return make(undefined, BAD_NOT_AVAILABLE);
    if (exponent < -SCALE_FACTOR_MAX || exponent > SCALE_FACTOR_MAX) return make(undefined, BAD_SCALE_FACTOR);
    return decoderFor(exponent)(data, at + valueAt);
  };
}

function registerDecoder(config: PointConfig, type: PointType, order: string, make: MakeReading): Decoder {
  if (type === 'string') {
    const { read } = textFormat(config.length_registers ?? 1, order, config.byte, config.encoding ?? 'utf8');
    const finish = textFinish(config, make);
    return (data, at) => finish(read(data, at));
  }
  if (type === 'bool') {
    const mask = bitMask(config, order);
    return (data, at) => make(((((data[at] ?? 0) << 8) | (data[at + 1] ?? 0)) & mask) !== 0, GOOD);
  }
  const { read } = numberFormat(type, order, config.byte ?? 'low');
  const finish = numberFinish(config, type, make);
  return (data, at) => finish(read(data, at));
}

function textFinish(config: PointConfig, make: MakeReading): Finish<string> {
  const sentinels = new Set((config.sentinels ?? []).map(String));
  return (text) => {
    if (text === '' && config.sunspec_models !== undefined) return make(undefined, BAD_NOT_AVAILABLE);
    if (sentinels.has(text)) return make(undefined, BAD_SENTINEL);
    return make(text, text.includes(REPLACEMENT) ? UNCERTAIN_TEXT : GOOD);
  };
}

function numberFinish(config: PointConfig, type: NumberType, make: MakeReading): Finish<RawNumber> {
  const sentinels = numberSentinels(config, type);
  const notANumber = type === 'bcd16' || type === 'bcd32' ? BAD_NOT_BCD : BAD_NOT_A_NUMBER;
  const finish = config.enum === undefined ? scaledFinish(config, type, make) : enumFinish(config.enum, make);
  const absent = config.sunspec_models === undefined ? undefined : absentValue(type);
  return (raw) => {
    if (absent !== undefined && Object.is(raw, absent)) return make(undefined, BAD_NOT_AVAILABLE);
    if (typeof raw === 'number' && !Number.isFinite(raw)) return make(undefined, notANumber);
    return sentinels !== undefined && sentinels.has(raw) ? make(undefined, BAD_SENTINEL) : finish(raw);
  };
}

/** What stands in SunSpec maps for a value that the device has not; accumulators count from 0 and have none. */
function absentValue(type: NumberType): RawNumber | undefined {
  const range = ABSENT_TYPES.has(type) ? integerRange(type) : undefined;
  if (range === undefined) return type.startsWith('float') ? Number.NaN : undefined;
  return narrow(range.min < 0n ? range.min : range.max);
}

/** As the type decodes them. */
function numberSentinels(config: PointConfig, type: NumberType): ReadonlySet<RawNumber> | undefined {
  if (config.sentinels === undefined) return undefined;
  const isInteger = integerRange(type) !== undefined;
  return new Set(
    config.sentinels.map((sentinel) => (isInteger ? narrow(asTyped(BigInt(sentinel), type)) : Number(sentinel))),
  );
}

function enumFinish(names: Readonly<Record<string, string>>, make: MakeReading): Finish<RawNumber> {
  const texts = new Map(Object.entries(names).map(([code, text]) => [Number(code), text]));
  return (raw) => {
    const text = typeof raw === 'number' ? texts.get(raw) : undefined;
    return text === undefined ? make(String(raw), UNCERTAIN_ENUM) : make(text, GOOD);
  };
}

function scaledFinish(config: PointConfig, type: NumberType, make: MakeReading): Finish<RawNumber> {
  const { scale = 1, offset = 0, decimals } = config;
  const [min, max] = [exactNumberOf(config.min), exactNumberOf(config.max)];
  const isPlain = scale === 1 && offset === 0 && decimals === undefined;
  const scaling = { scale, offset, decimals };
  const isInteger = integerRange(type) !== undefined;
  const scaleFloat = floatScaler(scaling);
  const scaled = isInteger ? integerScaler(scaling) : (raw: RawNumber) => scaleFloat(Number(raw));
  return (raw) => {
    const value = isPlain ? raw : scaled(raw);
    if (typeof value === 'number' && !Number.isFinite(value)) return make(undefined, BAD_NOT_A_NUMBER);
    if ((min !== undefined && value < min) || (max !== undefined && value > max)) {
      return make(undefined, BAD_OUT_OF_RANGE);
    }
    return make(value, GOOD);
  };
}

function holdsBits(address: number): CompiledPoint['holds'] {
  return (write, data, start) => {
    assert(write.kind === 'bits');
    return write.states.every((state, index) => {
      const at = address - start + index;
      return (((data[at >> 3] ?? 0) >> (at & 7)) & 1) === (state ? 1 : 0);
    });
  };
}

function holdsRegisters(address: number): CompiledPoint['holds'] {
  return (write, data, start) => {
    assert(write.kind === 'registers');
    const mask = write.mask ?? 0xffff;
    return write.values.every((value, index) => {
      const at = (address - start + index) * 2;
      const high = data[at];
      const low = data[at + 1];
      return high !== undefined && low !== undefined && (((high << 8) | low) & mask) === (value & mask);
    });
  };
}
