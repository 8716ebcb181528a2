// Whom one connection may speak for: tokens put by CBS, the credential of SASL PLAIN, the client's certificate. Each identity or
// policy that has links is one session of the hub, which ends with its credential.

import {
  iotHubError,
  LIMITS,
  type AmqpLink,
  type Clock,
  type Credential,
  type EndReason,
  type Hub,
  type HubProtocol,
  type IdentityRef,
  type Permission,
  type Principal,
  type SessionId,
  type SessionRequest,
} from '#sdk';
import { amqpErrorOf } from './errors.ts';

const HEAD = 'amqp';

/** One identity or policy on a connection. */
export interface Grant {
  readonly key: string;
  principal: Principal;
  /** Of a policy: may be used again for single devices. */
  credential: Credential;
  /** Key of the policy whose token let this device in; undefined where it has a credential of its own. */
  parent: string | undefined;
  readonly links: Set<AmqpLink>;
  session: Promise<SessionId> | undefined;
  sessionId: SessionId | undefined;
}

export interface Peer {
  readonly hostName: string;
  readonly remoteAddress: string;
  readonly protocol: Exclude<HubProtocol, 'https'>;
  readonly certificateChain: readonly Uint8Array[];
}

export interface GrantsOptions {
  readonly hub: Hub;
  readonly clock: Clock;
  /** Known once the connection is open. */
  readonly peer: () => Peer;
  /** The head finds the connection of a session by it. */
  readonly onSession: (sessionId: SessionId, grant: Grant) => void;
  readonly onSessionOver: (sessionId: SessionId) => void;
}

export type LinkFacts = Pick<SessionRequest, 'clientVersion' | 'modelId'>;

export class Grants {
  readonly #options: GrantsOptions;
  readonly #grants = new Map<string, Grant>();

  constructor(options: GrantsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#grants.size;
  }

  /** Whether there is a token for just this device or module. */
  has(hostName: string, ref: IdentityRef): boolean {
    return this.#grants.has(identityKey(this.#options.hub.hubOf(hostName).hubId, ref));
  }

  /** Takes a token. @throws GatewayError GW_IOTHUB as `Access.login`; IotHubMaxCbsTokenExceeded. */
  async put(token: string): Promise<Principal> {
    // Event Hubs clients sign with the text of the key; both forms prove that the key is known.
    const credential: Credential = { kind: 'sas', token };
    const principal = await this.#login(credential, { keyForm: 'either' });
    const { key } = this.add(principal, credential);
    for (const child of [...this.#grants.values()].filter(({ parent }) => parent === key)) {
      await this.#renew(child, credential, key);
    }
    return principal;
  }

  /** A device that a policy's token let in goes on with the new one; who may not any more loses its own links alone. */
  async #renew(child: Grant, credential: Credential, parent: string): Promise<void> {
    const { identity } = child.principal;
    try {
      const principal = await this.#login(credential, { ...(identity && { claimed: identity }), keyForm: 'either' });
      if (this.#grants.get(child.key) === child) this.add(principal, credential, parent);
    } catch (error) {
      this.#drop(child, error);
    }
  }

  /** @throws GatewayError GW_IOTHUB IotHubMaxCbsTokenExceeded. */
  add(principal: Principal, credential: Credential, parent?: string): Grant {
    const key = keyOf(principal);
    const known = this.#grants.get(key);
    if (known !== undefined) {
      known.principal = principal;
      known.credential = credential;
      known.parent = parent;
      // A session that is over is opened anew by the next link.
      if (known.sessionId !== undefined) this.#options.hub.sessions.renew(known.sessionId, principal);
      return known;
    }
    if (this.#grants.size >= LIMITS.hub_amqp_tokens) {
      throw iotHubError('IotHubMaxCbsTokenExceeded', `${LIMITS.hub_amqp_tokens} tokens are the most for a connection.`);
    }
    const grant: Grant = {
      key,
      principal,
      credential,
      parent,
      links: new Set(),
      session: undefined,
      sessionId: undefined,
    };
    this.#grants.set(key, grant);
    return grant;
  }

  /** Who may speak for a device or module. @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess and what a log-in throws. */
  async identity(ref: IdentityRef, resource: string): Promise<Grant> {
    const { hub, peer } = this.#options;
    const { hostName, certificateChain } = peer();
    if (this.#grants.size === 0 && certificateChain.length > 0) {
      const credential: Credential = { kind: 'x509', chain: certificateChain };
      return this.add(await this.#login(credential, { claimed: ref }), credential);
    }
    const own = this.#grants.get(identityKey(hub.hubOf(hostName).hubId, ref));
    const policies = [...this.#grants.values()].filter(({ principal }) => principal.kind === 'policy');
    const allowing = this.#allowing(own === undefined ? policies : [own, ...policies], 'DeviceConnect', [resource]);
    if (allowing === own) return allowing;
    const { key, credential } = allowing;
    return this.add(await this.#login(credential, { claimed: ref, keyForm: 'either' }), credential, key);
  }

  /** The policy that may use an endpoint of the service. @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess. */
  service(resources: readonly string[]): Grant {
    return this.#allowing(this.#grants.values(), 'ServiceConnect', resources);
  }

  /** The first that is not over and may use one of the resources. @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess. */
  #allowing(grants: Iterable<Grant>, permission: Permission, resources: readonly string[]): Grant {
    let refused: unknown = iotHubError('IotHubUnauthorizedAccess', 'No token was put for this address.');
    for (const grant of grants) {
      for (const resource of resources) {
        try {
          this.#demandFresh(grant.principal);
          this.#options.hub.access.demand(grant.principal, permission, resource);
          return grant;
        } catch (error) {
          refused = error;
        }
      }
    }
    throw refused;
  }

  /** The session of a grant, opened with its first link. The link counts from now on. */
  async session(grant: Grant, link: AmqpLink, facts: LinkFacts): Promise<SessionId> {
    grant.links.add(link);
    grant.session ??= this.#open(grant, facts);
    try {
      return await grant.session;
    } catch (error) {
      this.leave(grant, link);
      throw error;
    }
  }

  /** A link is gone; without any the identity is not connected any more. */
  leave(grant: Grant, link: AmqpLink): void {
    grant.links.delete(link);
    if (grant.links.size > 0) return;
    const { sessionId, parent } = grant;
    if (sessionId !== undefined) this.#close(grant, sessionId, 'closed');
    // The policy can let it in again: of all the devices behind a gateway only those that are there are kept.
    if (parent !== undefined) this.#remove(grant);
  }

  /** The hub has ended a session: returns the links that go with it. */
  ended(grant: Grant, sessionId: SessionId, reason: EndReason): readonly AmqpLink[] {
    if (grant.sessionId !== sessionId) return [];
    this.#options.onSessionOver(sessionId);
    grant.session = undefined;
    grant.sessionId = undefined;
    // Whoever was displaced may come again with the same token.
    if (reason !== 'displaced') this.#remove(grant);
    const links = [...grant.links];
    grant.links.clear();
    return links;
  }

  /** The connection is over. */
  end(reason: EndReason): void {
    for (const grant of this.#grants.values()) {
      grant.links.clear();
      if (grant.sessionId !== undefined) this.#close(grant, grant.sessionId, reason);
    }
    this.#grants.clear();
  }

  #drop(grant: Grant, error: unknown): void {
    const links = [...grant.links];
    grant.links.clear();
    this.#remove(grant);
    if (grant.sessionId !== undefined) this.#close(grant, grant.sessionId, 'credential_revoked');
    for (const link of links) link.close(amqpErrorOf(error, this.#options.clock));
  }

  #remove(grant: Grant): void {
    if (this.#grants.get(grant.key) === grant) this.#grants.delete(grant.key);
  }

  #close(grant: Grant, sessionId: SessionId, reason: EndReason): void {
    grant.session = undefined;
    grant.sessionId = undefined;
    this.#options.onSessionOver(sessionId);
    this.#options.hub.sessions.close(sessionId, reason);
  }

  async #open(grant: Grant, facts: LinkFacts): Promise<SessionId> {
    const { hub } = this.#options;
    const { protocol, remoteAddress } = this.#options.peer();
    const { principal } = grant;
    try {
      const { sessionId } = await hub.sessions.open(HEAD, {
        principal,
        protocol,
        remoteAddress,
        persistent: false,
        ...facts,
      });
      grant.sessionId = sessionId;
      this.#options.onSession(sessionId, grant);
      if (grant.principal !== principal) hub.sessions.renew(sessionId, grant.principal);
      // All who waited for it have gone meanwhile.
      if (grant.links.size === 0) this.#close(grant, sessionId, 'closed');
      return sessionId;
    } catch (error) {
      grant.session = undefined;
      throw error;
    }
  }

  #login(
    credential: Credential,
    more: { readonly claimed?: IdentityRef; readonly keyForm?: 'either' },
  ): Promise<Principal> {
    const { hostName, remoteAddress, protocol } = this.#options.peer();
    return this.#options.hub.access.login({ hostName, remoteAddress, protocol, credential, ...more });
  }

  #demandFresh({ expiresAtMs }: Principal): void {
    if (expiresAtMs === undefined || expiresAtMs > this.#options.clock.wallMs()) return;
    throw iotHubError('IotHubUnauthorizedAccess', 'The token has expired.');
  }
}

function keyOf({ hubId, identity, policy, scope }: Principal): string {
  return identity === undefined ? `${hubId} policy ${policy ?? ''} ${scope}` : identityKey(hubId, identity);
}

function identityKey(hubId: string, { deviceId, moduleId }: IdentityRef): string {
  return `${hubId} ${deviceId}/${moduleId ?? ''}`;
}
