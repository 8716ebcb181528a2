// An identity as it is kept, as callers see it, and how what a caller writes becomes the one from the other
// (contract/service-03-registry.md, sections 2 and 3).

import type {
  Authentication,
  AuthenticationInput,
  DeviceIdentity,
  IdentityRef,
  ModuleIdentity,
  SymmetricKey,
  Thumbprints,
} from '../core/hub/identity.ts';
import { isoTime } from '../core/time.ts';
import { iotHubError } from '../iothub/errors.ts';
import type { Sealer } from '../platform/sealing.ts';
import { identityKey } from './keys.ts';

/** Each credential has a number that changes with it, so that whoever was let in by an earlier one is told apart. */
export interface AuthenticationRecord {
  readonly type: Authentication['type'];
  /** Sealed JSON of a SymmetricKey. */
  readonly keys?: string;
  readonly keyNumbers?: readonly [primary: number, secondary: number];
  readonly thumbprints?: Thumbprints;
}

interface RecordFields {
  readonly deviceId: string;
  readonly generationId: string;
  readonly etag: string;
  readonly auth: AuthenticationRecord;
  /** Wall clock in ms; absent: never. */
  readonly connectionChangedMs?: number;
  readonly activityMs?: number;
  readonly modelId?: string;
}

export interface DeviceRecord extends RecordFields {
  readonly moduleId?: undefined;
  readonly status: 'enabled' | 'disabled';
  readonly statusReason: string | null;
  readonly statusChangedMs?: number;
  readonly iotEdge: boolean;
  readonly deviceScope?: string;
  readonly parentScopes: readonly string[];
  readonly isGatewayDevice?: boolean;
  /** Its key is that which the gateway has for it at the cloud behind the hub. */
  readonly isCloudDevice?: boolean;
  /** Commands that wait, and how many there have been. */
  readonly commandCount: number;
  readonly commandsSent: number;
}

export interface ModuleRecord extends RecordFields {
  readonly moduleId: string;
  readonly managedBy: string | null;
}

export type IdentityRecord = DeviceRecord | ModuleRecord;

/** What is known of an identity beside its record: it has a session. */
export interface Presence {
  readonly isConnected: boolean;
  readonly connectionChangedMs?: number | undefined;
  readonly activityMs?: number | undefined;
}

const NEVER = '0001-01-01T00:00:00Z';

export function timeText(wallMs: number | undefined): string {
  return wallMs === undefined ? NEVER : isoTime(wallMs);
}

/** Whether it is a device of the cloud behind the hub. */
export function isCloudDevice(record: IdentityRecord): boolean {
  return record.moduleId === undefined && record.isCloudDevice === true;
}

export function refOf(record: IdentityRecord): IdentityRef {
  const { deviceId, moduleId } = record;
  return moduleId === undefined ? { deviceId } : { deviceId, moduleId };
}

/** Seals and opens what belongs to one identity, and to no other. */
export interface IdentitySeal {
  seal(secret: string): string;
  /** @throws GatewayError GW_SEALED. */
  unseal(sealed: string): string;
}

export function identitySeal(sealer: Sealer, hubId: string, ref: IdentityRef): IdentitySeal {
  const context = `hub/${hubId}/${identityKey(ref)}`;
  return {
    seal: (secret) => sealer.seal(secret, context),
    unseal: (sealed) => sealer.unseal(sealed, context),
  };
}

function shared(record: IdentityRecord, presence: Presence, sealer: IdentitySeal) {
  return {
    deviceId: record.deviceId,
    generationId: record.generationId,
    etag: record.etag,
    authentication: authenticationOf(record.auth, sealer),
    ...presenceFields(record, presence),
  };
}

/** What of an identity changes without its record. */
export function presenceFields(record: IdentityRecord, presence: Presence) {
  return {
    connectionState: presence.isConnected ? ('Connected' as const) : ('Disconnected' as const),
    connectionStateUpdatedTime: timeText(presence.connectionChangedMs ?? record.connectionChangedMs),
    lastActivityTime: timeText(presence.activityMs ?? record.activityMs),
  };
}

export function deviceView(record: DeviceRecord, presence: Presence, sealer: IdentitySeal): DeviceIdentity {
  return {
    ...shared(record, presence, sealer),
    status: record.status,
    statusReason: record.statusReason,
    statusUpdatedTime: timeText(record.statusChangedMs),
    cloudToDeviceMessageCount: record.commandCount,
    capabilities: { iotEdge: record.iotEdge },
    ...(record.deviceScope !== undefined && { deviceScope: record.deviceScope }),
    parentScopes: record.parentScopes,
    ...(record.isGatewayDevice === true && { isGatewayDevice: true }),
  };
}

export function moduleView(record: ModuleRecord, presence: Presence, sealer: IdentitySeal): ModuleIdentity {
  return {
    ...shared(record, presence, sealer),
    moduleId: record.moduleId,
    managedBy: record.managedBy,
    cloudToDeviceMessageCount: 0,
  };
}

function authenticationOf(auth: AuthenticationRecord, sealer: IdentitySeal): Authentication {
  if (auth.type === 'sas') return { type: 'sas', symmetricKey: keysOf(auth, sealer) };
  if (auth.type === 'selfSigned') return { type: 'selfSigned', x509Thumbprint: auth.thumbprints ?? NO_THUMBPRINTS };
  return { type: auth.type };
}

const NO_THUMBPRINTS: Thumbprints = { primaryThumbprint: null, secondaryThumbprint: null };
/** Of an identity that has none, or whose keys cannot be opened. */
export const NO_KEYS: SymmetricKey = { primaryKey: '', secondaryKey: '' };

export function keysOf(auth: AuthenticationRecord, sealer: IdentitySeal): SymmetricKey {
  return auth.keys === undefined ? NO_KEYS : (JSON.parse(sealer.unseal(auth.keys)) as SymmetricKey);
}

/**
 * What a caller's authentication makes of the one before: missing and empty keys stay, or are drawn.
 * @throws GatewayError GW_IOTHUB ArgumentInvalid.
 */
export function nextAuthentication(
  input: AuthenticationInput | undefined,
  before: AuthenticationRecord | undefined,
  { sealer, newKey }: { readonly sealer: IdentitySeal; readonly newKey: () => string },
): AuthenticationRecord {
  const type = input?.type ?? impliedType(input) ?? before?.type ?? 'sas';
  if (type === 'sas') {
    const held = heldKeys(input, before, sealer);
    const pick = (name: keyof SymmetricKey): string => {
      const given = input?.symmetricKey?.[name];
      if (given === undefined || given === null || given === '') return held[name] === '' ? newKey() : held[name];
      return checkedKey(given);
    };
    const keys = { primaryKey: pick('primaryKey'), secondaryKey: pick('secondaryKey') };
    const [primary, secondary] = before?.keyNumbers ?? [0, 0];
    const isSame = keys.primaryKey === held.primaryKey && keys.secondaryKey === held.secondaryKey;
    if (isSame && before !== undefined) return before;
    return {
      type,
      keys: sealer.seal(JSON.stringify(keys)),
      keyNumbers: [
        keys.primaryKey === held.primaryKey ? primary : primary + 1,
        keys.secondaryKey === held.secondaryKey ? secondary : secondary + 1,
      ],
    };
  }
  // The numbers go on when symmetric keys come back.
  const numbers = before?.keyNumbers === undefined ? {} : { keyNumbers: before.keyNumbers };
  if (type !== 'selfSigned') return { type, ...numbers };
  const held = before?.thumbprints ?? NO_THUMBPRINTS;
  const pick = (name: keyof Thumbprints): string | null => {
    const given = input?.x509Thumbprint?.[name];
    return given === undefined ? held[name] : checkedThumbprint(given);
  };
  const thumbprints = {
    primaryThumbprint: pick('primaryThumbprint'),
    secondaryThumbprint: pick('secondaryThumbprint'),
  };
  if (thumbprints.primaryThumbprint === null && thumbprints.secondaryThumbprint === null) {
    throw iotHubError('ArgumentInvalid', 'An identity of type selfSigned needs a thumbprint.');
  }
  return { type, ...numbers, thumbprints };
}

/** Where both keys are given, those before need not be readable: that is how an identity gets keys again. */
function heldKeys(
  input: AuthenticationInput | undefined,
  before: AuthenticationRecord | undefined,
  sealer: IdentitySeal,
): SymmetricKey {
  if (before?.type !== 'sas') return NO_KEYS;
  try {
    return keysOf(before, sealer);
  } catch (error) {
    const { primaryKey, secondaryKey } = input?.symmetricKey ?? {};
    if (!primaryKey || !secondaryKey) throw error;
    return NO_KEYS;
  }
}

function impliedType(input: AuthenticationInput | undefined): Authentication['type'] | undefined {
  const { primaryThumbprint, secondaryThumbprint } = input?.x509Thumbprint ?? {};
  if (primaryThumbprint || secondaryThumbprint) return 'selfSigned';
  return input?.symmetricKey?.primaryKey || input?.symmetricKey?.secondaryKey ? 'sas' : undefined;
}

/** Base64 of 16 to 64 bytes. */
export function checkedKey(text: string): string {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length >= 16 && bytes.length <= 64 && bytes.toString('base64') === text) return text;
  throw iotHubError('ArgumentInvalid', 'A symmetric key is the base64 of 16 to 64 bytes.');
}

function checkedThumbprint(text: string | null): string | null {
  if (text === null || text === '') return null;
  const plain = text.replaceAll(/[:\s]/g, '').toUpperCase();
  if (/^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(plain)) return plain;
  throw iotHubError('ArgumentInvalid', 'A thumbprint has 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.');
}

/** Names a credential of an identity in `Principal.grantedBy`. */
export function keyGrant(which: 'primary' | 'secondary', auth: AuthenticationRecord): string {
  return `key:${which}:${auth.keyNumbers?.[which === 'primary' ? 0 : 1] ?? 0}`;
}

export function thumbprintGrant(thumbprint: string): string {
  return `thumbprint:${thumbprint}`;
}

export function authorityGrant(thumbprint: string): string {
  return `ca:${thumbprint}`;
}

/** Whether an identity's own credential still lets in; grants of policies and authorities are not the identity's. */
export function isOwnGrantValid(auth: AuthenticationRecord, grantedBy: string): boolean {
  switch (auth.type) {
    case 'sas':
      return grantedBy === keyGrant('primary', auth) || grantedBy === keyGrant('secondary', auth);
    case 'selfSigned': {
      const { primaryThumbprint, secondaryThumbprint } = auth.thumbprints ?? NO_THUMBPRINTS;
      return [primaryThumbprint, secondaryThumbprint].some(
        (thumbprint) => thumbprint !== null && thumbprintGrant(thumbprint) === grantedBy,
      );
    }
    case 'certificateAuthority':
      return grantedBy.startsWith('ca:');
    case 'none':
      return false;
  }
}
