// Properties of a message in the last part of an MQTT topic: `key=value&…`, percent-encoded (contract/device-mqtt.md,
// sections 4 and 6). System properties have keys that begin with `$.`.

import type { CommandMessage } from '../core/hub/session.ts';
import type { SystemProperties } from '../core/message.ts';
import { SYSTEM_PROPERTIES } from './system-properties.ts';

/** Decoded keys and values; `null` for a key without `=`. The last of a repeated key counts. Never throws. */
export function parsePropertyBag(text: string): ReadonlyMap<string, string | null> {
  const bag = new Map<string, string | null>();
  // Node's module outputs and all of Java end it with a slash; a question mark in front is of the documents of edge hubs.
  const pairs = text.replace(/^\?/, '').replace(/\/$/, '');
  if (pairs === '') return bag;
  for (const pair of pairs.split('&')) {
    const equals = pair.indexOf('=');
    const key = decode(equals < 0 ? pair : pair.slice(0, equals));
    if (key !== '') bag.set(key, equals < 0 ? null : decode(pair.slice(equals + 1)));
  }
  return bag;
}

/** What is no percent-encoding stays as it is: C encodes only on request. */
function decode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A bag of a device's message, sorted by what it means. */
export interface BagProperties {
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: SystemProperties;
  /** `$.ifid`. */
  readonly interfaceId?: string;
  /** `$.on`: output of a module. */
  readonly outputName?: string;
}

const ACK = 'iothub-ack';
const FIELD_OF = new Map(SYSTEM_PROPERTIES.map((row) => [row.topicKey, row.field]));

/** What a device may not say of itself is left out: `$.cdid` and `$.cmid`, and system keys that nobody knows. */
export function bagProperties(bag: ReadonlyMap<string, string | null>): BagProperties {
  const properties: [string, string][] = [];
  const systemProperties: Partial<Record<keyof SystemProperties, string>> = {};
  for (const [key, value] of bag) {
    const field = FIELD_OF.get(key) ?? (key === 'iothub-creation-time-utc' ? 'creationTimeUtc' : undefined);
    if (field !== undefined) systemProperties[field] = value ?? '';
    else if (!key.startsWith('$.')) properties.push([key, value ?? '']);
  }
  const interfaceId = bag.get('$.ifid') ?? undefined;
  const outputName = bag.get('$.on') ?? undefined;
  return {
    // From entries, so that a key such as `__proto__` is one like any other.
    properties: Object.fromEntries(properties),
    systemProperties,
    ...(interfaceId === undefined ? {} : { interfaceId }),
    ...(outputName === undefined ? {} : { outputName }),
  };
}

/** Percent-encoded pairs in their order, blanks as `%20`; the `$` of system keys as `%24`, the only spelling that C reads. */
export function writePropertyBag(pairs: Iterable<readonly [key: string, value: string]>): string {
  return Array.from(pairs, ([key, value]) => `${encode(key)}=${encode(value)}`).join('&');
}

/** Lone surrogates, which have no UTF-8, become U+FFFD instead of an error. */
function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/**
 * The bag of a cloud-to-device message: never empty, as it always has `$.to`.
 * @param to `/devices/{d}/messages/deviceBound`.
 * @param expiresAt ISO 8601.
 */
export function commandBag(message: CommandMessage, to: string, expiresAt?: string): string {
  const system: [string, string | undefined][] = [
    ['$.mid', message.messageId],
    ['$.cid', message.correlationId],
    ['$.uid', message.userId],
    ['$.to', to],
    ['$.exp', expiresAt],
    ['$.ct', message.contentType],
    ['$.ce', message.contentEncoding],
    [ACK, message.ack === 'none' ? undefined : message.ack],
  ];
  const known = system.filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '');
  return writePropertyBag([...known, ...Object.entries(message.properties)]);
}

/** A cloud-to-device message from its bag, as `commandBag` writes it. */
export function bagCommand(bag: ReadonlyMap<string, string | null>, body: Uint8Array): CommandMessage {
  const { properties, systemProperties } = bagProperties(bag);
  const { [ACK]: ack, ...own } = properties;
  const { messageId, correlationId, userId, contentType, contentEncoding } = systemProperties;
  return {
    body,
    properties: own,
    ...(messageId !== undefined && { messageId }),
    ...(correlationId !== undefined && { correlationId }),
    ...(userId !== undefined && { userId }),
    ...(contentType !== undefined && { contentType }),
    ...(contentEncoding !== undefined && { contentEncoding }),
    ack: ack === 'positive' || ack === 'negative' || ack === 'full' ? ack : 'none',
  };
}
