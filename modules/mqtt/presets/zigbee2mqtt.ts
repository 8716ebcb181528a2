// Zigbee2MQTT (https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html), base topic `zigbee2mqtt`. The
// device id is made of the friendly name (device-id.ts); `bridge/devices` tells points, units and what can be written.

import type { PointInfo, PointValue, Reading, ValueKind } from '#sdk';
import { jsonOf, textFacts } from '../configured-dialect.ts';
import type { Arrival, Dialect, Told, Understood, WritePlan } from '../dialect.ts';
import { isObject, parseJson, parseText, readingOf } from '../json-value.ts';
import { idOfName } from './device-id.ts';
import { PointTable } from './point-table.ts';
import { assertFits, wrongValue } from './writable-value.ts';

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
  /** The words for `true` and `false`, for binary properties; a boolean of JSON is itself, though `value_on` of a contact is false. */
  readonly words: { readonly on: true | string | number; readonly off: false | string | number } | undefined;
  /** What it takes, for binary properties, and numeric and enum ones that say so. */
  readonly values: ValueKind | undefined;
}

/** An entry of `bridge/devices`. */
type Described = Readonly<Record<string, unknown>> & { readonly friendly_name: string };

export function createZigbee2mqtt(): Dialect {
  const table = new PointTable();
  /** Friendly names by device id. */
  const names = new Map<string, string>();
  const exposes = new Map<string, ReadonlyMap<string, Exposed>>();
  /** Undefined until it says so. */
  let isBridgeOnline: boolean | undefined;
  /** Devices whose own availability says that they are away. */
  const unavailable = new Set<string>();

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
      readings.map(({ point }) => pointInfo(point, exposed?.get(point))),
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
    for (const [id, name] of names) {
      if (current.has(name)) continue;
      names.delete(id);
      unavailable.delete(id);
    }
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
      [...found].map(([name, property]) => pointInfo(name, property)),
    );
    const identity = {
      ...textFacts(entry, { ieee_address: 'ieee_address', software_build_id: 'firmware' }),
      ...textFacts(definition, { vendor: 'vendor', model: 'model' }),
    };
    const isThere = isBridgeOnline === true && !unavailable.has(device);
    return { device, identity, ...(isThere && { online: true }), ...(points !== undefined && { points }) };
  };

  /** Nothing reaches the devices without the bridge; with it they are there, unless their own availability, off by default, denies it. */
  const bridgeState = (payload: Uint8Array): Told[] => {
    const told = availability(BRIDGE, payload);
    const { online } = told;
    if (online === undefined) return [told];
    isBridgeOnline = online;
    const others = [...names.keys()].filter((device) => !unavailable.has(device));
    return [told, ...others.map((device) => ({ device, online }))];
  };

  const deviceAvailability = (device: string, payload: Uint8Array): Told => {
    const told = availability(device, payload);
    if (told.online === false && names.has(device)) unavailable.add(device);
    if (told.online !== true) return told;
    unavailable.delete(device);
    return { device, online: isBridgeOnline !== false };
  };

  const understand = ({ topic, payload, replayed }: Arrival): Told[] => {
    const name = topic.slice(BASE.length);
    if (name === 'bridge/devices') return learnDevices(payload);
    if (name === 'bridge/state') return bridgeState(payload);
    if (name.startsWith('bridge/')) return [];
    if (/\/(?:set|get)(?:\/.*)?$/.test(name)) return [];
    if (name.endsWith('/availability'))
      return [tellOf(name.slice(0, -'/availability'.length), (device) => deviceAvailability(device, payload))];
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
      const { sent, wanted } = writeOf({ device, point, value }, exposed);
      const payload = Buffer.from(`{${JSON.stringify(point)}:${jsonOf(sent)}}`);
      const topic = `${BASE}${names.get(device) ?? device}/set`;
      return { publish: [{ topic, payload }], confirmedBy: 'reading', wanted, timeoutMs: CONFIRM_MS };
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
        words: wordsOf(entry),
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
  if (type === 'binary') return { kind: 'boolean' };
  if (type === 'numeric')
    return { kind: 'number', ...(typeof min === 'number' && { min }), ...(typeof max === 'number' && { max }) };
  return type === 'enum' && Array.isArray(values)
    ? { kind: 'text', texts: (values as unknown[]).map(String) }
    : undefined;
}

function wordsOf({ type, value_on: on, value_off: off }: Readonly<Record<string, unknown>>): Exposed['words'] {
  if (type !== 'binary') return undefined;
  return isWord(on) && isWord(off) ? { on, off } : { on: true, off: false };
}

function isWord(value: unknown): value is string | number {
  return typeof value === 'string' || typeof value === 'number';
}

/** What is sent for a value, and what its reading will then be. @throws GatewayError GW_WRITE_REFUSED. */
function writeOf(
  write: { readonly device: string; readonly point: string; readonly value: PointValue },
  { words, values }: Exposed,
): { readonly sent: PointValue; readonly wanted: PointValue } {
  const { device, point, value } = write;
  if (words === undefined) {
    if (values !== undefined) assertFits(write, values);
    if (typeof value === 'boolean') throw wrongValue(device, point, 'something else than true or false');
    return { sent: value, wanted: value };
  }
  const { on, off } = words;
  if (value === true || value === on) return { sent: on, wanted: true };
  if (value === false || value === off) return { sent: off, wanted: false };
  throw wrongValue(device, point, on === true ? 'true or false' : `true or false, as ${on} or ${off} too`);
}

function propertyReadings(
  name: string,
  value: unknown,
  exposed: ReadonlyMap<string, Exposed> | undefined,
): readonly Reading[] {
  const { unit, words, readable = true } = exposed?.get(name) ?? {};
  if (isObject(value)) {
    // Colours and the like.
    return Object.entries(value).flatMap(([key, inner]) =>
      isObject(inner) || Array.isArray(inner) ? [] : [readingOf(`${name}.${key}`, inner, 'any')],
    );
  }
  // Null is said for what is lost or not known yet, and for ever for what is only set, such as an effect.
  if (Array.isArray(value) || (value === null && !readable)) return [];
  if (words !== undefined && (value === words.on || value === words.off))
    return [readingOf(name, value === words.on, 'boolean')];
  return [readingOf(name, value, 'any', unit)];
}

function pointInfo(name: string, { unit, writable = false, values }: Partial<Exposed> = {}): PointInfo {
  return {
    name,
    address: name,
    writable,
    ...(unit !== undefined && { unit }),
    ...(values !== undefined && { values }),
  };
}
