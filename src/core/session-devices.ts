// Devices with sessions at the local hub, to which an upstream hands on what the cloud behind that hub sends them.

import type { DeviceId } from './device.ts';
import type { MethodAnswer } from './hub/messaging.ts';
import type { CommandMessage, CommandOutcome } from './hub/session.ts';
import type { JsonObject } from './json.ts';
import type { PeerTwin } from './twin-link.ts';

/** A cloud-to-device message of the cloud behind the local hub, which keeps it until it is settled here. */
export interface CloudCommand {
  readonly message: CommandMessage;
  /** UTC wall clock in ms until which it holds; undefined: the cloud does not say. */
  readonly expiresAtMs?: number | undefined;
  /** How often the cloud had it given back; undefined: it takes nothing back, so that it is offered again here. */
  readonly deliveryCount?: number | undefined;
}

export interface SessionDevices {
  /** Whether the device, if it is anywhere, is at the local hub: the hub is on, and no adapter has it. */
  has(deviceId: DeviceId): boolean;
  /** Whether it has a session, or asked for its messages lately. */
  isConnected(deviceId: DeviceId): boolean;
  /** Those to be connected to the cloud: they are connected here, or have reported what the cloud does not have yet. */
  wanted(): readonly DeviceId[];
  isWanted(deviceId: DeviceId): boolean;
  /** Whether its session takes direct methods now. */
  takesMethods(deviceId: DeviceId): boolean;
  /** Whether its session takes cloud-to-device messages now, or it asked for them lately. */
  takesCommands(deviceId: DeviceId): boolean;
  /**
   * Calls back when a device's session began, ended, or takes something else, and when it has reported something; must be quick.
   * Returns what ends that.
   */
  watch(listener: (deviceId: DeviceId) => void): () => void;
  /** Nothing is queued. @throws GatewayError GW_IOTHUB DeviceNotOnline, GatewayTimeout and others of `Methods.invoke`. */
  invoke(deviceId: DeviceId, name: string, payload: Uint8Array): Promise<MethodAnswer>;
  /**
   * Hands a cloud-to-device message on; it is kept in memory alone. Resolves once the device has settled it.
   * @param signal ends the wait for a device that has not yet been given the message; one that has may still settle it.
   * @throws GatewayError GW_ABORTED; GW_IOTHUB DeviceMaximumQueueDepthExceeded, ServiceUnavailable: not taken.
   */
  deliver(deviceId: DeviceId, command: CloudCommand, signal: AbortSignal): Promise<CommandOutcome>;
  readonly twins: SessionTwins;
}

/**
 * The twins that devices have at the local hub: their desired properties are the cloud's, the reported ones the device's. Nothing
 * happens to twins of devices that the local hub has registered for itself. What is taken is durable, and the device told, when it
 * resolves. All throw GatewayError GW_IOTHUB ServiceUnavailable while there is no hub, and as `StateSpace`.
 */
export interface SessionTwins {
  /** The whole twin as the cloud has it; what the device reported since the cloud was told last stays on top of it. */
  take(deviceId: DeviceId, twin: PeerTwin): Promise<void>;
  /** A patch of the desired properties. Resolves whether they are of that version, or a newer one, now. */
  takeDesired(deviceId: DeviceId, patch: JsonObject, version: number): Promise<boolean>;
  /** The patch of reported properties that the cloud does not have yet; undefined: it has all. */
  unsent(deviceId: DeviceId): Promise<JsonObject | undefined>;
  /** The cloud has that patch now. */
  sent(deviceId: DeviceId, patch: JsonObject): Promise<void>;
}
