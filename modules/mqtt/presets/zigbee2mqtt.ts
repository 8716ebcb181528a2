// Zigbee2MQTT (https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html), base topic `zigbee2mqtt`. The
// device id is made of the friendly name (device-id.ts); `bridge/devices` tells points, units and what can be written.

import { GatewayError, type PointInfo, type PointValue, type Reading, type ValueKind } from '#sdk';
import { jsonOf, textFacts } from '../configured-dialect.ts';
import type { Arrival, Dialect, Told, Understood, WritePlan } from '../dialect.ts';
import { isObject, parseJson, parseText, readingOf } from '../json-value.ts';
import { idOfName } from './device-id.ts';
import { PointTable } from './point-table.ts';
import { assertFits } from './writable-value.ts';

const BASE = 'zigbee2mqtt/';
const BRIDGE = 'zigbee2mqtt-bridge';
/** Battery devices may sleep for long; a router answers within this. */
const CONFIRM_MS = 10_000;
/** Bits of `access` (…/guide/usage/exposes.html): a property is published with the state, and can be set. */
const ACCESS_STATE = 1;
const ACCESS_SET = 2;
/** Names are longer than ids in a few homes only. */
const NAMES = 10_000;

interface Exposed {
  readonly unit: string | undefined;
  readonly readable: boolean;
  readonly writable: boolean;
  /** What `true` and `false` are on the wire, for binary properties. */
  readonly on: PointValue | undefined;
  readonly off: PointValue | undefined;
  /** What it takes, for numeric and enum properties that say so. */
  readonly values: ValueKind | undefined;
}

/** An entry of `bridge/devices`. */
type Described = Readonly<Record<string, unknown>> & { readonly friendly_name: string };

export function createZigbee2mqtt(): Dialect {
  const table = new PointTable();
  /** Friendly names by device id. */
  const names = new Map<string, string>();
  const exposes = new Map<string, ReadonlyMap<string, Exposed>>();

  /** What is told of a device under its id, unless another name had that id first: commands for one must not reach the other. */
  const tellOf = (name: string, tell: (device: string) => Told): Told => {
    const device = idOfName(name);
    const known = names.get(device);
    if (known !== undefined && known !== name) return { device, fault: 'ambiguous_id' };
    if (known === undefined && names.size < NAMES) names.set(device, name);
    return tell(device);
  };

  const state = (device: string, payload: Uint8Array): Told => {
    const document = parseJson(payload);
    if (!isObject(document)) return { device, fault: 'payload_not_json' };
    const exposed = exposes.get(device);
    const readings = Object.entries(document).flatMap(([name, value]) => propertyReadings(name, value, exposed));
    const points = table.learn(
      device,
      readings.map(({ point, unit }) => pointInfo(point, unit, exposed?.get(point)?.writable ?? false)),
    );
    return { device, online: true, readings, ...(points !== undefined && { points }) };
  };

  const learnDevices = (payload: Uint8Array): Told[] => {
    const list = parseJson(payload);
    if (!Array.isArray(list)) return [{ device: BRIDGE, fault: 'payload_not_json' }];
    const entries = list.filter(
      (entry): entry is Described => isObject(entry) && typeof entry['friendly_name'] === 'string',
    );
    // A device that was renamed gives its id back.
    const current = new Set(entries.map(({ friendly_name }) => friendly_name));
    for (const [id, name] of names) if (!current.has(name)) names.delete(id);
    return entries
      .filter(({ type }) => type !== 'Coordinator')
      .map((entry) => tellOf(entry.friendly_name, (device) => describe(device, entry)));
  };

  const describe = (device: string, entry: Described): Told => {
    const definition = isObject(entry['definition']) ? entry['definition'] : {};
    const found = new Map<string, Exposed>();
    collectExposes(definition['exposes'], found);
    exposes.set(device, found);
    const points = table.learn(
      device,
      [...found].map(([name, { unit, writable }]) => pointInfo(name, unit, writable)),
    );
    const identity = {
      ...textFacts(entry, { ieee_address: 'ieee_address', software_build_id: 'firmware' }),
      ...textFacts(definition, { vendor: 'vendor', model: 'model' }),
    };
    return { device, identity, ...(points !== undefined && { points }) };
  };

  const understand = ({ topic, payload, replayed }: Arrival): Told[] => {
    const name = topic.slice(BASE.length);
    if (name === 'bridge/devices') return learnDevices(payload);
    if (name === 'bridge/state') return [availability(BRIDGE, payload)];
    if (name.startsWith('bridge/')) return [];
    if (/\/(?:set|get)(?:\/.*)?$/.test(name)) return [];
    if (name.endsWith('/availability'))
      return [tellOf(name.slice(0, -'/availability'.length), (device) => availability(device, payload))];
    return [tellOf(name, (device) => (replayed ? { device } : state(device, payload)))];
  };

  return {
    name: 'zigbee2mqtt',
    filters: [`${BASE}#`],
    owner(topic) {
      if (!topic.startsWith(BASE) || topic.length === BASE.length) return undefined;
      const name = topic.slice(BASE.length);
      if (name.startsWith('bridge/')) return BRIDGE;
      return idOfName(name.replace(/\/(?:availability|(?:set|get)(?:\/.*)?)$/, ''));
    },
    isCommand: (topic) =>
      topic.startsWith(BASE) && (/\/(?:set|get)(?:\/.*)?$/.test(topic) || topic.startsWith(`${BASE}bridge/request/`)),
    understand: (arrival): Understood | undefined =>
      arrival.topic.startsWith(BASE) ? { told: understand(arrival) } : undefined,
    planWrite(device, point, value): WritePlan | undefined {
      const exposed = exposes.get(device)?.get(point);
      if (exposed?.writable !== true) return undefined;
      if (exposed.values !== undefined) assertFits({ device, point, value }, exposed.values);
      const sent = typeof value === 'boolean' ? (value ? exposed.on : exposed.off) : value;
      if (sent === undefined)
        throw new GatewayError('GW_WRITE_REFUSED', `"${point}" of "${device}" is not true or false.`);
      const payload = Buffer.from(`{${JSON.stringify(point)}:${jsonOf(sent)}}`);
      const topic = `${BASE}${names.get(device) ?? device}/set`;
      return { publish: [{ topic, payload }], confirmedBy: 'reading', timeoutMs: CONFIRM_MS };
    },
  };
}

/** `online`, or since 1.28 `{"state":"online"}`. */
function availability(device: string, payload: Uint8Array): Told {
  const document = parseJson(payload);
  const text = isObject(document) ? document['state'] : parseText(payload);
  return text === 'online' || text === 'offline'
    ? { device, online: text === 'online' }
    : { device, fault: 'unknown_availability' };
}

/** Properties of `exposes`, through the features of lights, switches, climates and the like. */
function collectExposes(list: unknown, found: Map<string, Exposed>, depth = 0): void {
  if (!Array.isArray(list) || depth > 3) return;
  for (const entry of list as unknown[]) {
    if (!isObject(entry)) continue;
    const { property, features, access, unit } = entry;
    if (typeof property === 'string' && typeof access === 'number') {
      found.set(property, {
        unit: typeof unit === 'string' ? unit : undefined,
        readable: hasBit(access, ACCESS_STATE),
        writable: hasBit(access, ACCESS_SET),
        on: scalar(entry['value_on']),
        off: scalar(entry['value_off']),
        values: kindOf(entry),
      });
    }
    collectExposes(features, found, depth + 1);
  }
}

function hasBit(access: number, bit: number): boolean {
  return Math.floor(access / bit) % 2 === 1;
}

function kindOf({
  type,
  value_min: min,
  value_max: max,
  values,
}: Readonly<Record<string, unknown>>): ValueKind | undefined {
  if (type === 'numeric')
    return { kind: 'number', ...(typeof min === 'number' && { min }), ...(typeof max === 'number' && { max }) };
  return type === 'enum' && Array.isArray(values)
    ? { kind: 'text', texts: (values as unknown[]).map(String) }
    : undefined;
}

function scalar(value: unknown): PointValue | undefined {
  return typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number' ? value : undefined;
}

function propertyReadings(
  name: string,
  value: unknown,
  exposed: ReadonlyMap<string, Exposed> | undefined,
): readonly Reading[] {
  const { unit, on, off, readable = true } = exposed?.get(name) ?? {};
  if (isObject(value)) {
    // Colours and the like.
    return Object.entries(value).flatMap(([key, inner]) =>
      isObject(inner) || Array.isArray(inner) ? [] : [readingOf(`${name}.${key}`, inner, 'any')],
    );
  }
  // Null is said for what is lost or not known yet, and for ever for what is only set, such as an effect.
  if (Array.isArray(value) || (value === null && !readable)) return [];
  if (on !== undefined && value === on) return [readingOf(name, true, 'boolean')];
  if (off !== undefined && value === off) return [readingOf(name, false, 'boolean')];
  return [readingOf(name, value, 'any', unit)];
}

function pointInfo(name: string, unit: string | undefined, writable: boolean): PointInfo {
  return { name, address: name, writable, ...(unit !== undefined && { unit }) };
}
