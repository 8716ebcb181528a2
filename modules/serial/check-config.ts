// Faults of the configuration that its schema cannot express. Each says what is wrong and what is allowed.

import { checkDeviceShape, compilePattern, type ConfigFault, isCrossed } from '#sdk';
import { bytesOf } from './bytes.ts';
import { checksumLength } from './checksum.ts';
import type { DeviceConfig, MatchConfig, PointConfig, SerialConfig } from './config.ts';
import type { DecodeConfig, LayoutField } from './config-decode.ts';
import { createDecoder } from './decode.ts';
import { fieldBytes } from './decode-layout.ts';
import { asksOf } from './device-plan.ts';
import { parseTemplate, type Template } from './template.ts';

type Path = readonly (string | number)[];
type Report = (path: Path, message: string) => void;

export function checkSerialConfig(config: SerialConfig): readonly ConfigFault[] {
  const faults: ConfigFault[] = [];
  const report: Report = (path, message) => faults.push({ path, message });
  checkPort(config, report);
  checkFraming(config, report);
  checkListeners(config, report);
  for (const [deviceId, device] of Object.entries(config.devices)) {
    const below: Report = (path, message) => report(['devices', deviceId, ...path], message);
    checkDevice(device, config, below);
    for (const { path, message } of checkDeviceShape({ device, adapter: config, points: device.points })) {
      below(path, message);
    }
  }
  return faults;
}

function checkPort({ path, usb, replay }: SerialConfig, report: Report): void {
  if (path !== undefined && usb !== undefined) report(['usb'], 'there is a path already; give one of both.');
  if (path === undefined && usb === undefined && replay === undefined) {
    report([], 'no port: give path, such as /dev/serial/by-id/…, or usb with the vendor id of the converter.');
  }
}

function checkFraming({ framing, checksum }: SerialConfig, report: Report): void {
  if (framing.kind === 'fixed_length' && framing.start !== undefined) {
    const length = bytesOf(framing.start).length;
    if (length > framing.length_bytes) report(['framing', 'start'], 'is longer than the frame.');
  }
  if (checksum === undefined || checksum.kind === 'nmea') return;
  const bytes = checksumLength(checksum) + checksum.after_bytes + checksum.gap_bytes + checksum.from_byte;
  const most = framing.kind === 'fixed_length' ? framing.length_bytes : framing.max_frame_bytes;
  if (bytes > most)
    report(['checksum'], `takes ${bytes} bytes with what it leaves out, but a frame has at most ${most}.`);
}

/** Frames that nobody asked for must tell whose they are. */
function checkListeners({ devices }: SerialConfig, report: Report): void {
  const listeners = Object.entries(devices).filter(
    ([, device]) => asksOf(device).length === 0 && device.decode !== undefined,
  );
  if (listeners.length < 2) return;
  for (const [deviceId, device] of listeners) {
    if (device.match !== undefined) continue;
    report(
      ['devices', deviceId],
      'several devices of this line speak by themselves: give each a match that tells its frames.',
    );
  }
}

function checkDevice(device: DeviceConfig, adapter: SerialConfig, report: Report): void {
  const { requests, request, decode } = device;
  if (requests === undefined) {
    if (decode === undefined) report([], 'no decode: say how its frames are read.');
  } else {
    if (request !== undefined) report(['request'], 'stands in requests already; give one of both.');
    if (decode !== undefined) report(['decode'], 'stands in requests already; give one of both.');
  }
  checkMatch(device.match, ['match'], report);
  const context = { device, adapter, report };
  const found = new Set<string>();
  const asks: readonly {
    path: Path;
    ask: { request?: DeviceConfig['request']; decode?: DecodeConfig | undefined; match?: MatchConfig | undefined };
  }[] = requests?.map((ask, index) => ({ path: ['requests', index], ask })) ?? [{ path: [], ask: { request, decode } }];
  for (const { path, ask } of asks) {
    if (ask.request !== undefined) checkTemplate(ask.request, [...path, 'request'], { ...context, needsValue: false });
    if (ask.match !== undefined) checkMatch(ask.match, [...path, 'match'], report);
    if (ask.decode === undefined) continue;
    for (const name of checkDecode(ask.decode, [...path, 'decode'], report)) {
      if (found.has(name))
        report([...path, 'decode'], `gives the point "${name}", which another request gives already.`);
      found.add(name);
    }
  }
  for (const [name, point] of Object.entries(device.points)) checkPoint(name, point, { ...context, found });
  const { probe_interval_min_ms: min, probe_interval_max_ms: max } = device.circuit_breaker;
  if (min > max)
    report(['circuit_breaker', 'probe_interval_min_ms'], `must not be above probe_interval_max_ms (${max}).`);
}

interface TemplateContext {
  readonly device: DeviceConfig;
  readonly adapter: SerialConfig;
  readonly report: Report;
}

function checkTemplate(
  config: Parameters<typeof parseTemplate>[0],
  path: Path,
  { device, adapter, report, needsValue }: TemplateContext & { readonly needsValue: boolean | undefined },
): Template | undefined {
  const template = parseTemplate(config);
  if (typeof template === 'string') {
    report(path, template);
    return undefined;
  }
  if (template.hasAddress && device.address === undefined)
    report(path, 'has {address}, but the device has no address.');
  if (template.hasChecksum && adapter.checksum === undefined)
    report(path, 'has {checksum}, but the line has no checksum.');
  if (template.hasValue && needsValue === false) report(path, 'has {value}, but a request has no value.');
  return template;
}

function checkPoint(
  name: string,
  point: PointConfig,
  { found, ...context }: TemplateContext & { readonly found: ReadonlySet<string> },
): void {
  const { report } = context;
  const path = ['points', name];
  const { write } = point;
  if (isCrossed(point)) report([...path, 'min'], `must not be above max (${point.max}).`);
  if (write === undefined) {
    if (!found.has(name))
      report(path, `decoding gives no point of this name; there are ${[...found].join(', ') || 'none'}.`);
    return;
  }
  if (isCrossed(write)) {
    report([...path, 'write', 'min'], `must not be above max (${write.max}).`);
  }
  const template = checkTemplate(write.template, [...path, 'write', 'template'], { ...context, needsValue: undefined });
  if (template?.hasValue === false && write.values === undefined && found.has(name)) {
    report([...path, 'write', 'template'], 'has no {value}.');
  }
  for (const [choice, text] of Object.entries(write.values ?? {})) {
    const bytes = template?.render({ value: text });
    if (typeof bytes === 'string') report([...path, 'write', 'values', choice], `cannot be written: ${bytes}`);
  }
  for (const field of ['response', 'refusal'] as const) checkPattern(write[field], [...path, 'write', field], report);
  if (write.refusal !== undefined && write.response === undefined) {
    report([...path, 'write', 'refusal'], 'only with response: without one no answer is awaited.');
  }
}

function checkMatch(match: MatchConfig | undefined, path: Path, report: Report): void {
  if (typeof match === 'string') checkPattern(match, path, report);
}

function checkPattern(pattern: string | undefined, path: Path, report: Report): void {
  const compiled = pattern === undefined ? undefined : compilePattern(pattern);
  if (typeof compiled === 'string') report(path, compiled);
}

/** The names of the points that it gives. */
function checkDecode(decode: DecodeConfig, path: Path, report: Report): readonly string[] {
  switch (decode.kind) {
    case 'regex': {
      const compiled = compilePattern(decode.pattern);
      if (typeof compiled === 'string') {
        report([...path, 'pattern'], compiled);
        return [];
      }
      if (compiled.groups.length === 0) {
        report([...path, 'pattern'], 'has no named group: write (?<name>…) around what is a value.');
      }
      checkTypes(decode.types, compiled.groups, path, report);
      return compiled.groups;
    }
    case 'delimited': {
      const names = decode.fields.filter((name) => name !== null);
      if (names.length === 0) report([...path, 'fields'], 'names no field.');
      const twice = names.find((name, index) => names.indexOf(name) !== index);
      if (twice !== undefined) report([...path, 'fields'], `names "${twice}" twice.`);
      checkTypes(decode.types, names, path, report);
      return names;
    }
    case 'json':
      checkTypes(decode.types, Object.keys(decode.values), path, report);
      return Object.keys(decode.values);
    case 'nmea': {
      const names = [...createDecoder(decode).points.keys()];
      if (names.length === 0) report(path, 'names neither sentences nor fields.');
      return names;
    }
    case 'layout':
      for (const [name, field] of Object.entries(decode.fields)) checkField(field, [...path, 'fields', name], report);
      return Object.keys(decode.fields);
  }
}

function checkTypes(
  types: Readonly<Record<string, unknown>> | undefined,
  names: readonly string[],
  path: Path,
  report: Report,
): void {
  for (const name of Object.keys(types ?? {})) {
    if (!names.includes(name))
      report([...path, 'types', name], `no value has this name; there are ${names.join(', ')}.`);
  }
}

function checkField(field: LayoutField, path: Path, report: Report): void {
  const { type, bit, bits, length_bytes: length, offset } = field;
  if (bits !== undefined && type !== 'bits') report([...path, 'bits'], 'only for the type bits.');
  if (bit !== undefined && type !== 'bits' && type !== 'bool')
    report([...path, 'bit'], 'only for the types bool and bits.');
  if (type === 'bool' && (bit ?? 0) > 7)
    report([...path, 'bit'], 'must be 0 to 7 in a byte; take the byte that has it.');
  if (length !== undefined && type !== 'text' && type !== 'bcd')
    report([...path, 'length_bytes'], 'only for text and bcd.');
  if (type === 'bits' && (bit ?? 0) + (bits ?? 1) > 64) report([...path, 'bits'], 'must end within 64 bits.');
  const bytes = fieldBytes(field);
  if (offset < 0 && -offset < bytes)
    report([...path, 'offset'], `begins ${-offset} bytes before the end, but takes ${bytes}.`);
}
