// Homie 3 and 4 (https://homieiot.github.io/specification/spec-core-v4_0_0/), base topic `homie`. A point is
// `NODE/PROPERTY`; attributes tell its type, its unit and whether it can be set. Everything is retained, so values that
// another broker kept are the present ones.

import { LIMITS, type PointInfo, type PointValue, type Reading, type ValueKind } from '#sdk';
import type { Dialect, Told, Understood, WritePlan } from '../dialect.ts';
import { parseText, readingOf, type ValueType } from '../json-value.ts';
import { isPointName, PointTable } from './point-table.ts';
import { assertFits, wrongValue } from './writable-value.ts';

const BASE = 'homie/';
const CONFIRM_MS = 5000;

interface Property {
  readonly datatype: string | undefined;
  readonly unit: string | undefined;
  /** Of the values: a range, the words of an enumeration, the parts of a colour. */
  readonly format: string | undefined;
  readonly settable: boolean;
  /** A value that the broker had kept and that came before `$datatype`, without which it cannot be read. */
  readonly early?: string | undefined;
}

/** Longer ones than any device has are not looked at: each property would keep one. */
const KEPT_CHARS = 1024;
/** What has not told its data type is text. */
const UNKNOWN: Property = { datatype: undefined, unit: undefined, format: undefined, settable: false };
/** Data types (section "Payload"); Homie 3 has `integer`, `float`, `boolean`, `string`, `enum`, `color` as well. */
const TYPES: ReadonlyMap<string, ValueType> = new Map(
  Object.entries({
    integer: 'number',
    float: 'number',
    boolean: 'boolean',
    percent: 'number',
  }),
);

export function createHomie(): Dialect {
  const table = new PointTable();
  const properties = new Map<string, Map<string, Property>>();

  const propertyOf = (device: string, point: string): Property => properties.get(device)?.get(point) ?? UNKNOWN;

  const describe = (device: string, point: string, change: Partial<Property>): readonly PointInfo[] | undefined => {
    if (!isPointName(point)) return undefined;
    let known = properties.get(device);
    if (known === undefined) {
      if (properties.size >= LIMITS.devices) return undefined;
      known = new Map();
      properties.set(device, known);
    }
    if (!known.has(point) && known.size >= LIMITS.mqtt_device_points) return undefined;
    const property = { ...UNKNOWN, ...known.get(point), ...change };
    known.set(point, property);
    const { unit, settable } = property;
    const values = kindOf(property);
    return table.learn(device, [
      {
        name: point,
        address: point,
        writable: settable,
        ...(unit !== undefined && { unit }),
        ...(values !== undefined && { values }),
      },
    ]);
  };

  const understand = (levels: readonly string[], text: string, replayed: boolean): Told | undefined => {
    const [device, first, second, third] = levels;
    if (device === undefined || first === undefined) return undefined;
    if (first.startsWith('$')) return deviceAttribute(device, first, text);
    if (second === undefined || second.startsWith('$')) return { device };
    const point = `${first}/${second}`;
    if (third === undefined) {
      const property = propertyOf(device, point);
      // A broker hands out what it has kept in any order, most of them a value before the attributes of its property.
      const isEarly = replayed && property.datatype === undefined && text.length <= KEPT_CHARS;
      if (isEarly) return { device, ...withPoints(describe(device, point, { early: text })) };
      const isNews = property === UNKNOWN || property.early !== undefined;
      const points = isNews ? describe(device, point, { early: undefined }) : undefined;
      return { device, readings: [reading(point, text, property)], ...withPoints(points) };
    }
    const change = attributeChange(third, text);
    if (change === undefined) return { device };
    const { early } = propertyOf(device, point);
    if (early === undefined || change.datatype === undefined)
      return { device, ...withPoints(describe(device, point, change)) };
    const points = describe(device, point, { ...change, early: undefined });
    return { device, readings: [reading(point, early, propertyOf(device, point))], ...withPoints(points) };
  };

  return {
    name: 'homie',
    filters: [`${BASE}#`],
    owner: (topic) => {
      const device = topic.startsWith(BASE) ? topic.split('/')[1] : undefined;
      return device === undefined || device === '' || device.startsWith('$') ? undefined : device;
    },
    // What begins with $ in place of a device is for all of them: `$broadcast` (section "Broadcast Channel").
    isCommand: (topic) => topic.startsWith(BASE) && (topic.endsWith('/set') || topic.startsWith(`${BASE}$`)),
    understand({ topic, payload, replayed }): Understood | undefined {
      if (!topic.startsWith(BASE) || topic.endsWith('/set')) return undefined;
      const text = parseText(payload);
      const levels = topic.slice(BASE.length).split('/');
      if (text === undefined) return { told: [{ device: levels[0] ?? '', fault: 'payload_not_text' }] };
      const told = understand(levels, text, replayed);
      return told === undefined ? undefined : { told: [told] };
    },
    planWrite(device, point, value): WritePlan | undefined {
      const property = propertyOf(device, point);
      if (!property.settable) return undefined;
      assertSettable({ device, point, value }, property);
      return {
        publish: [{ topic: `${BASE}${device}/${point}/set`, payload: Buffer.from(String(value)) }],
        confirmedBy: 'reading',
        timeoutMs: CONFIRM_MS,
      };
    },
  };
}

function withPoints(points: readonly PointInfo[] | undefined): Pick<Told, 'points'> {
  return points === undefined ? {} : { points };
}

/** `$state` is `init`, `ready`, `disconnected`, `sleeping`, `lost` or `alert` (section "Device Lifecycle"). */
function deviceAttribute(device: string, attribute: string, text: string): Told {
  switch (attribute) {
    case '$state':
      if (text === 'ready' || text === 'alert' || text === 'sleeping') return { device, online: true };
      return text === '' ? { device } : { device, online: false };
    case '$name':
      return { device, identity: { name: text.slice(0, 256) } };
    case '$homie':
      return { device, identity: { homie: text.slice(0, 32) } };
    default:
      return { device };
  }
}

function attributeChange(attribute: string, text: string): Partial<Property> | undefined {
  switch (attribute) {
    case '$datatype':
      return { datatype: text.slice(0, 32) };
    case '$unit':
      return { unit: text.slice(0, 32) };
    case '$format':
      return { format: text === '' || text.length > KEPT_CHARS ? undefined : text };
    case '$settable':
      return { settable: text === 'true' };
    default:
      return undefined;
  }
}

function reading(point: string, text: string, { datatype, unit }: Property): Reading {
  return readingOf(point, text, TYPES.get(datatype ?? 'string') ?? 'string', unit);
}

/** By `$datatype` and `$format` (sections "Payload" and "Property Attributes"); undefined for what is any text. */
function kindOf({ datatype, format }: Property): ValueKind | undefined {
  switch (datatype) {
    case 'boolean':
      return { kind: 'boolean' };
    case 'integer':
      return { kind: 'integer', ...rangeOf(format) };
    case 'float':
    case 'percent':
      return { kind: 'number', ...rangeOf(format) };
    case 'enum':
      return format === undefined ? undefined : { kind: 'text', texts: format.split(',') };
    default:
      return undefined;
  }
}

/** `from:to`; one that is none limits nothing. */
function rangeOf(format = ''): { readonly min?: number; readonly max?: number } {
  const [, min, max] = /^\s*(-?\d+(?:\.\d+)?)\s*:\s*(-?\d+(?:\.\d+)?)\s*$/.exec(format) ?? [];
  return min === undefined || max === undefined ? {} : { min: Number(min), max: Number(max) };
}

/** Largest parts of a colour by its `$format`. */
const COLOURS: ReadonlyMap<string, readonly number[]> = new Map([
  ['rgb', [255, 255, 255]],
  ['hsv', [360, 100, 100]],
]);

/** @throws GatewayError GW_WRITE_REFUSED. */
function assertSettable(
  write: { readonly device: string; readonly point: string; readonly value: PointValue },
  property: Property,
): void {
  assertFits(write, kindOf(property) ?? { kind: 'text' });
  const largest = property.datatype === 'color' ? COLOURS.get(property.format ?? '') : undefined;
  if (largest === undefined) return;
  const parts = String(write.value).split(',');
  const isColour =
    parts.length === largest.length &&
    parts.every((part, index) => /^\d{1,3}$/.test(part) && Number(part) <= (largest[index] ?? 0));
  if (!isColour)
    throw wrongValue(write.device, write.point, `a colour as three whole numbers up to ${largest.join(',')}`);
}
