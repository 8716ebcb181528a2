// Who may do what on a hub (contract/device-auth.md, contract/service-01-auth.md).

import type { IdentityRef } from './identity.ts';

/** Rights of a shared access policy. */
export type Permission = 'RegistryRead' | 'RegistryWrite' | 'ServiceConnect' | 'DeviceConnect';

export interface AccessPolicy {
  readonly name: string;
  readonly permissions: readonly Permission[];
  readonly primaryKey: string;
  readonly secondaryKey: string;
}

export type Credential =
  /** The whole text that begins with `SharedAccessSignature`. */
  | { readonly kind: 'sas'; readonly token: string }
  /** DER, the leaf first; the client has proved its key in the handshake of TLS. */
  | { readonly kind: 'x509'; readonly chain: readonly Uint8Array[] };

/** One attempt to log in. */
export interface LoginRequest {
  /** Tells several hubs apart: as the client names the hub (user name, `open.hostname`, Host), port left off. */
  readonly hostName: string;
  /** For the brake on guessing. */
  readonly remoteAddress: string;
  readonly protocol: HubProtocol;
  readonly credential: Credential;
  /** Who the client says it is; without it the token's audience says so (CBS). */
  readonly claimed?: IdentityRef | { readonly policy: string };
  /** What a token of a policy is to be used for, as a path below the host: `/messages/events`; checked against the audience. */
  readonly resource?: string;
  /** Event Hubs clients sign with the key's text instead of its bytes (contract/service-01, 6.4). */
  readonly keyForm?: 'base64' | 'text' | 'either';
}

export type HubProtocol = 'mqtt' | 'mqtt-ws' | 'amqp' | 'amqp-ws' | 'https';

/** Whom the hub has let in, and as what. Plain data; valid until it expires or its session is ended. */
export interface Principal {
  readonly hubId: string;
  readonly kind: 'device' | 'module' | 'policy';
  /** Of a device or module. */
  readonly identity?: IdentityRef;
  readonly policy?: string;
  /** A device or module has `DeviceConnect` for itself alone; a policy's `DeviceConnect` covers every device. */
  readonly permissions: readonly Permission[];
  /** Path below the host that a token is limited to, lower case; empty: the whole hub. */
  readonly scope: string;
  /** Wall clock in ms: of a token, with the tolerance for clocks that differ; undefined for certificates. */
  readonly expiresAtMs?: number;
  /** What let it in, so that it ends when that goes: `key:primary`, `key:secondary`, `thumbprint:…`, `ca:…`. Never a secret. */
  readonly grantedBy: string;
  /** JSON text stamped on messages as `iothub-connection-auth-method`. */
  readonly authMethod: string;
  readonly generationId?: string;
}

export interface Access {
  /**
   * @throws GatewayError GW_IOTHUB: IotHubUnauthorizedAccess, IotHubUnauthorized, DeviceNotFound (CBS), DeviceDisabled,
   * ThrottlingException (guessing is slowed down).
   */
  login(request: LoginRequest): Promise<Principal>;
  /** Whether a principal may use an endpoint. @throws GW_IOTHUB IotHubUnauthorizedAccess in the service's words. */
  demand(principal: Principal, permission: Permission, resource?: string): void;
  policies(hubId: string): readonly AccessPolicy[];
}
