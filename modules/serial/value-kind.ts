// What values a point can have, as far as the configuration of its decoding says.

import type { ValueKind } from '#sdk';
import type { PointConfig } from './config.ts';
import type { DecodeConfig, ValueType } from './config-decode.ts';
import { NMEA_SENTENCES, type NmeaFieldKind } from './nmea-sentences.ts';

/** Undefined: anything, as JSON has it or as the template of a point that can only be written takes it. */
export function valueKind(
  name: string,
  point: PointConfig | undefined,
  decode: DecodeConfig | undefined,
): ValueKind | undefined {
  const decoded = decode === undefined ? undefined : decodedKind(name, decode, point);
  if (decoded !== undefined && decoded.kind !== 'text') return decoded;
  const choices = Object.keys(point?.write?.values ?? {});
  if (choices.length === 0) return decoded;
  return choices.every((choice) => choice === 'true' || choice === 'false')
    ? { kind: 'boolean' }
    : { kind: 'text', texts: choices };
}

function decodedKind(name: string, decode: DecodeConfig, point: PointConfig | undefined): ValueKind | undefined {
  switch (decode.kind) {
    case 'regex':
    case 'delimited':
      return typedKind(decode.types?.[name] ?? 'string', point);
    case 'json': {
      const type = decode.types?.[name];
      return type === undefined ? undefined : typedKind(type, point);
    }
    case 'nmea':
      return typedKind(nmeaType(name, decode), point);
    case 'layout': {
      const field = decode.fields[name];
      if (field === undefined) return undefined;
      if (field.type === 'bool') return { kind: 'boolean' };
      if (field.type === 'text') return { kind: 'text' };
      return numeric(!field.type.startsWith('float'), point, field.scale);
    }
  }
}

function nmeaType(name: string, decode: Extract<DecodeConfig, { kind: 'nmea' }>): ValueType {
  const own = decode.fields?.[name]?.type;
  const known = decode.sentences.flatMap((sentence) => {
    const fields: Readonly<Record<string, readonly [number, NmeaFieldKind]>> = NMEA_SENTENCES[sentence];
    return fields[name]?.[1] ?? [];
  });
  const kind = known[0] ?? own ?? 'string';
  switch (kind) {
    case 'latitude':
    case 'longitude':
      return 'number';
    case 'valid':
      return 'boolean';
    case 'time':
      return 'string';
    default:
      return kind;
  }
}

function typedKind(type: ValueType, point: PointConfig | undefined): ValueKind {
  if (type === 'boolean') return { kind: 'boolean' };
  if (type === 'string') return { kind: 'text' };
  return numeric(type !== 'number', point, undefined);
}

function numeric(isWhole: boolean, point: PointConfig | undefined, fieldScale: number | undefined): ValueKind {
  const { min, max, decimals, offset, scale = fieldScale } = point ?? {};
  const bounds = {
    ...(min === undefined ? {} : { min: Number(min) }),
    ...(max === undefined ? {} : { max: Number(max) }),
  };
  const staysWhole = isWhole && Number.isInteger(scale ?? 1) && Number.isInteger(offset ?? 0);
  if (staysWhole) return { kind: 'integer', ...bounds };
  return { kind: 'number', ...bounds, ...(decimals === undefined ? {} : { decimals }) };
}
