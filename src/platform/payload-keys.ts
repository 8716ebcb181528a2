// Keys that seal, open, sign and verify payloads, read from their texts: PEM (a key or a certificate) or JWK (RFC 7517).

import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';

/** `seal` and `verify` take public keys, `open` and `sign` private ones. */
export type KeyUse = 'seal' | 'open' | 'sign' | 'verify';

export interface PayloadKey {
  readonly key: KeyObject;
  /** RFC 7518: how the content key is wrapped, or how is signed. */
  readonly alg: string;
  /** The `kid` of a JWK. */
  readonly kid?: string;
}

const RSA_MIN_BITS = 2048;

const WRAPPING: Readonly<Record<string, string>> = {
  'ec prime256v1': 'ECDH-ES+A256KW',
  'ec secp384r1': 'ECDH-ES+A256KW',
  'ec secp521r1': 'ECDH-ES+A256KW',
  x25519: 'ECDH-ES+A256KW',
  rsa: 'RSA-OAEP-256',
};
const SIGNING: Readonly<Record<string, string>> = {
  'ec prime256v1': 'ES256',
  'ec secp384r1': 'ES384',
  'ec secp521r1': 'ES512',
  ed25519: 'EdDSA',
  rsa: 'PS256',
};

/** The key, or what is wrong with it, as the rest of a sentence that begins with its place. */
export function readPayloadKey(text: string, use: KeyUse): PayloadKey | { readonly fault: string } {
  const wantsPublic = use === 'seal' || use === 'verify';
  const jwk = jwkOf(text);
  if (wantsPublic && (jwk === undefined ? /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text) : 'd' in jwk)) {
    return { fault: 'is a private key; give the public one alone (openssl pkey -in KEY.pem -pubout)' };
  }
  // Of several keys the first would count, and whoever has put the next one behind it would not know.
  const keys = text.match(wantsPublic ? /-----BEGIN [A-Z ]*PUBLIC KEY-----/g : /-----BEGIN [A-Z ]*PRIVATE KEY-----/g);
  if (keys !== null && keys.length > 1) return { fault: `holds ${keys.length} keys; give each a file of its own` };
  const key = keyOf(jwk ?? text, wantsPublic);
  if (key === undefined) {
    const kinds = wantsPublic ? 'PUBLIC KEY or CERTIFICATE' : 'PRIVATE KEY, without a passphrase';
    const which = wantsPublic ? 'public' : 'private';
    return { fault: `must be a ${which} key in PEM (-----BEGIN ${kinds}) or a JWK; use \`!file PATH\` to read it` };
  }
  const { asymmetricKeyType: type = '', asymmetricKeyDetails: details } = key;
  const kind = type === 'ec' ? `ec ${details?.namedCurve ?? ''}` : type;
  const isForSealing = use === 'seal' || use === 'open';
  const alg = (isForSealing ? WRAPPING : SIGNING)[kind];
  if (alg === undefined) {
    const list = isForSealing ? 'EC (P-256, P-384, P-521), X25519 or RSA' : 'EC (P-256, P-384, P-521), Ed25519 or RSA';
    return { fault: `is a key of the kind ${kind}; it must be one of ${list}` };
  }
  if (type === 'rsa' && (details?.modulusLength ?? 0) < RSA_MIN_BITS) {
    return { fault: `is an RSA key of ${details?.modulusLength ?? 0} bits; it must have ${RSA_MIN_BITS} or more` };
  }
  return { key, alg, ...(typeof jwk?.['kid'] === 'string' && { kid: jwk['kid'] }) };
}

function jwkOf(text: string): JsonWebKey | undefined {
  if (!text.trimStart().startsWith('{')) return undefined;
  try {
    return JSON.parse(text) as JsonWebKey;
  } catch {
    return undefined;
  }
}

function keyOf(source: string | JsonWebKey, isPublic: boolean): KeyObject | undefined {
  const create = isPublic ? createPublicKey : createPrivateKey;
  try {
    return typeof source === 'string' ? create(source) : create({ key: source, format: 'jwk' });
  } catch {
    return undefined;
  }
}
