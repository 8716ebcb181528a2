// Tasmota (https://tasmota.github.io/docs/MQTT/): `tele/%topic%/…` and `stat/%topic%/…` from the device, `cmnd/%topic%/…`
// to it, with the default FullTopic `%prefix%/%topic%/`. The device id is %topic%.

import type { PointInfo, PointValue, Reading, ValueKind } from '#sdk';
import {
  quoted,
  type Arrival,
  type Dialect,
  type Told,
  type Understood,
  type Verdict,
  type WritePlan,
} from '../dialect.ts';
import { isObject, parseJson, parseJsonText, parseText, readingOf, type ValueType } from '../json-value.ts';
import { textFacts } from '../configured-dialect.ts';
import { compileTopic } from '../topic-template.ts';
import { PointTable } from './point-table.ts';
import { assertFits } from './writable-value.ts';

const TELE = compileTopic('tele/{device_id}/{kind}');
const STAT = compileTopic('stat/{device_id}/{kind}');
const COMMAND = compileTopic('cmnd/{device_id}/#');
const CONFIRM_MS = 3000;

/** Units by name of a value (https://tasmota.github.io/docs/Sensors/ and …/MQTT/, sections on SENSOR). */
const UNITS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    Total: 'kWh',
    Yesterday: 'kWh',
    Today: 'kWh',
    Power: 'W',
    ApparentPower: 'VA',
    ReactivePower: 'var',
    Voltage: 'V',
    Current: 'A',
    Frequency: 'Hz',
    Humidity: '%',
    Illuminance: 'lx',
    CarbonDioxide: 'ppm',
    Distance: 'cm',
  }),
);
/** Of the state message; the rest of it (uptimes, Wi-Fi names) is no process value. */
const STATE_POINT = /^(?:POWER\d{0,2}|Dimmer|CT|Speed|FanSpeed|Vcc|Heap|UptimeSec|LoadAvg)$/;
const POWER = /^POWER\d{0,2}$/;
/** Without payload it asks for the state; the firmware itself says that with each connect (`MqttConnected()`, unless SetOption90). */
const POWER_TOPIC = /\/POWER\d{0,2}$/;
/** Deepest object in a sensor message. */
const DEPTH = 4;

export function createTasmota(): Dialect {
  const table = new PointTable();

  const told = (device: string, readings: readonly Reading[]): Told => {
    const points = table.learn(device, readings.map(pointOf));
    return { device, online: true, readings, ...(points !== undefined && { points }) };
  };

  return {
    name: 'tasmota',
    filters: ['tele/+/+', 'stat/+/+'],
    owner: (topic) =>
      [TELE, STAT, COMMAND].map((template) => template.match(topic)?.['device_id']).find((id) => id !== undefined),
    isCommand: (topic, isEmpty) => COMMAND.match(topic) !== undefined && !(isEmpty === true && POWER_TOPIC.test(topic)),
    understand(arrival): Understood | undefined {
      const tele = TELE.match(arrival.topic);
      const found = tele ?? STAT.match(arrival.topic);
      const { device_id: device, kind } = found ?? {};
      if (device === undefined || kind === undefined) return undefined;
      return { told: [understand(arrival, { device, kind, tele: tele !== undefined }, told)] };
    },
    planWrite: (device, point, value) => planWrite(device, point, value),
  };
}

function understand(
  { payload, replayed }: Arrival,
  { device, kind, tele }: { readonly device: string; readonly kind: string; readonly tele: boolean },
  told: (device: string, readings: readonly Reading[]) => Told,
): Told {
  if (tele && kind === 'LWT') {
    const text = parseText(payload);
    return text === 'Online' || text === 'Offline'
      ? { device, online: text === 'Online' }
      : { device, fault: 'unknown_availability' };
  }
  if (replayed) return { device };
  if (!tele && POWER.test(kind)) return told(device, [readingOf(kind, parseText(payload), 'boolean')]);
  const document = parseJson(payload);
  if (!isObject(document)) return { device, online: true, ...(tele && { fault: 'payload_not_json' }) };
  if (!tele && typeof document['Command'] === 'string')
    return { device, online: true, answer: Buffer.from(payload).toString() };
  switch (kind) {
    case 'SENSOR':
    case 'STATUS8':
    case 'STATUS10': {
      const sensors = isObject(document['StatusSNS']) ? document['StatusSNS'] : document;
      return told(device, sensorReadings(sensors));
    }
    case 'STATE':
    case 'RESULT':
    case 'STATUS11': {
      const state = isObject(document['StatusSTS']) ? document['StatusSTS'] : document;
      return told(device, stateReadings(state));
    }
    case 'INFO1': {
      const facts = isObject(document['Info1']) ? document['Info1'] : document;
      return { device, online: true, identity: textFacts(facts, { Module: 'model', Version: 'firmware' }) };
    }
    default:
      return { device, online: true };
  }
}

/** `{"ENERGY":{"Power":12}}` is the point `ENERGY.Power`; an array has a point for each phase or channel. */
function sensorReadings(sensors: Readonly<Record<string, unknown>>): readonly Reading[] {
  const temperature = sensors['TempUnit'] === 'F' ? '°F' : '°C';
  const pressure = typeof sensors['PressureUnit'] === 'string' ? sensors['PressureUnit'] : 'hPa';
  const readings: Reading[] = [];
  const walk = (value: unknown, path: string, name: string, depth: number): void => {
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) walk(item, `${path}.${index + 1}`, name, depth + 1);
    } else if (isObject(value)) {
      if (depth < DEPTH)
        for (const [key, item] of Object.entries(value))
          walk(item, path === '' ? key : `${path}.${key}`, key, depth + 1);
    } else {
      const unit = /^(?:Temperature|DewPoint)$/.test(name)
        ? temperature
        : /^(?:Pressure|SeaPressure)$/.test(name)
          ? pressure
          : UNITS.get(name);
      readings.push(readingOf(path, value, typeOf(name), unit));
    }
  };
  for (const [key, value] of Object.entries(sensors)) {
    if (!/^(?:Time|TempUnit|PressureUnit|SpeedUnit)$/.test(key)) walk(value, key, key, 1);
  }
  return readings;
}

function stateReadings(state: Readonly<Record<string, unknown>>): readonly Reading[] {
  const readings = Object.entries(state)
    .filter(([name]) => STATE_POINT.test(name))
    .map(([name, value]) => readingOf(name, value, typeOf(name)));
  const wifi = state['Wifi'];
  if (isObject(wifi)) readings.push(readingOf('Wifi.Signal', wifi['Signal'], 'number', 'dBm'));
  return readings;
}

/** Switches (`Switch1`) and relays say ON and OFF. */
function typeOf(name: string): ValueType {
  return POWER.test(name) ? 'boolean' : 'any';
}

function pointOf({ point, unit }: Reading): PointInfo {
  const values = writableKind(point);
  return {
    name: point,
    address: point,
    writable: values !== undefined,
    ...(unit !== undefined && { unit }),
    ...(values !== undefined && { values }),
  };
}

/** What can be written (https://tasmota.github.io/docs/Commands/#light), and in which range. */
const WRITABLE: ReadonlyMap<string, ValueKind> = new Map([
  ['Dimmer', { kind: 'integer', min: 0, max: 100 }],
  // In mired.
  ['CT', { kind: 'integer', min: 153, max: 500 }],
]);

function writableKind(point: string): ValueKind | undefined {
  return POWER.test(point) ? { kind: 'boolean' } : WRITABLE.get(point);
}

/** The device answers with the new value on `stat/%topic%/RESULT`. */
function planWrite(device: string, point: string, value: PointValue): WritePlan | undefined {
  const kind = writableKind(point);
  if (kind === undefined) return undefined;
  assertFits({ device, point, value }, kind);
  const payload = typeof value === 'boolean' ? (value ? 'ON' : 'OFF') : String(value);
  return {
    publish: [{ topic: `cmnd/${device}/${point}`, payload: Buffer.from(payload) }],
    confirmedBy: 'reading',
    judge: (answer) => judgeAnswer(answer, point),
    timeoutMs: CONFIRM_MS,
  };
}

/** `{"Command":"Unknown"}`, or `Error`; since version 13 with the command as `Input`, so that another's is not taken for this one. */
function judgeAnswer(answer: string, point: string): Verdict {
  const document = parseJsonText(answer);
  if (!isObject(document)) return { value: undefined };
  const { Command: fault, Input: input } = document;
  const isAnother = typeof input === 'string' && commandName(input) !== commandName(point);
  if (isAnother || (fault !== 'Unknown' && fault !== 'Error')) return { value: undefined };
  return { reason: fault.toLowerCase(), said: quoted(answer) };
}

/** The firmware tells it without the number of a relay. */
function commandName(command: string): string {
  return command.toUpperCase().replace(/\d+$/, '');
}
