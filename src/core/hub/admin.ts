// What people may ask of the local hub without any SDK: the command line now, the page later. Each function takes and gives plain
// data, so that the control socket carries it as it is. All of it is about the gateway's own hub.

import type { DeviceIdentity, DeviceIdentityInput, IdentityRef, ModuleIdentity } from './identity.ts';
import type { TwinDocument, TwinUpdate } from './twin.ts';

/** Whose connection string. */
export type ConnectionStringRequest =
  | { readonly of: 'policy'; readonly policy: string }
  | ({ readonly of: 'identity' } & IdentityRef)
  /** Of the built-in events, with the key of a policy; `isPlaintext`: for the port without TLS. */
  | { readonly of: 'events'; readonly policy: string; readonly isPlaintext?: boolean };

/** A device, or a module when `moduleId` is there. */
export type IdentityChange = IdentityRef &
  Pick<DeviceIdentityInput, 'status' | 'statusReason' | 'authentication' | 'capabilities' | 'deviceScope'>;

export interface MethodRequest extends IdentityRef {
  readonly name: string;
  readonly payload?: unknown;
  /** Default 30 and 0. */
  readonly responseTimeoutSecs?: number;
  readonly connectTimeoutSecs?: number;
}

export interface CommandRequest {
  readonly deviceId: string;
  readonly text: string;
  readonly properties?: Readonly<Record<string, string>>;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly ack?: 'none' | 'positive' | 'negative' | 'full';
  readonly expiresInSecs?: number;
}

export interface EventsQuery {
  readonly deviceId?: string;
  readonly from: 'earliest' | 'latest';
}

/** One event for people. */
export interface EventView {
  readonly partition: number;
  readonly sequenceNumber: number;
  readonly enqueuedTime: string;
  readonly deviceId: string;
  readonly moduleId?: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: Readonly<Record<string, string>>;
  readonly stamps: Readonly<Record<string, string>>;
  /** What is UTF-8; else absent. */
  readonly text?: string;
  /** Base64 of what is none. */
  readonly base64?: string;
}

/** Every function may throw GW_IOTHUB with what the hub refused, and GW_NOT_FOUND while the hub is off or starts. */
export interface HubAdmin {
  connectionString(request: ConnectionStringRequest): Promise<{ readonly text: string }>;
  /** In the order of ids; `limit` 1 to 1000. */
  identities(page: { readonly afterId?: string; readonly limit: number }): Promise<readonly DeviceIdentity[]>;
  modules(device: { readonly deviceId: string }): Promise<readonly ModuleIdentity[]>;
  identity(ref: IdentityRef): Promise<DeviceIdentity | ModuleIdentity>;
  createIdentity(identity: IdentityChange): Promise<DeviceIdentity | ModuleIdentity>;
  updateIdentity(identity: IdentityChange): Promise<DeviceIdentity | ModuleIdentity>;
  deleteIdentity(ref: IdentityRef): Promise<object>;
  regenerateKeys(
    request: IdentityRef & { readonly which: 'primaryKey' | 'secondaryKey' | 'both' },
  ): Promise<{ readonly primaryKey: string; readonly secondaryKey: string }>;
  twin(ref: IdentityRef): Promise<TwinDocument>;
  updateTwin(request: IdentityRef & TwinUpdate): Promise<TwinDocument>;
  invokeMethod(request: MethodRequest): Promise<{ readonly status: number; readonly payload: unknown }>;
  sendCommand(request: CommandRequest): Promise<object>;
  /**
   * Reports events until the signal aborts, what is there already in the order of its enqueued times; no more are read while what
   * `report` returns is unresolved.
   */
  monitorEvents(
    query: EventsQuery,
    watch: { readonly signal: AbortSignal; readonly report: (event: EventView) => void | Promise<void> },
  ): Promise<void>;
}
