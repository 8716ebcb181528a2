// What a twin may hold (contract/device-semantics.md, section 3; contract/service-04-twins-query.md, section 2.1).

import { iotHubError } from './errors.ts';
import type { Json, JsonObject } from './twin-record.ts';

export type SectionName = 'tags' | 'desired' | 'reported';

const SECTION_BYTES: Readonly<Record<SectionName, number>> = { tags: 8192, desired: 32_768, reported: 32_768 };
const DEPTH = 10;
const KEY_BYTES = 1024;
const TEXT_BYTES = 4096;
const INTEGER_MIN = -(2 ** 52);
const INTEGER_MAX = 2 ** 52 - 1;
/** From here on clients write a number with an exponent: it is no integer, though it has no fraction. */
const FLOAT_FROM = 1e21;
const NUMBER_BYTES = 8;
const BOOLEAN_BYTES = 4;

// C0, DEL and C1 (U+0000 to 1F, 7F to 9F), and what separates paths and marks names of the service.
const FORBIDDEN_IN_KEY = /[\p{Cc}.$ ]/u;
const CONTROL = /\p{Cc}/gu;

/** Members that the service itself puts into a section; clients send them back with what they read. */
const OWN_MEMBERS = new Set(['$metadata', '$version']);

/**
 * A patch or a section as it may be taken, without the service's own members.
 * @throws GatewayError GW_IOTHUB ArgumentInvalid, with the path.
 */
export function checkedSection(section: SectionName, given: unknown): JsonObject {
  if (!isObject(given)) throw invalid(section, '', 'is not an object');
  const members = Object.entries(given).filter(([name]) => !OWN_MEMBERS.has(name));
  for (const [name, value] of members) {
    checkKey(section, '', name);
    check(section, name, value, 1);
  }
  return objectOf(members);
}

/** After a merge. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function checkSize(section: SectionName, value: JsonObject): void {
  const bytes = sizeOf(value);
  const most = SECTION_BYTES[section];
  if (bytes > most) {
    throw iotHubError(
      'ArgumentInvalid',
      `The ${section} properties of the twin would have ${bytes} bytes; ${most} is the most.`,
    );
  }
}

/** Names and values; what the service adds is not in `value` and so not counted. */
export function sizeOf(value: Json): number {
  if (typeof value === 'number') return NUMBER_BYTES;
  if (typeof value === 'boolean') return BOOLEAN_BYTES;
  if (typeof value === 'string') return textSize(value);
  if (value === null) return 0;
  if (isArray(value)) return value.reduce<number>((sum, item) => sum + sizeOf(item), 0);
  return Object.entries(value).reduce((sum, [name, item]) => sum + textSize(name) + sizeOf(item), 0);
}

function textSize(text: string): number {
  return text.replaceAll(CONTROL, '').length;
}

/**
 * @param depth of the member itself, the section's own members being 1.
 * @param isInArray what an array holds is replaced as a whole: a null there would delete nothing, and stay.
 */
function check(section: SectionName, path: string, value: Json, depth: number, isInArray = false): void {
  if (value === null && isInArray) throw invalid(section, path, 'is a null in an array');
  if (value === null || typeof value === 'boolean') return;
  if (typeof value === 'string') {
    if (Buffer.byteLength(value) > TEXT_BYTES) throw invalid(section, path, `is longer than ${TEXT_BYTES} bytes`);
    return;
  }
  if (typeof value === 'number') {
    const isInteger = Number.isInteger(value) && Math.abs(value) < FLOAT_FROM;
    if (Number.isFinite(value) && (!isInteger || (value >= INTEGER_MIN && value <= INTEGER_MAX))) return;
    throw invalid(section, path, `is beyond ${INTEGER_MIN} to ${INTEGER_MAX}`);
  }
  if (depth > DEPTH) throw invalid(section, path, `is nested more than ${DEPTH} levels deep`);
  if (isArray(value)) {
    value.forEach((item, index) => check(section, `${path}[${index}]`, item, depth + 1, true));
    return;
  }
  if (!isObject(value)) throw invalid(section, path, 'is not a value of JSON');
  for (const [name, item] of Object.entries(value)) {
    checkKey(section, path, name);
    check(section, `${path}.${name}`, item, depth + 1, isInArray);
  }
}

function checkKey(section: SectionName, path: string, name: string): void {
  const where = path === '' ? section : path;
  if (name === '' || Buffer.byteLength(name) > KEY_BYTES) {
    throw invalid(section, where, `has a name that is empty or longer than ${KEY_BYTES} bytes`);
  }
  if (FORBIDDEN_IN_KEY.test(name)) {
    throw invalid(
      section,
      where,
      `has a name with a control character, ".", "$" or a blank in it: "${name.slice(0, 64)}"`,
    );
  }
}

function invalid(section: SectionName, path: string, why: string): Error {
  const where = path === '' || path === section ? section : `${section}.${path}`;
  return iotHubError('ArgumentInvalid', `The twin's ${where.slice(0, 256)} ${why}.`);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** Without a prototype: a member named `__proto__` is a member like another. */
export function objectOf(members: Iterable<readonly [string, Json]>): JsonObject {
  const object = Object.create(null) as Record<string, Json>;
  for (const [name, value] of members) object[name] = value;
  return object;
}

export function isScalar(value: Json | undefined): value is number | boolean | string {
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string';
}
