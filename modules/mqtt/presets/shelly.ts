// Shelly. Generation 1 (https://shelly-api-docs.shelly.cloud/gen1/#mqtt): `shellies/ID/relay/0` and the like, one value a
// topic. Generation 2 and later (https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Mqtt): `ID/status/…`,
// `ID/events/rpc` and `ID/rpc`; the topic prefix is the id of the device and begins with `shelly` unless it was changed.

import type { AdapterContext, PointInfo, PointValue, Reading } from '#sdk';
import { textFacts } from '../configured-dialect.ts';
import type { Arrival, Dialect, Told, Understood, WritePlan } from '../dialect.ts';
import { isObject, parseJson, parseText, readingOf, type ValueType } from '../json-value.ts';
import { PointTable } from './point-table.ts';
import { CONFIRM_MS, isGen2Writable, planGen2, statusIn } from './shelly-rpc.ts';
import { StatusRequests } from './shelly-status.ts';
import { wrongValue } from './writable-value.ts';

/** Every device of gen 1 does what comes here. */
const TO_ALL = 'shellies/command';
const GEN2_ID = /^shelly[a-z0-9]+-[0-9a-fA-F]+$/;
/** Second levels of gen 2. */
const GEN2_KINDS: ReadonlySet<string> = new Set(['online', 'status', 'events', 'rpc', 'command']);
/** Gen 1 says JSON on `announce` and `info` only. */
const GEN1_VALUE =
  /^(relay|light|white|color|roller|emeter|input|sensor|ext_temperature|ext_humidity|temperature|temperature_f|overtemperature|voltage|temperature_status|longpush|input_event)(?:\/|$)/;
const GEN1_UNITS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    power: 'W',
    reactive_power: 'var',
    voltage: 'V',
    current: 'A',
    // Relays count watt-minutes, meters watt-hours.
    energy: 'Wmin',
    total: 'Wh',
    total_returned: 'Wh',
    temperature: '°C',
    temperature_f: '°F',
    humidity: '%',
    battery: '%',
    lux: 'lx',
    ext_temperature: '°C',
    ext_humidity: '%',
  }),
);
const GEN2_UNITS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    apower: 'W',
    act_power: 'W',
    aprt_power: 'VA',
    voltage: 'V',
    current: 'A',
    freq: 'Hz',
    tC: '°C',
    tF: '°F',
    rh: '%',
    total: 'Wh',
    total_act_energy: 'Wh',
    lux: 'lx',
    percent: '%',
  }),
);
/** Facts of a component that are no values of the process. */
const GEN2_SKIPPED: ReadonlySet<string> = new Set([
  'id',
  'source',
  'by_minute',
  'minute_ts',
  'cfg_rev',
  'errors',
  'timer_started_at',
]);
/** Null for a push button, which has no state (…/gen2/ComponentsAndServices/Input); elsewhere null is a value that was lost. */
const STATELESS = /^input:\d+\.state$/;
/** Components of gen 2 whose status holds values. */
const GEN2_COMPONENT =
  /^(?:switch|light|cover|input|pm1|em|em1|emdata|em1data|temperature|humidity|voltmeter|devicepower|illuminance|smoke|flood|rgb|rgbw|cct|thermostat|number|boolean|text|enum):\d+$/;

export function createShelly({ gatewayId, adapterId }: Pick<AdapterContext, 'gatewayId' | 'adapterId'>): Dialect {
  // Where answers to requests come in, below the device's own topics: nobody else's requests are answered there.
  const requester = `fieldpost-${gatewayId}.${adapterId}`;
  const table = new PointTable();
  const statuses = new StatusRequests(requester);
  let requestId = 0;
  const told = (device: string, readings: readonly Reading[], extra: Partial<Told> = {}): Told => {
    const points = table.learn(device, readings.map(pointOf));
    return { device, online: true, readings, ...extra, ...(points !== undefined && { points }) };
  };
  return {
    name: 'shelly',
    filters: ['shellies/#', '+/online', '+/status/+', '+/events/rpc', `+/${requester}/rpc`],
    owner: (topic) => ownerOf(topic, requester),
    isCommand,
    understand(arrival): Understood | undefined {
      // What others, or we ourselves, tell the device is nothing that it says.
      if (isCommand(arrival.topic)) return { told: [] };
      const levels = arrival.topic.split('/');
      if (levels[0] === 'shellies') return gen1(levels, arrival.payload, arrival.replayed, told);
      if (levels[1] === requester) return answer(levels, arrival, statuses, told);
      const heard = gen2(levels, arrival, statuses, told);
      return heard === undefined ? undefined : { told: [heard], ask: statuses.heard(levels, arrival) };
    },
    greetings: () => [{ topic: TO_ALL, payload: Buffer.from('announce') }],
    planWrite(device, point, value): WritePlan | undefined {
      requestId += 1;
      return isGen2Writable(point)
        ? planGen2({ device, point, value }, { id: requestId, requester })
        : planGen1(device, point, value);
    },
  };
}

function isCommand(topic: string): boolean {
  return (
    topic === TO_ALL ||
    /^shellies\/[^/]+\/(?:.*\/)?(?:command|set)$/.test(topic) ||
    (/^[^/]+\/rpc$/.test(topic) && GEN2_ID.test(topic.split('/')[0] ?? '')) ||
    /^shelly[^/]*-[^/]*\/command(?:\/|$)/.test(topic)
  );
}

function ownerOf(topic: string, requester: string): string | undefined {
  const [first = '', second] = topic.split('/');
  if (first === 'shellies') return second === 'command' || second === 'announce' ? undefined : second;
  if (!GEN2_ID.test(first)) return undefined;
  return second === requester || (second !== undefined && GEN2_KINDS.has(second)) ? first : undefined;
}

function gen1(
  [, device, ...rest]: readonly string[],
  payload: Uint8Array,
  replayed: boolean,
  told: (device: string, readings: readonly Reading[], extra?: Partial<Told>) => Told,
): Understood | undefined {
  if (device === undefined) return undefined;
  const path = rest.join('/');
  const text = parseText(payload) ?? '';
  if (path === 'online') {
    return {
      told: [
        text === 'true' || text === 'false'
          ? { device, online: text === 'true' }
          : { device, fault: 'unknown_availability' },
      ],
    };
  }
  if (path === 'announce') {
    const identity = textFacts(parseJson(payload), { model: 'model', fw_ver: 'firmware', mac: 'mac', ip: 'address' });
    return { told: [{ device, online: true, identity }] };
  }
  // Relays are published with the retain flag; what another broker kept is no fresh value.
  if (replayed || !GEN1_VALUE.test(path)) return { told: [{ device }] };
  const document = parseJson(payload);
  if (isObject(document)) return { told: [told(device, objectReadings(document, path, GEN1_UNITS))] };
  const name = rest.at(-1) ?? path;
  const [unit, type] = gen1Kind(path, name);
  return { told: [told(device, [readingOf(path, document === undefined ? text : document, type, unit)])] };
}

function gen1Kind(path: string, name: string): readonly [unit: string | undefined, type: ValueType] {
  if (/^(?:relay|light|white|color)\/\d+$/.test(path)) return [undefined, 'boolean'];
  if (/^emeter\/\d+\/energy$/.test(path)) return ['Wmin', 'number'];
  const parent = path.split('/')[0] ?? '';
  return [GEN1_UNITS.get(name) ?? (/^\d+$/.test(name) ? GEN1_UNITS.get(parent) : undefined), 'any'];
}

function gen2(
  [device = '', kind, component]: readonly string[],
  { payload, replayed }: Arrival,
  statuses: StatusRequests,
  told: (device: string, readings: readonly Reading[], extra?: Partial<Told>) => Told,
): Told | undefined {
  if (!GEN2_ID.test(device)) return undefined;
  if (kind === 'online') {
    const text = parseText(payload);
    return text === 'true' || text === 'false'
      ? { device, online: text === 'true' }
      : { device, fault: 'unknown_availability' };
  }
  if (replayed) return { device };
  const document = parseJson(payload);
  if (!isObject(document)) return { device, online: true, fault: 'payload_not_json' };
  if (kind === 'status' && component !== undefined) return told(device, componentReadings(component, document));
  if (kind !== 'events') return { device, online: true };
  // NotifyStatus and NotifyFullStatus carry the components in `params`, with the time in seconds as `ts`.
  const { method, params } = document;
  if ((method !== 'NotifyStatus' && method !== 'NotifyFullStatus') || !isObject(params))
    return { device, online: true };
  if (method === 'NotifyFullStatus') statuses.told(device, true);
  const { ts } = params;
  return told(
    device,
    statusReadings(params),
    typeof ts === 'number' && ts > 1e9 ? { wallMs: Math.round(ts * 1000) } : {},
  );
}

/** What a device answers to a request of ours. */
function answer(
  [device = '', , kind]: readonly string[],
  { payload, replayed }: Arrival,
  statuses: StatusRequests,
  told: (device: string, readings: readonly Reading[], extra?: Partial<Told>) => Told,
): Understood | undefined {
  if (kind !== 'rpc' || !GEN2_ID.test(device)) return undefined;
  const text = replayed ? undefined : parseText(payload);
  if (text === undefined) return { told: [{ device }] };
  const status = statusIn(text);
  if (status === undefined) return { told: [{ device, online: true, answer: text }] };
  if (status.isWhole) statuses.told(device, false);
  return { told: [told(device, statusReadings(status.components))] };
}

function statusReadings(components: Readonly<Record<string, unknown>>): readonly Reading[] {
  return Object.entries(components).flatMap(([name, status]) =>
    isObject(status) ? componentReadings(name, status) : [],
  );
}

function componentReadings(component: string, status: Readonly<Record<string, unknown>>): readonly Reading[] {
  return GEN2_COMPONENT.test(component) ? objectReadings(status, component, GEN2_UNITS) : [];
}

/** Scalars of an object and of the objects in it, for example `switch:0.aenergy.total`. */
function objectReadings(
  status: Readonly<Record<string, unknown>>,
  path: string,
  units: ReadonlyMap<string, string>,
  depth = 0,
): readonly Reading[] {
  return Object.entries(status).flatMap(([name, value]) => {
    if (GEN2_SKIPPED.has(name) || Array.isArray(value)) return [];
    if (value === null && STATELESS.test(`${path}.${name}`)) return [];
    if (isObject(value)) return depth < 2 ? objectReadings(value, `${path}.${name}`, units, depth + 1) : [];
    return [readingOf(`${path}.${name}`, value, 'any', unitOf(name, units))];
  });
}

/** Phases stand before the name: `a_voltage`, `total_current`. */
function unitOf(name: string, units: ReadonlyMap<string, string>): string | undefined {
  return units.get(name) ?? units.get(name.replace(/^(?:a|b|c|n|total)_/, ''));
}

const GEN1_SWITCH = /^(relay|light|white|color)\/(\d+)$/;

function pointOf({ point, unit }: Reading): PointInfo {
  const writable = GEN1_SWITCH.test(point) || isGen2Writable(point);
  return { name: point, address: point, writable, ...(unit !== undefined && { unit }) };
}

function planGen1(device: string, point: string, value: PointValue): WritePlan | undefined {
  if (!GEN1_SWITCH.test(point)) return undefined;
  if (typeof value !== 'boolean') throw wrongValue(device, point, 'true or false');
  const publish = [{ topic: `shellies/${device}/${point}/command`, payload: Buffer.from(value ? 'on' : 'off') }];
  return { publish, confirmedBy: 'reading', timeoutMs: CONFIRM_MS };
}
