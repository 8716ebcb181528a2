// The MQTT topics of Azure IoT Hub, read and written (contract/device-mqtt.md, sections 4 to 8). Ids stand in topics as they are.

import type { IdentityRef } from '../core/hub/identity.ts';
import { parsePropertyBag } from './property-bag.ts';

/** What a device published. */
export type PublishTopic =
  | { readonly kind: 'telemetry'; readonly from: IdentityRef; readonly bag: ReadonlyMap<string, string | null> }
  | { readonly kind: 'twin-get'; readonly requestId: string }
  /** `baseVersion`: of the reported properties that the patch was made from. */
  | { readonly kind: 'twin-report'; readonly requestId: string; readonly baseVersion?: number }
  | { readonly kind: 'method-answer'; readonly requestId: string; readonly status: number };

/** A filter that a device subscribed. */
export type FilterTopic =
  | { readonly kind: 'commands'; readonly of: IdentityRef }
  | { readonly kind: 'twin-responses' | 'desired' | 'methods' }
  | { readonly kind: 'inputs'; readonly of: Required<IdentityRef> };

const EVENTS = /^devices\/([^/]+)\/(?:modules\/([^/]+)\/)?messages\/events(?:\/(.*))?$/;
const REQUEST_ID = /(?:^|[?&])\$rid=([^&]*)/;

/** Undefined for a topic that the service does not know: it ends the connection. */
export function parsePublishTopic(topic: string): PublishTopic | undefined {
  if (topic.startsWith('$iothub/')) return parseOwnTopic(topic.slice('$iothub/'.length));
  const [, deviceId, moduleId, bag = ''] = EVENTS.exec(topic) ?? [];
  if (deviceId === undefined) return undefined;
  const from = moduleId === undefined ? { deviceId } : { deviceId, moduleId };
  return { kind: 'telemetry', from, bag: parsePropertyBag(bag) };
}

function parseOwnTopic(topic: string): PublishTopic | undefined {
  const [, path = '', query = ''] = /^(.*?)\/?\?(.*)$/.exec(topic) ?? [];
  const requestId = REQUEST_ID.exec(query)?.[1];
  if (requestId === undefined || requestId === '') return undefined;
  if (path === 'twin/GET') return { kind: 'twin-get', requestId };
  if (path === 'twin/PATCH/properties/reported') {
    const [, version] = /(?:^|&)\$version=(\d{1,15})(?:&|$)/.exec(query) ?? [];
    return { kind: 'twin-report', requestId, ...(version === undefined ? {} : { baseVersion: Number(version) }) };
  }
  const [, status] = /^methods\/res\/(-?\d{1,10})$/.exec(path) ?? [];
  return status === undefined ? undefined : { kind: 'method-answer', requestId, status: Number(status) };
}

/** What a device subscribes to, by the same name for each. */
export const METHOD_FILTER = '$iothub/methods/POST/#';

export const TWIN_RESPONSE_FILTER = '$iothub/twin/res/#';
export const DESIRED_FILTER = '$iothub/twin/PATCH/properties/desired/#';

const OWN_FILTERS: ReadonlyMap<string, FilterTopic> = new Map([
  [TWIN_RESPONSE_FILTER, { kind: 'twin-responses' }],
  [DESIRED_FILTER, { kind: 'desired' }],
  [METHOD_FILTER, { kind: 'methods' }],
]);

const COMMANDS = /^devices\/([^/]+)\/(?:modules\/([^/]+)\/)?messages\/devicebound\/#$/;
/** C and C# ask for all of the module's topics. */
const INPUTS = /^devices\/([^/]+)\/modules\/([^/]+)\/(?:inputs\/)?#$/;

/** Undefined for a filter that the service does not serve: it ends the connection. */
export function parseFilterTopic(filter: string): FilterTopic | undefined {
  const own = OWN_FILTERS.get(filter);
  if (own !== undefined) return own;
  const [, deviceId, moduleId] = COMMANDS.exec(filter) ?? [];
  if (deviceId !== undefined) {
    return { kind: 'commands', of: moduleId === undefined ? { deviceId } : { deviceId, moduleId } };
  }
  const [, parent, module] = INPUTS.exec(filter) ?? [];
  if (parent === undefined || module === undefined) return undefined;
  return { kind: 'inputs', of: { deviceId: parent, moduleId: module } };
}

function path(of: IdentityRef): string {
  return of.moduleId === undefined ? `devices/${of.deviceId}` : `devices/${of.deviceId}/modules/${of.moduleId}`;
}

/** Telemetry of a device or module. @param bag from `writePropertyBag`; may be empty. */
export function telemetryTopic(from: IdentityRef, bag: string): string {
  return `${path(from)}/messages/events/${bag}`;
}

/** @param bag never empty: the SDK for C# needs a fifth segment. */
export function commandTopic(to: IdentityRef, bag: string): string {
  return `${path(to)}/messages/devicebound/${bag}`;
}

/** @param bag never empty. */
export function inputTopic(to: Required<IdentityRef>, input: string, bag: string): string {
  return `${path(to)}/inputs/${encodeURIComponent(input)}/${bag}`;
}

/** Nothing may follow the version: the SDK for Java reads the rest as a number. */
export function twinResponseTopic(status: number, requestId: string, version?: number): string {
  const tail = version === undefined ? '' : `&$version=${version}`;
  return `$iothub/twin/res/${status}/?$rid=${requestId}${tail}`;
}

export function desiredTopic(version: number): string {
  return `$iothub/twin/PATCH/properties/desired/?$version=${version}`;
}

export function methodTopic(name: string, requestId: string): string {
  return `$iothub/methods/POST/${encodeURIComponent(name)}/?$rid=${requestId}`;
}

/** Cloud-to-device messages of a device. */
export function commandFilter(deviceId: string): string {
  return `devices/${deviceId}/messages/devicebound/#`;
}

/** What a hub sent to a device. */
export type DeviceTopic =
  | { readonly kind: 'command'; readonly deviceId: string; readonly bag: ReadonlyMap<string, string | null> }
  | { readonly kind: 'method'; readonly name: string; readonly requestId: string }
  | { readonly kind: 'twin-response'; readonly status: number; readonly requestId: string }
  | { readonly kind: 'desired'; readonly version: number };

const DEVICEBOUND = /^devices\/([^/]+)\/messages\/devicebound\/(.*)$/;
const METHOD = /^\$iothub\/methods\/POST\/([^/?]+)\/?\?(.*)$/;

const TWIN_RESPONSE = /^\$iothub\/twin\/res\/(\d{1,3})\/?\?(.*)$/;
const DESIRED = /^\$iothub\/twin\/PATCH\/properties\/desired\/?\?(?:.*&)?\$version=(\d{1,15})$/;

/** Undefined for what a device knows nothing of. */
export function parseDeviceTopic(topic: string): DeviceTopic | undefined {
  const [, deviceId, bag = ''] = DEVICEBOUND.exec(topic) ?? [];
  if (deviceId !== undefined) return { kind: 'command', deviceId, bag: parsePropertyBag(bag) };
  const [, version] = DESIRED.exec(topic) ?? [];
  if (version !== undefined) return { kind: 'desired', version: Number(version) };
  const [, status, answered = ''] = TWIN_RESPONSE.exec(topic) ?? [];
  if (status !== undefined) {
    return { kind: 'twin-response', status: Number(status), requestId: REQUEST_ID.exec(answered)?.[1] ?? '' };
  }
  const [, name, query = ''] = METHOD.exec(topic) ?? [];
  const requestId = REQUEST_ID.exec(query)?.[1];
  if (name === undefined || requestId === undefined || requestId === '') return undefined;
  return { kind: 'method', name: decodeLoosely(name), requestId };
}

/** What is no percent-encoding stays as it is. */
function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Where a device answers a direct method. */
export function methodAnswerTopic(status: number, requestId: string): string {
  return `$iothub/methods/res/${status}/?$rid=${requestId}`;
}

/** Where a device asks for its twin. */
export function twinGetTopic(requestId: string): string {
  return `$iothub/twin/GET/?$rid=${requestId}`;
}

/** Where a device reports properties. */
export function twinReportTopic(requestId: string): string {
  return `$iothub/twin/PATCH/properties/reported/?$rid=${requestId}`;
}
