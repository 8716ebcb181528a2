// Joins the upstream with the sessions of the local hub, which never import each other: what the cloud sends to a device that is at
// the local hub goes to its session there.

import { isDeviceId, type DeviceId } from '../core/device.ts';
import type { SessionDevices, SessionTwins } from '../core/session-devices.ts';
import type { DeviceRegistry } from '../devices/device-registry.ts';
import type { HubService } from '../hub/hub.ts';
import { iotHubError } from '../iothub/errors.ts';

export interface SessionDevicesOptions {
  /** Of the hub that stands in for the cloud, as long as it is configured. */
  readonly hubId: () => string | undefined;
  /** Undefined while it is not built. */
  readonly hub: () => HubService | undefined;
  readonly registry: Pick<DeviceRegistry, 'isTaken'>;
}

export interface SessionSwitch extends SessionDevices {
  /** A device's session began, ended, or takes something else, or the device has reported something. */
  changed(hubId: string, deviceId: string): void;
}

/** Its caller at the cloud waits no longer than this. */
const METHOD_MS = 300_000;
/** The cloud has let the call through as the device was there a moment ago: perhaps it only connects anew. */
const RECONNECT_MS = 2000;

export function createSessionDevices({ hubId, hub, registry }: SessionDevicesOptions): SessionSwitch {
  const listeners = new Set<(deviceId: DeviceId) => void>();

  const has = (deviceId: DeviceId): boolean => hubId() !== undefined && !registry.isTaken(deviceId);
  const sessionOf = (deviceId: DeviceId) => hub()?.sessionOf(hubId() ?? '', deviceId);

  const isPolling = (deviceId: DeviceId): boolean => hub()?.pollers.isListening(deviceId) === true;
  const isConnected = (deviceId: DeviceId): boolean => sessionOf(deviceId) !== undefined || isPolling(deviceId);

  function running(): { readonly at: HubService; readonly id: string } {
    const [at, id] = [hub(), hubId()];
    if (at !== undefined && id !== undefined) return { at, id };
    throw iotHubError('ServiceUnavailable', 'The local hub is not running.');
  }

  /** @throws GatewayError GW_IOTHUB ServiceUnavailable. */
  function twins(): SessionTwins {
    const { at } = running();
    if (at.cloudTwins !== undefined) return at.cloudTwins;
    throw iotHubError('ServiceUnavailable', 'The local hub stands in for no cloud.');
  }

  return {
    has,
    isConnected,
    wanted() {
      const sessions = hub()?.sessionsOf(hubId() ?? '') ?? [];
      const connected = sessions.flatMap(({ ref }) => (ref?.moduleId === undefined ? [ref?.deviceId] : []));
      const others = [...(hub()?.cloudTwins?.unsentDevices() ?? []), ...(hub()?.pollers.listening() ?? [])];
      const ids = new Set([...connected, ...others]);
      return [...ids].filter((id): id is DeviceId => id !== undefined && isDeviceId(id) && has(id));
    },
    isWanted: (deviceId) => isConnected(deviceId) || hub()?.cloudTwins?.hasUnsent(deviceId) === true,
    takesMethods: (deviceId) => sessionOf(deviceId)?.interests.has('methods') === true,
    takesCommands: (deviceId) => sessionOf(deviceId)?.interests.has('commands') === true || isPolling(deviceId),
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async invoke(deviceId, name, payload) {
      const { at, id } = running();
      const call = { name, payload, responseTimeoutMs: METHOD_MS, connectTimeoutMs: RECONNECT_MS, caller: 'cloud' };
      return at.methods.invoke(id, { deviceId }, call);
    },
    async deliver(deviceId, command, signal) {
      const { at, id } = running();
      return at.offerCommand(id, deviceId, command, signal);
    },
    twins: {
      take: async (...taken) => twins().take(...taken),
      takeDesired: async (...taken) => twins().takeDesired(...taken),
      unsent: async (deviceId) => twins().unsent(deviceId),
      sent: async (...sent) => twins().sent(...sent),
    },
    changed(at, deviceId) {
      if (at !== hubId() || !isDeviceId(deviceId) || !has(deviceId)) return;
      for (const listener of listeners) listener(deviceId);
    },
  };
}
