// Sparkplug B payloads on the `sparkplug-payload` library. Its own decoder wants a data type on every metric, which data
// messages leave out (Sparkplug 3.0, 6.4.6), so values are taken from its protobuf classes and typed by the birth.

import assert from 'node:assert';
import { createRequire } from 'node:module';
import type * as Library from 'sparkplug-payload';
import type * as Proto from 'sparkplug-payload/lib/sparkplugPayloadProto.js';
import type { TypeStr } from 'sparkplug-payload/lib/sparkplugbpayload.js';
import { shortestFloat32, type PointValue } from '#sdk';

/** Data types (Sparkplug 3.0, 6.4.16). */
const DATATYPE = { Int8: 1, Int16: 2, Int32: 3, Int64: 4, UInt64: 8, Float: 9, DateTime: 13 } as const;
/** Scalars: Int8 to UInt64, Float, Double, Boolean, String, DateTime, Text, UUID, Bytes, File. */
const SCALARS: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18]);

interface WideInteger {
  readonly low: number;
  readonly high: number;
}

interface RawMetric {
  readonly name?: string | null;
  readonly alias?: number | WideInteger | null;
  readonly timestamp?: number | WideInteger | null;
  readonly datatype?: number | null;
  readonly isNull?: boolean | null;
  readonly isHistorical?: boolean | null;
  readonly intValue?: number | null;
  readonly longValue?: number | WideInteger | null;
  readonly floatValue?: number | null;
  readonly doubleValue?: number | null;
  readonly booleanValue?: boolean | null;
  readonly stringValue?: string | null;
  readonly bytesValue?: Uint8Array | null;
  readonly properties?: { readonly keys?: string[] | null; readonly values?: RawMetric[] | null } | null;
}

interface RawPayload {
  readonly timestamp?: number | WideInteger | null;
  readonly seq?: number | WideInteger | null;
  readonly metrics?: RawMetric[] | null;
}

export interface Metric {
  readonly name: string | undefined;
  readonly alias: bigint | undefined;
  readonly datatype: number | undefined;
  readonly wallMs: number | undefined;
  /** Measured before what was sent already, and kept since. */
  readonly isHistorical: boolean;
  /** Of `Engineering Units`, where the birth tells it. */
  readonly unit: string | undefined;
  readonly isNull: boolean;
  /** By its data type, or by that of the birth, NaN and infinity included; undefined for data sets, templates and the like. */
  readonly value: (datatype: number | undefined) => PointValue | undefined;
}

export interface SparkplugPayload {
  readonly wallMs: number | undefined;
  readonly seq: number | undefined;
  readonly metrics: readonly Metric[];
}

const require = createRequire(import.meta.url);

/** Loaded with the first payload: a gateway without Sparkplug does not pay for protobuf. */
function payloadClass(): typeof Proto.org.eclipse.tahu.protobuf.Payload {
  const proto = require('sparkplug-payload/lib/sparkplugPayloadProto.js') as typeof Proto;
  return proto.org.eclipse.tahu.protobuf.Payload;
}

/** Undefined when the bytes are not a Sparkplug payload. */
export function decodeSparkplug(bytes: Uint8Array): SparkplugPayload | undefined {
  try {
    const payload: RawPayload = payloadClass().decode(bytes);
    // What is absent shows its default, inherited.
    return {
      wallMs: Object.hasOwn(payload, 'timestamp') ? numberOf(payload.timestamp) : undefined,
      seq: Object.hasOwn(payload, 'seq') ? numberOf(payload.seq) : undefined,
      metrics: (payload.metrics ?? []).map(metricOf),
    };
  } catch {
    return undefined;
  }
}

/**
 * A payload with one metric.
 * @param wallMs when it is published, which every command must tell (tck-id-payloads-ncmd-timestamp, -dcmd-timestamp)
 */
export function encodeSparkplug(wallMs: number, metric: { name: string; type: string; value: PointValue }): Buffer {
  const codec = (require('sparkplug-payload') as typeof Library).get('spBv1.0');
  assert(codec !== null, 'sparkplug-payload has no spBv1.0');
  const { name } = metric;
  const type = metric.type as TypeStr;
  const value = typeof metric.value === 'bigint' ? protobufInteger(metric.value) : metric.value;
  return Buffer.from(
    codec.encodePayload({ timestamp: wallMs, metrics: [{ name, type, value: value as number, timestamp: wallMs }] }),
  );
}

/** As protobuf takes it, which knows no bigint. */
function protobufInteger(value: bigint): number | WideInteger {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  return { low: Number(BigInt.asIntN(32, value)), high: Number(BigInt.asIntN(32, value >> 32n)) };
}

function metricOf(raw: RawMetric): Metric {
  const datatype = raw.datatype ?? 0;
  const units = raw.properties?.keys?.findIndex((key) => /^(?:engUnit|Engineering Units?|unit)$/i.test(key)) ?? -1;
  return {
    // An empty name and alias 0 on an absent field are protobuf's defaults.
    name: Object.hasOwn(raw, 'name') && raw.name !== null && raw.name !== '' ? raw.name : undefined,
    alias: Object.hasOwn(raw, 'alias') ? bigOf(raw.alias) : undefined,
    datatype: datatype === 0 ? undefined : datatype,
    wallMs: Object.hasOwn(raw, 'timestamp') ? numberOf(raw.timestamp) : undefined,
    isHistorical: raw.isHistorical === true,
    unit: units < 0 ? undefined : (raw.properties?.values?.[units]?.stringValue ?? undefined),
    isNull: raw.isNull === true,
    value: (known) => valueOf(raw, datatype === 0 ? known : datatype),
  };
}

function valueOf(raw: RawMetric, datatype: number | undefined): PointValue | undefined {
  if (datatype !== undefined && !SCALARS.has(datatype)) return undefined;
  if (Object.hasOwn(raw, 'booleanValue')) return raw.booleanValue ?? undefined;
  if (Object.hasOwn(raw, 'stringValue')) return raw.stringValue ?? undefined;
  if (Object.hasOwn(raw, 'floatValue')) return shortestFloat32(raw.floatValue ?? Number.NaN);
  if (Object.hasOwn(raw, 'doubleValue')) return raw.doubleValue ?? Number.NaN;
  if (Object.hasOwn(raw, 'bytesValue')) return raw.bytesValue ?? undefined;
  if (Object.hasOwn(raw, 'intValue')) return signed(BigInt(raw.intValue ?? 0), datatype);
  if (Object.hasOwn(raw, 'longValue')) return signed(bigOf(raw.longValue) ?? 0n, datatype);
  return undefined;
}

/** Signed integers travel as unsigned ones in two's complement (6.4.17). */
function signed(value: bigint, datatype: number | undefined): PointValue {
  const bits = { [DATATYPE.Int8]: 8, [DATATYPE.Int16]: 16, [DATATYPE.Int32]: 32, [DATATYPE.Int64]: 64 }[datatype ?? 0];
  const number = bits === undefined ? BigInt.asUintN(64, value) : BigInt.asIntN(bits, value);
  const safe = number <= BigInt(Number.MAX_SAFE_INTEGER) && number >= BigInt(Number.MIN_SAFE_INTEGER);
  return safe ? Number(number) : number;
}

function bigOf(value: number | WideInteger | null | undefined): bigint | undefined {
  if (value === null || value === undefined) return undefined;
  if (typeof value === 'number') return BigInt(Math.trunc(value));
  return BigInt.asUintN(64, (BigInt(value.high) << 32n) | BigInt(value.low >>> 0));
}

function numberOf(value: number | WideInteger | null | undefined): number | undefined {
  const wide = bigOf(value);
  return wide === undefined ? undefined : Number(wide);
}

/** The name of a data type as the library's encoder wants it. */
export function datatypeName(datatype: number): string | undefined {
  return NAMES[datatype];
}

const NAMES: Readonly<Record<number, string>> = {
  1: 'Int8',
  2: 'Int16',
  3: 'Int32',
  4: 'Int64',
  5: 'UInt8',
  6: 'UInt16',
  7: 'UInt32',
  8: 'UInt64',
  9: 'Float',
  10: 'Double',
  11: 'Boolean',
  12: 'String',
  13: 'DateTime',
  14: 'Text',
  15: 'UUID',
};
