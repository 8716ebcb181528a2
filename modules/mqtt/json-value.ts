// Reading JSON payloads: parsing within bounds, JSON pointers, values of points.

import { GOOD, parseExactJson, type PointValue, type Reading } from '#sdk';

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Integers beyond 2^53-1 are bigint. Undefined when the bytes are not JSON. */
export function parseJson(payload: Uint8Array): unknown {
  const text = parseText(payload);
  return text === undefined ? undefined : parseJsonText(text);
}

/** As `parseJson`. */
export function parseJsonText(text: string): unknown {
  try {
    return parseExactJson(text);
  } catch {
    return undefined;
  }
}

/** Undefined when the bytes are not UTF-8. */
export function parseText(payload: Uint8Array): string | undefined {
  try {
    return decoder.decode(payload);
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The steps of a JSON pointer (RFC 6901); undefined when it is none. */
export function parsePointer(pointer: string): readonly string[] | undefined {
  if (pointer === '') return [];
  if (!pointer.startsWith('/') || /~(?![01])/.test(pointer)) return undefined;
  return pointer
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** What stands at the steps; undefined when there is nothing. */
export function valueAt(document: unknown, steps: readonly string[]): unknown {
  let here = document;
  for (const step of steps) {
    if (Array.isArray(here)) here = /^(?:0|[1-9]\d*)$/.test(step) ? (here[Number(step)] as unknown) : undefined;
    else here = isObject(here) && Object.hasOwn(here, step) ? here[step] : undefined;
  }
  return here;
}

export type ValueType = 'number' | 'integer' | 'boolean' | 'string' | 'any';

/** The value as the type wants it; undefined when it cannot be. `any` takes what JSON says. */
export function pointValue(value: unknown, type: ValueType): PointValue | undefined {
  switch (type) {
    case 'any':
      if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
      return typeof value === 'boolean' || typeof value === 'string' || typeof value === 'bigint' ? value : undefined;
    case 'number':
    case 'integer':
      return numberOf(value, type === 'integer');
    case 'boolean':
      return booleanOf(value);
    case 'string':
      if (typeof value === 'string') return value;
      if (typeof value === 'number') return Number.isFinite(value) ? String(value) : undefined;
      return typeof value === 'boolean' || typeof value === 'bigint' ? String(value) : undefined;
    default:
      return type satisfies never;
  }
}

/** Of an integer of 64 bits and its sign; longer ones are no value, because a number would round them. */
const INTEGER_MAX_CHARS = 21;

function numberOf(value: unknown, whole: boolean): number | bigint | undefined {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'string' && /^[-+]?\d+$/.test(value.trim()) && !Number.isSafeInteger(Number(value))) {
    return value.length <= INTEGER_MAX_CHARS ? BigInt(value) : undefined;
  }
  const text = typeof value === 'string' && /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?$/.test(value.trim());
  const number = text ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number)) return undefined;
  return whole && !Number.isInteger(number) ? undefined : number;
}

const TRUE_WORDS: ReadonlySet<unknown> = new Set([true, 1, 'true', 'on', 'yes', '1', 'online']);
const FALSE_WORDS: ReadonlySet<unknown> = new Set([false, 0, 'false', 'off', 'no', '0', 'offline']);

function booleanOf(value: unknown): boolean | undefined {
  const word = typeof value === 'string' ? value.toLowerCase() : value;
  if (TRUE_WORDS.has(word)) return true;
  return FALSE_WORDS.has(word) ? false : undefined;
}

/** A reading of what a payload held; bad when it is not of the type. */
export function readingOf(point: string, value: unknown, type: ValueType, unit?: string): Reading {
  const converted = pointValue(value, type);
  const unitPart = unit === undefined ? {} : { unit };
  if (converted === undefined) {
    return { point, quality: { level: 'bad', reason: value === null ? 'null' : 'type' }, ...unitPart };
  }
  return { point, value: converted, quality: GOOD, ...unitPart };
}
