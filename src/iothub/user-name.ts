// The user name of an MQTT CONNECT (contract/device-mqtt.md, section 2): `{hub}/{device}[/{module}]/?api-version=…&…` in the
// spellings of all SDKs.

import type { IdentityRef } from '../core/hub/identity.ts';
import { isIdentityId } from './ids.ts';

export interface HubUserName {
  /** As the client names the hub, without a port. */
  readonly hostName: string;
  readonly identity: IdentityRef;
  readonly apiVersion?: string;
  /** User agent. */
  readonly clientType?: string;
  /** DTDL model. */
  readonly modelId?: string;
}

const MAX_CHARS = 4096;
/** Of the SDKs' newest (contract/device-mqtt.md, 2). Without one the service refuses patches of twins. */
const API_VERSION = '2021-04-12';

/** As a device writes it, in the form of the SDKs. @param hostName the hub's own name, whoever is dialled. */
export function writeHubUserName(hostName: string, { deviceId, moduleId }: IdentityRef, clientType: string): string {
  const path = moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;
  return `${hostName}/${path}/?api-version=${API_VERSION}&DeviceClientType=${encodeURIComponent(clientType)}`;
}

/** Undefined for what is no such user name. Parameters that are unknown are ignored; of a repeated one the first counts. */
export function parseHubUserName(text: string): HubUserName | undefined {
  if (text.length > MAX_CHARS) return undefined;
  const [path, query] = halves(text);
  const [hostName = '', deviceId = '', moduleId, ...rest] = path.replace(/\/$/, '').split('/');
  if (hostName === '' || !isIdentityId(deviceId) || rest.length > 0) return undefined;
  if (moduleId !== undefined && !isIdentityId(moduleId)) return undefined;
  const parameters = parametersOf(query);
  const apiVersion = parameters.get('api-version');
  const clientType = parameters.get('DeviceClientType');
  const modelId = parameters.get('model-id');
  return {
    hostName: hostName.replace(/:\d+$/, ''),
    identity: moduleId === undefined ? { deviceId } : { deviceId, moduleId },
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(clientType === undefined ? {} : { clientType }),
    ...(modelId === undefined ? {} : { modelId }),
  };
}

/** Path and parameters: `host/d/?k=v`; else, as an id may hold `?` and `=`, at a known name: `host/d?k=v` or `host/d/k=v`. */
function halves(text: string): readonly [path: string, query: string] {
  const match = /\/\?/.exec(text) ?? /[/?](?=(?:api-version|DeviceClientType|model-id|auth-chain)=)/.exec(text);
  return match === null ? [text, ''] : [text.slice(0, match.index), text.slice(match.index + match[0].length)];
}

function parametersOf(query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=');
    const name = equals < 0 ? pair : pair.slice(0, equals);
    if (!parameters.has(name)) parameters.set(name, equals < 0 ? '' : decodeLoosely(pair.slice(equals + 1)));
  }
  return parameters;
}

/** The SDK for Node sends the model id as it is. */
function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
