// What a hub says of a message that it took in: the names on events and in routing (contract/service-07, section 5;
// contract/device-semantics.md, section 1).

import type { HubStamps } from '../core/message.ts';

export const STAMP_NAMES = {
  connectionDeviceId: 'iothub-connection-device-id',
  connectionModuleId: 'iothub-connection-module-id',
  authMethod: 'iothub-connection-auth-method',
  generationId: 'iothub-connection-auth-generation-id',
  enqueuedTime: 'iothub-enqueuedtime',
  source: 'iothub-message-source',
  dataSchema: 'dt-dataschema',
} as const;

const STAMPS: ReadonlySet<string> = new Set(Object.values(STAMP_NAMES));

/** Whether a property's name is one that only the hub may set, whatever its case. */
export function isHubStamp(name: string): boolean {
  // Most properties are short; all of the names are long.
  return name.length >= 13 && STAMPS.has(name.toLowerCase());
}

/** What a message of the field side has instead: the gateway itself vouches for its devices. */
export const GATEWAY_STAMPS: HubStamps = Object.freeze({
  authMethod: '{"scope":"hub","type":"gateway","issuer":"iothub","acceptingIpFilterRule":null}',
  generationId: '',
  source: 'Telemetry',
});
