// Devices with sessions at the local hub, to which an upstream hands on what the cloud behind that hub sends them.

import type { DeviceId } from './device.ts';
import type { MethodAnswer } from './hub/messaging.ts';
import type { CommandMessage } from './hub/session.ts';

export interface SessionDevices {
  /** Whether the device, if it is anywhere, is at the local hub: the hub is on, and no adapter has it. */
  has(deviceId: DeviceId): boolean;
  /** Those that have a session now. */
  connected(): readonly DeviceId[];
  isConnected(deviceId: DeviceId): boolean;
  /** Whether its session takes direct methods now. */
  takesMethods(deviceId: DeviceId): boolean;
  /** Whether its session takes cloud-to-device messages now. */
  takesCommands(deviceId: DeviceId): boolean;
  /** Calls back when a device's session began, ended, or takes something else; must be quick. Returns what ends that. */
  watch(listener: (deviceId: DeviceId) => void): () => void;
  /** Nothing is queued. @throws GatewayError GW_IOTHUB DeviceNotOnline, GatewayTimeout and others of `Methods.invoke`. */
  invoke(deviceId: DeviceId, name: string, payload: Uint8Array): Promise<MethodAnswer>;
  /**
   * Hands a cloud-to-device message on; it is kept in memory alone. Resolves once the device has settled it.
   * @param signal ends the wait for a device that has not yet been given the message; one that has may still settle it.
   * @throws GatewayError GW_ABORTED; GW_IOTHUB DeviceMaximumQueueDepthExceeded, ServiceUnavailable: not taken.
   */
  deliver(deviceId: DeviceId, message: CommandMessage, signal: AbortSignal): Promise<'complete' | 'reject'>;
}
