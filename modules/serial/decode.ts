// From a frame to values, without code: what each kind of decoding finds in it, by the names of points.

import { compilePattern, parseExactJson } from '#sdk';
import type { DecodeConfig, ValueType } from './config-decode.ts';
import type { Decoded, Decoder } from './decoded.ts';
import { createLayoutDecoder } from './decode-layout.ts';
import { createNmeaDecoder } from './decode-nmea.ts';
import { parseValue } from './decode-value.ts';

/** @throws never for what the check has passed; a pattern that does not compile decodes nothing. */
export function createDecoder(config: DecodeConfig): Decoder {
  switch (config.kind) {
    case 'regex':
      return regexDecoder(config);
    case 'delimited':
      return delimitedDecoder(config);
    case 'json':
      return jsonDecoder(config);
    case 'nmea':
      return createNmeaDecoder(config);
    case 'layout':
      return createLayoutDecoder(config);
  }
}

type ConfigOf<Kind extends DecodeConfig['kind']> = Extract<DecodeConfig, { kind: Kind }>;
type Types = Readonly<Record<string, ValueType>> | undefined;

function typeOf(types: Types, name: string): ValueType {
  return types?.[name] ?? 'string';
}

function regexDecoder({ pattern, types, decimal_separator, encoding }: ConfigOf<'regex'>): Decoder {
  const compiled = compilePattern(pattern);
  if (typeof compiled === 'string') return { points: new Map(), decode: () => ({ kind: 'fault', reason: 'no_match' }) };
  return {
    points: new Map(compiled.groups.map((name) => [name, `(?<${name}>)`])),
    decode(frame) {
      const groups = compiled.match(frame.toString(encoding));
      if (groups === undefined) return { kind: 'fault', reason: 'no_match' };
      const values = compiled.groups.map((name): [string, Decoded] => {
        const text = groups[name];
        return [
          name,
          text === undefined ? { bad: 'missing' } : parseValue(text, typeOf(types, name), decimal_separator),
        ];
      });
      return { kind: 'values', values: new Map(values) };
    },
  };
}

function delimitedDecoder(config: ConfigOf<'delimited'>): Decoder {
  const { separator, fields, types, decimal_separator, encoding, exact } = config;
  const named = fields.flatMap((name, index) => (name === null ? [] : [{ name, index }]));
  return {
    points: new Map(named.map(({ name, index }) => [name, `field ${index}`])),
    decode(frame) {
      const text = frame.toString(encoding);
      const parts = separator === ' ' ? text.trim().split(/\s+/) : text.split(separator);
      if (exact && parts.length !== fields.length) return { kind: 'fault', reason: 'fields' };
      if (named.every(({ index }) => index >= parts.length)) return { kind: 'fault', reason: 'fields' };
      const values = named.map(({ name, index }): [string, Decoded] => {
        const part = parts[index]?.trim();
        const isMissing = part === undefined || part === '';
        return [name, isMissing ? { bad: 'missing' } : parseValue(part, typeOf(types, name), decimal_separator)];
      });
      return { kind: 'values', values: new Map(values) };
    },
  };
}

function jsonDecoder({ values: pointers, types }: ConfigOf<'json'>): Decoder {
  const paths = Object.entries(pointers).map(([name, pointer]) => ({ name, steps: pointerSteps(pointer) }));
  return {
    points: new Map(Object.entries(pointers)),
    decode(frame) {
      let document: unknown;
      try {
        document = parseExactJson(frame.toString('utf8'));
      } catch {
        return { kind: 'fault', reason: 'not_json' };
      }
      const values = paths.map(({ name, steps }): [string, Decoded] => [
        name,
        jsonValue(walk(document, steps), types?.[name]),
      ]);
      if (values.every(([, value]) => 'bad' in value && value.bad === 'missing')) {
        return { kind: 'fault', reason: 'no_match' };
      }
      return { kind: 'values', values: new Map(values) };
    },
  };
}

/** RFC 6901, section 4. */
function pointerSteps(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function walk(document: unknown, steps: readonly string[]): unknown {
  let at = document;
  for (const step of steps) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Record<string, unknown>)[step];
  }
  return at;
}

function jsonValue(value: unknown, type: ValueType | undefined): Decoded {
  if (value === undefined || value === null) return { bad: 'missing' };
  if (typeof value === 'object') return { bad: 'not_a_value' };
  if (type !== undefined && typeof value === 'string') return parseValue(value, type, '.');
  if (typeof value === 'number' && !Number.isFinite(value)) return { bad: 'not_a_number' };
  if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean' && typeof value !== 'string')
    return { bad: 'not_a_value' };
  return { value: type === 'string' ? String(value) : value };
}
