// Identities of a hub: devices and modules with what they prove themselves by (contract/service-03-registry.md).

/** A device, or a module of it. Ids follow Azure's rule and are compared with their case. */
export interface IdentityRef {
  readonly deviceId: string;
  readonly moduleId?: string;
}

/** Both base64 of 16 to 64 bytes. */
export interface SymmetricKey {
  readonly primaryKey: string;
  readonly secondaryKey: string;
}

/** SHA-1 (40) or SHA-256 (64 hexadecimal digits); `null`: none. */
export interface Thumbprints {
  readonly primaryThumbprint: string | null;
  readonly secondaryThumbprint: string | null;
}

/** `none`: of modules that an edge deployment manages. */
export type Authentication =
  | { readonly type: 'sas'; readonly symmetricKey: SymmetricKey }
  | { readonly type: 'selfSigned'; readonly x509Thumbprint: Thumbprints }
  | { readonly type: 'certificateAuthority' }
  | { readonly type: 'none' };

export type ConnectionState = 'Connected' | 'Disconnected';

interface IdentityFields {
  readonly deviceId: string;
  /** Given at creation; another one after the same id was deleted and created again. */
  readonly generationId: string;
  /** Short base64, without quotes; changes with every write of the identity. */
  readonly etag: string;
  readonly authentication: Authentication;
  readonly connectionState: ConnectionState;
  /** ISO 8601 in UTC; what never happened is `0001-01-01T00:00:00Z`. */
  readonly connectionStateUpdatedTime: string;
  readonly lastActivityTime: string;
  /** Commands that wait. */
  readonly cloudToDeviceMessageCount: number;
}

export interface DeviceIdentity extends IdentityFields {
  readonly status: 'enabled' | 'disabled';
  readonly statusReason: string | null;
  readonly statusUpdatedTime: string;
  readonly capabilities: { readonly iotEdge: boolean };
  /** `ms-azure-iot-edge://{id}-{number}`: an edge device's own, or the one that a leaf device stands in. */
  readonly deviceScope?: string;
  /** At most one: the scope of the parent of an edge device. */
  readonly parentScopes: readonly string[];
  /** Registered by the gateway for a device of an adapter, which needs no credentials of the hub. */
  readonly isGatewayDevice?: boolean;
}

export interface ModuleIdentity extends IdentityFields {
  readonly moduleId: string;
  readonly managedBy: string | null;
}

/** What a caller of the registry writes; what is left out gets its default on creation and stays on an update. */
export interface DeviceIdentityInput {
  readonly deviceId: string;
  readonly status?: 'enabled' | 'disabled';
  readonly statusReason?: string | null;
  /** Empty or missing keys are generated on creation and kept on an update. */
  readonly authentication?: AuthenticationInput;
  readonly capabilities?: { readonly iotEdge?: boolean };
  /** Of a device that is no edge device: its parent's; empty, it has none. */
  readonly deviceScope?: string;
  /** Of both fields the one counts that differs from what is registered. */
  readonly parentScopes?: readonly string[];
}

export interface ModuleIdentityInput {
  readonly deviceId: string;
  readonly moduleId: string;
  readonly authentication?: AuthenticationInput;
  readonly managedBy?: string | null;
}

export interface AuthenticationInput {
  readonly type?: Authentication['type'];
  readonly symmetricKey?: Partial<SymmetricKey>;
  readonly x509Thumbprint?: Partial<Thumbprints>;
}

/** A precondition of a write: absent, it must not exist; `*`, it must; else its etag must be this one. */
export type IfMatch = string | undefined;

export type BulkMode =
  'create' | 'update' | 'updateIfMatchETag' | 'delete' | 'deleteIfMatchETag' | 'updateTwin' | 'updateTwinIfMatchETag';

/** One line of `POST /devices` (contract/service-03, section 4). */
export interface BulkEntry {
  readonly mode: BulkMode;
  readonly device: DeviceIdentityInput;
  readonly moduleId?: string;
  readonly etag?: string;
  readonly twinEtag?: string;
  readonly tags?: unknown;
  readonly desired?: unknown;
}

export interface BulkFailure {
  readonly deviceId: string;
  readonly moduleId?: string;
  /** Name of the error (`iothub/errors.ts`) and its text. */
  readonly errorCode: string;
  readonly errorStatus: string;
}

export interface RegistryStatistics {
  readonly totalDeviceCount: number;
  readonly enabledDeviceCount: number;
  readonly disabledDeviceCount: number;
  readonly connectedDeviceCount: number;
}

/** The identity registry of one hub. Every error is a GatewayError GW_IOTHUB with the service's code (iothub/errors.ts). */
export interface IdentityRegistry {
  /** @throws DeviceNotFound, ModuleNotFound. */
  device(hubId: string, deviceId: string): Promise<DeviceIdentity>;
  module(hubId: string, ref: Required<IdentityRef>): Promise<ModuleIdentity>;
  /** In the order of ids, after `afterId`; `limit` 1 to 1000. One that has not changed since the last list may be the same object. */
  devices(
    hubId: string,
    page: { readonly afterId?: string; readonly limit: number },
  ): Promise<readonly DeviceIdentity[]>;
  modules(hubId: string, deviceId: string): Promise<readonly ModuleIdentity[]>;
  /** Creates, or updates where `ifMatch` says that it exists. Resolves after the sync. @throws DeviceAlreadyExists, PreconditionFailed, ArgumentInvalid, … */
  putDevice(hubId: string, device: DeviceIdentityInput, ifMatch: IfMatch): Promise<DeviceIdentity>;
  putModule(hubId: string, module: ModuleIdentityInput, ifMatch: IfMatch): Promise<ModuleIdentity>;
  /** With twin, modules, waiting commands and feedback; ends its sessions. */
  deleteDevice(hubId: string, deviceId: string, ifMatch: IfMatch): Promise<void>;
  deleteModule(hubId: string, ref: Required<IdentityRef>, ifMatch: IfMatch): Promise<void>;
  /** Each entry for itself, in one commit where possible; resolves with what failed. */
  bulk(hubId: string, entries: readonly BulkEntry[]): Promise<readonly BulkFailure[]>;
  /** Draws new keys. */
  regenerateKeys(hubId: string, ref: IdentityRef, which: 'primaryKey' | 'secondaryKey' | 'both'): Promise<SymmetricKey>;
  statistics(hubId: string): Promise<RegistryStatistics>;
}
