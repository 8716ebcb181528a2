// Keys of a hub's space in the state store. Ids hold no slash (iothub/ids.ts), so that no key can pass for another's.
//
//   n                                counters
//   p                                shared access policies with their sealed keys
//   ca/{thumbprint}                  certificate authorities of devices
//   d/{deviceId}                     device
//   m/{deviceId}/{moduleId}          module
//   t/{deviceId}[/{moduleId}]        twin
//   u/{deviceId}                     its device has reported what the cloud behind the hub does not have: an index of the twins
//   c/{deviceId}/{number}            command that waits
//   x/{expiry}/{deviceId}/{number}   the same, in the order of expiry
//   f/{number}                       feedback that waits
//   s/{deviceId}[/{moduleId}]        what a persistent session of an absent client keeps
//   w/{sessionId}                    will of a client that is connected, or was when the hub was killed

import type { IdentityRef } from '../core/hub/identity.ts';

const NUMBER_DIGITS = 16;

/** Text that sorts as the number does: a safe integer from 0. */
export function sortable(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}

/** `{deviceId}[/{moduleId}]`: names an identity of one hub. */
export function refText({ deviceId, moduleId }: IdentityRef): string {
  return moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;
}

export const COUNTERS_KEY = 'n';
export const POLICIES_KEY = 'p';
export const DEVICES = 'd/';
export const FEEDBACK = 'f/';
export const EXPIRIES = 'x/';
export const WILLS = 'w/';
export const UNSENT = 'u/';

export function identityKey(ref: IdentityRef): string {
  return ref.moduleId === undefined ? `${DEVICES}${ref.deviceId}` : `m/${refText(ref)}`;
}

export function modulesPrefix(deviceId: string): string {
  return `m/${deviceId}/`;
}

export function twinKey(ref: IdentityRef): string {
  return `t/${refText(ref)}`;
}

export function unsentKey({ deviceId }: IdentityRef): string {
  return `${UNSENT}${deviceId}`;
}

export function sessionKey(ref: IdentityRef): string {
  return `s/${refText(ref)}`;
}

export function willKey(sessionId: string): string {
  return `${WILLS}${sessionId}`;
}

export function commandsPrefix(deviceId: string): string {
  return `c/${deviceId}/`;
}

export function commandKey(deviceId: string, number: number): string {
  return `c/${deviceId}/${sortable(number)}`;
}

export function expiryKey(expiresAtMs: number, deviceId: string, number: number): string {
  return `${EXPIRIES}${sortable(Math.max(0, Math.trunc(expiresAtMs)))}/${deviceId}/${sortable(number)}`;
}

export function feedbackKey(number: number): string {
  return `${FEEDBACK}${sortable(number)}`;
}
