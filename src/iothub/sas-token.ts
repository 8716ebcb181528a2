// Shared access signatures: read in all the dialects of the SDKs, checked, and made (contract/device-auth.md, section 4;
// contract/service-01-auth.md, sections 3 and 6.4).

import type { IdentityRef, SymmetricKey } from '../core/hub/identity.ts';
import { iotHubError } from './errors.ts';

/** SDKs assume that clocks differ by this much (contract/service-01, section 3). */
const SAS_SKEW_MS = 300_000;

/** No SDK comes near; more is not worth a look. */
const MAX_TOKEN_CHARS = 8192;

/** What the platform lends: this folder is free of it. */
export interface SasCrypto {
  readonly hmacSha256: (key: Uint8Array, text: string) => Uint8Array;
  /** In constant time. */
  readonly sameBytes: (a: Uint8Array, b: Uint8Array) => boolean;
}

/** How a key signs: IoT Hub's SDKs take the bytes that its base64 stands for, those of Event Hubs its text. */
export type KeyForm = 'base64' | 'text' | 'either';

export interface SasToken {
  /** `sr` exactly as it was sent: the signature covers this text. */
  readonly resource: string;
  /** `sig`, decoded: 32 bytes. */
  readonly signature: Uint8Array;
  /** `se` exactly as it was sent. */
  readonly expiry: string;
  /** `se` as a wall clock in ms. */
  readonly expiresAtMs: number;
  /** `skn`, decoded. The SDK for C puts the device id here, some clients nothing: it counts only where it names a policy. */
  readonly policy?: string;
}

/**
 * Reads `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, fields in any order, their names in any case.
 * @throws GW_IOTHUB IotHubUnauthorized.
 */
export function parseSasToken(text: string): SasToken {
  const fields = fieldsOf(text);
  const resource = fields.get('sr');
  const signature = decoded(fields.get('sig'));
  const expiry = fields.get('se');
  if (resource === undefined || resource === '' || signature === undefined || expiry === undefined) {
    throw malformed('needs the fields sr, sig and se');
  }
  if (!/^\d{1,12}$/.test(expiry)) throw malformed('has an expiry (se) that is no number of seconds since 1970');
  const bytes = Buffer.from(signature, 'base64');
  if (bytes.byteLength !== 32) throw malformed('has a signature (sig) that is not the base64 of 32 bytes');
  const policy = decoded(fields.get('skn')) ?? '';
  return {
    resource,
    signature: bytes,
    expiry,
    expiresAtMs: Number(expiry) * 1000,
    ...(policy === '' ? {} : { policy }),
  };
}

function fieldsOf(text: string): ReadonlyMap<string, string> {
  const [, list] = /^SharedAccessSignature ([^ ]*)$/i.exec(text.length > MAX_TOKEN_CHARS ? '' : text.trim()) ?? [];
  if (list === undefined) throw malformed('does not begin with "SharedAccessSignature " or is too long');
  const fields = new Map<string, string>();
  for (const field of list.split('&')) {
    const equals = field.indexOf('=');
    const name = field.slice(0, Math.max(equals, 0)).toLowerCase();
    if (fields.has(name)) throw malformed(`has the field ${name} twice`);
    if (name !== '') fields.set(name, field.slice(equals + 1));
  }
  return fields;
}

/** Percent-decoded; a `+` stays one, as it is a digit of base64. Undefined for what cannot be decoded. */
function decoded(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function malformed(why: string): Error {
  return iotHubError('IotHubUnauthorized', `The shared access signature ${why}.`);
}

/**
 * The last moment at which a token lets anybody in, and at which a session that it opened ends: its expiry and the tolerance for
 * clocks that differ (contract/device-auth, section 4).
 */
export function sasEndMs(token: SasToken): number {
  return token.expiresAtMs + SAS_SKEW_MS;
}

/** The key of the two that signed a token, else undefined. */
export function signingKey(
  token: SasToken,
  keys: SymmetricKey,
  form: KeyForm,
  crypto: SasCrypto,
): 'primary' | 'secondary' | undefined {
  if (signed(token, keys.primaryKey, form, crypto)) return 'primary';
  return signed(token, keys.secondaryKey, form, crypto) ? 'secondary' : undefined;
}

function signed(token: SasToken, key: string, form: KeyForm, crypto: SasCrypto): boolean {
  if (key === '') return false;
  const text = `${token.resource}\n${token.expiry}`;
  return keyBytes(key, form).some((bytes) => crypto.sameBytes(crypto.hmacSha256(bytes, text), token.signature));
}

function keyBytes(key: string, form: KeyForm): readonly Uint8Array[] {
  const forms: Uint8Array[] = [];
  if (form !== 'text') forms.push(Buffer.from(key, 'base64'));
  if (form !== 'base64') forms.push(Buffer.from(key, 'utf8'));
  return forms;
}

export interface SasTokenFields {
  /** Host and path without a scheme: `hub.local/devices/d1`. */
  readonly resource: string;
  readonly key: string;
  /** Default base64. */
  readonly keyForm?: 'base64' | 'text';
  /** Wall clock in ms; rounded up to a second. */
  readonly expiresAtMs: number;
  /** Name of the policy whose key it is. */
  readonly policy?: string;
}

/** A token in the form that the SDK for Node writes. */
export function makeSasToken(fields: SasTokenFields, crypto: Pick<SasCrypto, 'hmacSha256'>): string {
  const resource = encodeURIComponent(fields.resource);
  const expiry = String(Math.ceil(fields.expiresAtMs / 1000));
  const key = Buffer.from(fields.key, fields.keyForm === 'text' ? 'utf8' : 'base64');
  const signature = Buffer.from(crypto.hmacSha256(key, `${resource}\n${expiry}`)).toString('base64');
  const policy = fields.policy === undefined ? '' : `&skn=${encodeURIComponent(fields.policy)}`;
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}${policy}&se=${expiry}`;
}

/** What a token is for. */
export interface Audience {
  /** Lower case, without scheme and port. */
  readonly host: string;
  /** Path segments as written; compare them without case. */
  readonly path: readonly string[];
}

/** An audience as text: a token's resource that was decoded, or the `name` of a CBS request. */
export function parseAudience(text: string): Audience {
  const [authority = '', ...path] = text.replace(/^[a-z][a-z0-9+.-]*:\/\//i, '').split('/');
  const host = authority.replace(/:\d*$/, '').toLowerCase();
  return { host, path: path.filter((segment) => segment !== '') };
}

/**
 * All that a token's resource can mean, the likeliest first: decoded once; as it stands, as the SDK for C does not encode;
 * decoded twice, as the SDK for C# encodes ids twice.
 */
export function audiencesOf(resource: string): readonly Audience[] {
  const once = decoded(resource);
  const twice = decoded(once);
  const texts = new Set([once, resource, twice].filter((text) => text !== undefined));
  return [...texts].map(parseAudience);
}

/** Whether an audience covers a path below its host: by whole segments from the left, without case. */
export function audienceCovers(audience: Audience, path: readonly string[]): boolean {
  return (
    audience.path.length <= path.length &&
    audience.path.every((segment, i) => segment.toLowerCase() === path[i]?.toLowerCase())
  );
}

/** The device or module that an audience is of, whatever stands behind it. */
export function audienceIdentity(audience: Audience): IdentityRef | undefined {
  const [devices, deviceId, modules, moduleId] = audience.path;
  if (devices?.toLowerCase() !== 'devices' || deviceId === undefined) return undefined;
  if (modules?.toLowerCase() !== 'modules' || moduleId === undefined) return { deviceId };
  return { deviceId, moduleId };
}
