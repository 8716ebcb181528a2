// Who is let in, and what that allows: shared access signatures of devices, modules and policies, and client certificates
// (contract/device-auth.md, sections 4 and 5; contract/service-01-auth.md).

import type { Clock } from '../core/clock.ts';
import type { Access, AccessPolicy, LoginRequest, Permission, Principal } from '../core/hub/access.ts';
import type { HubInfo } from '../core/hub/hub.ts';
import type { IdentityRef, SymmetricKey } from '../core/hub/identity.ts';
import type { EndReason } from '../core/hub/session.ts';
import { iotHubError, iotHubErrorOf } from '../iothub/errors.ts';
import { isIdentityId } from '../iothub/ids.ts';
import {
  audienceCovers,
  audienceIdentity,
  audiencesOf,
  parseSasToken,
  sasEndMs,
  signingKey,
  type Audience,
  type KeyForm,
  type SasToken,
} from '../iothub/sas-token.ts';
import { hmacSha256, sameBytes } from '../platform/hmac.ts';
import type { Sealer } from '../platform/sealing.ts';
import { thumbprintsOf, type Authorities } from './authorities.ts';
import type { Brake } from './brake.ts';
import type { CloudDevices } from './cloud-devices.ts';
import type { HubStore } from './hub-store.ts';
import {
  authorityGrant,
  identitySeal,
  isOwnGrantValid,
  keyGrant,
  keysOf,
  refOf,
  thumbprintGrant,
  type IdentityRecord,
} from './identity-record.ts';
import { notFound } from './identity-rules.ts';
import { refText } from './keys.ts';
import { policyGrant, type NumberedPolicy, type Policies } from './policies.ts';

/** What one hub checks credentials against. */
export interface HubSecrets {
  readonly store: HubStore;
  readonly policies: Policies;
  readonly authorities: Authorities;
}

export interface AccessOptions {
  readonly hubOf: (hostName: string) => HubInfo;
  readonly secretsOf: (hubId: string) => HubSecrets;
  readonly sealer: Sealer;
  /** Absent: a hub with no cloud behind it. */
  readonly cloud?: Pick<CloudDevices, 'isHostName' | 'find'> | undefined;
  readonly brake: Brake;
  readonly clock: Clock;
  /** A client was let in. Must not throw. */
  readonly onPassed?: (request: LoginRequest, principal: Principal) => void;
  /** A client was refused. `who` is what it says it is, unproved, at most NAME_CHARS of it. Must not throw. */
  readonly onRefused?: (request: LoginRequest, who: string, reason: string) => void;
}

export interface HubAccess extends Access {
  /** Why a principal may no longer be in; undefined: it may. @throws GatewayError as the store. */
  endReason(principal: Principal): Promise<EndReason | undefined>;
}

/** A device and its module, each at its longest, with room for a policy's host. */
const NAME_CHARS = 300;

const CRYPTO = { hmacSha256, sameBytes };

export function createAccess({
  hubOf,
  secretsOf,
  sealer,
  cloud,
  brake,
  clock,
  onPassed,
  onRefused,
}: AccessOptions): HubAccess {
  /** The device too, where it is a module. @throws GatewayError GW_IOTHUB DeviceNotFound, ModuleNotFound. */
  async function known(store: HubStore, ref: IdentityRef): Promise<IdentityRecord> {
    const record = await store.identity(ref);
    if (record !== undefined) return record;
    throw notFound(ref);
  }

  /** @throws GatewayError GW_IOTHUB DeviceDisabled. */
  async function checkEnabled(store: HubStore, record: IdentityRecord): Promise<void> {
    const device = record.moduleId === undefined ? record : await store.identity({ deviceId: record.deviceId });
    if (device?.moduleId === undefined && device?.status === 'enabled') return;
    throw iotHubError('DeviceDisabled', `Device ${record.deviceId} is disabled.`);
  }

  async function identityPrincipal(
    store: HubStore,
    record: IdentityRecord,
    granted: Pick<Principal, 'grantedBy' | 'scope' | 'authMethod'> & Pick<Partial<Principal>, 'expiresAtMs' | 'policy'>,
  ): Promise<Principal> {
    const ref = refOf(record);
    if (!isIdentityId(ref.deviceId) || !isIdentityId(ref.moduleId ?? ref.deviceId)) {
      throw iotHubError(
        'ArgumentInvalid',
        'An identity with + # or ; in its id can be registered, but cannot connect.',
      );
    }
    await checkEnabled(store, record);
    return {
      hubId: store.hubId,
      kind: record.moduleId === undefined ? 'device' : 'module',
      identity: ref,
      permissions: ['DeviceConnect'],
      generationId: record.generationId,
      ...granted,
    };
  }

  async function bySas(request: LoginRequest, text: string, info: HubInfo): Promise<Principal> {
    const { store, policies } = secretsOf(info.hubId);
    const token = parseSasToken(text);
    const expiresAtMs = sasEndMs(token);
    if (expiresAtMs < clock.wallMs()) throw unauthorized('The specified SAS token is expired.');
    const audiences = audiencesOf(token.resource).filter(
      ({ host }) => isNameOf(info, request.hostName, host) || cloud?.isHostName(info.hubId, host) === true,
    );
    if (audiences.length === 0) throw unauthorized('The SAS token is for another hub.');
    const form = request.keyForm ?? 'base64';
    const { claimed } = request;
    const wanted = claimed !== undefined && 'policy' in claimed ? claimed.policy : token.policy;
    const policy = (await policies.all()).find(({ name }) => name === wanted);
    const which = policy === undefined ? undefined : signingKey(token, policy, form, CRYPTO);
    if (policy !== undefined && which !== undefined) {
      return byPolicy({ request, store, audiences, policy, grantedBy: policyGrant(policy, which), expiresAtMs });
    }
    if (claimed !== undefined && 'policy' in claimed) throw badSignature();
    return byOwnKey({ store, token, audiences, claimed, form, expiresAtMs });
  }

  interface PolicyToken {
    readonly request: LoginRequest;
    readonly store: HubStore;
    readonly audiences: readonly Audience[];
    readonly policy: NumberedPolicy;
    readonly grantedBy: string;
    readonly expiresAtMs: number;
  }

  async function byPolicy(found: PolicyToken): Promise<Principal> {
    const { request, store, audiences, policy, grantedBy, expiresAtMs } = found;
    const { claimed, resource } = request;
    const isIdentity = claimed !== undefined && !('policy' in claimed);
    const path = isIdentity ? pathOf(claimed) : segments(resource ?? '');
    const audience = audiences.find((one) =>
      resource === undefined && !isIdentity ? true : audienceCovers(one, path),
    );
    if (audience === undefined) throw unauthorized('The SAS token is for another resource.');
    const scope = scopeOf(audience);
    const ref = isIdentity ? claimed : exactIdentity(audience);
    const isDevice = isIdentity || (claimed === undefined && policy.permissions.includes('DeviceConnect'));
    if (ref === undefined || !isDevice) {
      return {
        hubId: store.hubId,
        kind: 'policy',
        policy: policy.name,
        permissions: policy.permissions,
        scope,
        expiresAtMs,
        grantedBy,
        authMethod: authMethod('hub', 'sas'),
      };
    }
    if (!policy.permissions.includes('DeviceConnect')) throw lacking(policy.name, 'DeviceConnect');
    const granted = { grantedBy, scope, expiresAtMs, policy: policy.name, authMethod: authMethod('hub', 'sas') };
    return identityPrincipal(store, await known(store, ref), granted);
  }

  async function byOwnKey(given: {
    readonly store: HubStore;
    readonly token: SasToken;
    readonly audiences: readonly Audience[];
    readonly claimed: IdentityRef | undefined;
    readonly form: KeyForm;
    readonly expiresAtMs: number;
  }): Promise<Principal> {
    const { store, token, audiences, claimed, form, expiresAtMs } = given;
    const candidates = audiences.flatMap((audience) => {
      const ref = audienceIdentity(audience);
      if (ref === undefined || (claimed !== undefined && !isSameText(ref, claimed))) return [];
      return [{ audience, asked: claimed ?? ref }];
    });
    if (candidates.length === 0) throw unauthorized('The SAS token is for another device or policy.');
    let missing: unknown;
    for (const { audience, asked } of candidates) {
      const isSignedBy = (keys: SymmetricKey): boolean => signingKey(token, keys, form, CRYPTO) !== undefined;
      const record = await (cloud?.find(store, asked, isSignedBy) ?? store.identity(asked));
      if (record === undefined) {
        missing = notFound(asked);
        continue;
      }
      const { auth } = record;
      if (auth.type !== 'sas') throw unauthorized(`The identity authenticates by ${auth.type}, not by SAS tokens.`);
      const keys = keysOf(auth, identitySeal(sealer, store.hubId, refOf(record)));
      const which = signingKey(token, keys, form, CRYPTO);
      if (which === undefined) throw badSignature();
      return identityPrincipal(store, record, {
        grantedBy: keyGrant(which, auth),
        scope: scopeOf(audience),
        expiresAtMs,
        authMethod: authMethod(record.moduleId === undefined ? 'device' : 'module', 'sas'),
      });
    }
    throw missing;
  }

  async function byCertificate(request: LoginRequest, chain: readonly Uint8Array[], info: HubInfo): Promise<Principal> {
    const { claimed } = request;
    const leaf = chain[0];
    if (claimed === undefined || 'policy' in claimed || leaf === undefined) {
      throw unauthorized('A certificate proves a device or a module only.');
    }
    const { store, authorities } = secretsOf(info.hubId);
    const record = await known(store, claimed);
    const { auth } = record;
    let grantedBy: string | undefined;
    if (auth.type === 'certificateAuthority') {
      grantedBy = authorityGrant(authorities.verify(chain, claimed, clock.wallMs()));
    } else if (auth.type === 'selfSigned') {
      grantedBy = thumbprintsOf(leaf)
        .map(thumbprintGrant)
        .find((grant) => isOwnGrantValid(auth, grant));
    }
    if (grantedBy === undefined) throw unauthorized("The client's certificate is not the one that is registered.");
    const scope = `/${pathOf(claimed).join('/')}`.toLowerCase();
    const method = authMethod(record.moduleId === undefined ? 'device' : 'module', 'x509');
    return identityPrincipal(store, record, { grantedBy, scope, authMethod: method });
  }

  return {
    async login(request) {
      const { credential, remoteAddress } = request;
      const info = hubOf(request.hostName);
      const who = `${info.hubId} ${namedIn(request)}`;
      try {
        const principal = await (credential.kind === 'sas'
          ? bySas(request, credential.token, info)
          : byCertificate(request, credential.chain, info));
        brake.passed(remoteAddress, who);
        onPassed?.(request, principal);
        return principal;
      } catch (error) {
        const { httpStatus, name } = iotHubErrorOf(error);
        // A store that is away is nobody's wrong guess.
        if (httpStatus >= 500 || httpStatus === 429) throw error;
        onRefused?.(request, namedIn(request).slice(0, NAME_CHARS), name);
        if (await brake.refused(remoteAddress, who)) throw error;
        throw iotHubError('ThrottlingException', 'Too many log-ins with wrong credentials; try again later.');
      }
    },
    demand(principal, permission, resource) {
      const { permissions, policy, identity, scope } = principal;
      if (!permissions.includes(permission)) throw lacking(policy ?? 'device', permission);
      if (resource === undefined) return;
      const path = segments(resource);
      if (identity !== undefined && !startsWith(path, pathOf(identity))) {
        throw unauthorized(`The credential is for ${refText(identity)} only.`);
      }
      if (!audienceCovers({ host: '', path: segments(scope) }, path)) {
        throw unauthorized(`The credential does not allow access to ${resource.slice(0, 300)}.`);
      }
    },
    policies(hubId): readonly AccessPolicy[] {
      const { known: loaded } = secretsOf(hubId).policies;
      if (loaded === undefined) throw iotHubError('ServiceUnavailable', 'The hub is starting. Try again later.');
      return loaded.map(({ name, permissions, primaryKey, secondaryKey }) => {
        return { name, permissions, primaryKey, secondaryKey };
      });
    },
    async endReason({ hubId, identity, generationId, grantedBy, policy: name, permissions }) {
      const { store, policies, authorities } = secretsOf(hubId);
      let auth;
      if (identity !== undefined) {
        const record = await store.identity(identity);
        if (record?.generationId !== generationId) return 'deleted';
        const device = identity.moduleId === undefined ? record : await store.identity({ deviceId: identity.deviceId });
        if (device?.moduleId !== undefined || device?.status !== 'enabled') return 'disabled';
        auth = record?.auth;
      }
      let holds: boolean;
      if (name !== undefined) {
        const policy = (await policies.all()).find((one) => one.name === name);
        const needed: readonly Permission[] = identity === undefined ? permissions : ['DeviceConnect'];
        holds =
          policy !== undefined &&
          needed.every((permission) => policy.permissions.includes(permission)) &&
          (['primary', 'secondary'] as const).some((which) => policyGrant(policy, which) === grantedBy);
      } else {
        holds = auth !== undefined && isOwnGrantValid(auth, grantedBy);
        if (holds && grantedBy.startsWith('ca:')) holds = authorities.has(grantedBy.slice('ca:'.length));
      }
      return holds ? undefined : 'credential_revoked';
    },
  };
}

function authMethod(scope: 'hub' | 'device' | 'module', type: 'sas' | 'x509'): string {
  return JSON.stringify({ scope, type, issuer: type === 'sas' ? 'iothub' : 'external', acceptingIpFilterRule: null });
}

function isNameOf({ hostName, alternateNames }: HubInfo, asked: string, host: string): boolean {
  return [hostName, asked, ...alternateNames].some((name) => name.toLowerCase() === host);
}

function pathOf({ deviceId, moduleId }: IdentityRef): readonly string[] {
  return moduleId === undefined ? ['devices', deviceId] : ['devices', deviceId, 'modules', moduleId];
}

function segments(path: string): readonly string[] {
  return path.split('/').filter((segment) => segment !== '');
}

function startsWith(path: readonly string[], start: readonly string[]): boolean {
  return start.every((segment, index) => segment === path[index]);
}

function scopeOf({ path }: Audience): string {
  return path.length === 0 ? '' : `/${path.join('/')}`.toLowerCase();
}

/** An audience that is an identity and nothing below it. */
function exactIdentity(audience: Audience): IdentityRef | undefined {
  const ref = audienceIdentity(audience);
  return ref !== undefined && pathOf(ref).length === audience.path.length ? ref : undefined;
}

/** The service compares the id of a token without case (contract/device-auth, section 2). */
function isSameText(a: IdentityRef, b: IdentityRef): boolean {
  return refText(a).toLowerCase() === refText(b).toLowerCase();
}

/** For the brake: whom a client says it is; without that its address must do. */
function namedIn({ claimed, credential, remoteAddress }: LoginRequest): string {
  if (claimed !== undefined) return 'policy' in claimed ? `policy ${claimed.policy}` : refText(claimed);
  const resource = credential.kind === 'sas' ? /[ &]sr=([^&]{1,300})/i.exec(credential.token)?.[1] : undefined;
  return resource ?? remoteAddress;
}

function unauthorized(message: string): Error {
  return iotHubError('IotHubUnauthorizedAccess', message);
}

function badSignature(): Error {
  return unauthorized(
    'The specified SAS token has an invalid signature. It does not match either the primary or secondary key.',
  );
}

function lacking(policy: string, permission: Permission): Error {
  return unauthorized(`Authorization rule '${policy}' does not allow access for '${permission}'.`);
}
