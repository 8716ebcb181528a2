// What adapters' devices are in the hub: their identities' generations, which of them are shut out because the identity is disabled
// or was deleted, since when each is connected or not, and when each sent a message last.

import type { DeviceIdentity } from '../core/hub/identity.ts';

/** `unregistered`: it never had an identity, and gets none by itself. */
export type ShutOut = 'disabled' | 'deleted' | 'unregistered';

export interface FieldStanding {
  /** Undefined while its identity is not known. */
  generationOf(deviceId: string): string | undefined;
  isShutOut(deviceId: string): boolean;
  /** Its state as it is now. Returns whether it became reachable. */
  saw(deviceId: string, isReachable: boolean): boolean;
  /** Its identity as it is now. Returns whether that let it in again. */
  found(deviceId: string, identity: Pick<DeviceIdentity, 'generationId' | 'status'>): boolean;
  /** It has no identity. */
  lost(deviceId: string, why: 'deleted' | 'unregistered'): void;
  /** Nothing of its identity counts any more: it is to be looked at again. */
  forget(deviceId: string): void;
  /** A message of the device came: it goes to the hub's events unless the device is shut out. */
  admits(deviceId: string): boolean;
  /** When it was connected or disconnected last, or its identity was made anew. Wall clock in ms; undefined: not since the start. */
  connectionChangedMs(deviceId: string): number | undefined;
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
  const reachable = new Set<string>();
  const connected = new Set<string>();
  const changed = new Map<string, number>();
  const sent = new Map<string, number>();

  /** Reachable, and not shut out. */
  function settle(deviceId: string): void {
    const isConnected = reachable.has(deviceId) && !shutOut.has(deviceId);
    if (isConnected === connected.has(deviceId)) return;
    if (isConnected) connected.add(deviceId);
    else connected.delete(deviceId);
    changed.set(deviceId, wallMs());
  }

  function shut(deviceId: string, why: ShutOut): void {
    if (shutOut.get(deviceId) === why) return;
    shutOut.set(deviceId, why);
    settle(deviceId);
    onShutOut(deviceId, why);
  }

  return {
    generationOf: (deviceId) => generations.get(deviceId),
    isShutOut: (deviceId) => shutOut.has(deviceId),
    saw(deviceId, isReachable) {
      const isBack = isReachable && !reachable.has(deviceId);
      if (isReachable) reachable.add(deviceId);
      else reachable.delete(deviceId);
      settle(deviceId);
      return isBack;
    },
    found(deviceId, { generationId, status }) {
      // What was before is of no identity that there is.
      if (shutOut.has(deviceId) && shutOut.get(deviceId) !== 'disabled') changed.set(deviceId, wallMs());
      generations.set(deviceId, generationId);
      if (status === 'enabled') {
        const isLetIn = shutOut.delete(deviceId);
        settle(deviceId);
        return isLetIn;
      }
      shut(deviceId, 'disabled');
      return false;
    },
    lost(deviceId, why) {
      generations.delete(deviceId);
      shut(deviceId, why);
    },
    forget(deviceId) {
      generations.delete(deviceId);
      shutOut.delete(deviceId);
      settle(deviceId);
    },
    admits(deviceId) {
      if (shutOut.has(deviceId)) return false;
      sent.set(deviceId, wallMs());
      return true;
    },
    connectionChangedMs: (deviceId) => changed.get(deviceId),
    lastMessageMs: (deviceId) => sent.get(deviceId),
  };
}
