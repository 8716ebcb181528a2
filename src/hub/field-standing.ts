// What adapters' devices are in the hub: their identities' generations, which of them are shut out because the identity is disabled
// or was deleted, and when each sent a message last.

import type { DeviceIdentity } from '../core/hub/identity.ts';

export type ShutOut = 'disabled' | 'deleted';

export interface FieldStanding {
  /** Undefined while its identity is not known. */
  generationOf(deviceId: string): string | undefined;
  isShutOut(deviceId: string): boolean;
  /** Its identity as it is now. Returns whether that let it in again. */
  found(deviceId: string, identity: Pick<DeviceIdentity, 'generationId' | 'status'>): boolean;
  /** Its identity was deleted. */
  lost(deviceId: string): void;
  /** A message of the device came: it goes to the hub's events unless the device is shut out. */
  admits(deviceId: string): boolean;
  /** Wall clock in ms; undefined: none yet. */
  lastMessageMs(deviceId: string): number | undefined;
}

/** @param onShutOut must not throw. */
export function createFieldStanding(
  wallMs: () => number,
  onShutOut: (deviceId: string, why: ShutOut) => void,
): FieldStanding {
  const generations = new Map<string, string>();
  const shutOut = new Map<string, ShutOut>();
  const sent = new Map<string, number>();

  function shut(deviceId: string, why: ShutOut): void {
    if (shutOut.get(deviceId) === why) return;
    shutOut.set(deviceId, why);
    onShutOut(deviceId, why);
  }

  return {
    generationOf: (deviceId) => generations.get(deviceId),
    isShutOut: (deviceId) => shutOut.has(deviceId),
    found(deviceId, { generationId, status }) {
      generations.set(deviceId, generationId);
      if (status === 'enabled') return shutOut.delete(deviceId);
      shut(deviceId, 'disabled');
      return false;
    },
    lost(deviceId) {
      generations.delete(deviceId);
      shut(deviceId, 'deleted');
    },
    admits(deviceId) {
      if (shutOut.has(deviceId)) return false;
      sent.set(deviceId, wallMs());
      return true;
    },
    lastMessageMs: (deviceId) => sent.get(deviceId),
  };
}
