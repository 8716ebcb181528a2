// Twins as an upstream transport carries them: requests of one identity, and what is desired of it. What is written to devices
// and reported is no matter of the transport's.

import type { DeviceId } from './device.ts';
import type { JsonObject } from './json.ts';

/** A twin as the peer has it. */
export interface PeerTwin {
  /** Of the desired properties. */
  readonly version: number;
  readonly desired: JsonObject;
  readonly reported: JsonObject;
  /** 0: the peer does not say it. */
  readonly reportedVersion: number;
}

export interface TwinAnswer {
  /** As HTTP has them: 200 with the twin, 204 reported, 400, 404, 412, 429, 5xx. */
  readonly status: number;
  readonly body: Uint8Array;
}

/** One connection to the twin of one identity, with desired properties subscribed. */
export interface TwinLink {
  /** Whose twin it is, by its id on this side. */
  readonly deviceId: DeviceId;
  /** Aborts when the connection has ended. */
  readonly signal: AbortSignal;
  /** Whether the gateway's twin is to speak for a leaf device, which has none of its own there. */
  carries(deviceId: string): boolean;
  /** The whole twin, as JSON `{"desired":{…,"$version":n},"reported":{…,"$version":n}}`. @throws GatewayError GW_DISCONNECTED, GW_TIMEOUT. */
  get(): Promise<TwinAnswer>;
  /** A patch of the reported properties, as JSON. @throws GatewayError as `get`. */
  report(patch: Uint8Array): Promise<TwinAnswer>;
}

/** Functions must be quick and not throw. */
export interface TwinReceiver {
  /** Called for each new connection, once its desired properties are subscribed. */
  readonly onLink: (link: TwinLink) => void;
  /** A patch of the desired properties as it came, and the version that they have with it. */
  readonly onDesired: (link: TwinLink, patch: Uint8Array, version: number) => void;
}
