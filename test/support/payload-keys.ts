// Key pairs for sealed payloads, as PEM texts.

import { generateKeyPairSync } from 'node:crypto';

export interface KeyTexts {
  readonly publicKey: string;
  readonly privateKey: string;
}

export const KEY_KINDS = ['P-256', 'P-384', 'P-521', 'x25519', 'ed25519', 'rsa'] as const;

export function keyTexts(kind: (typeof KEY_KINDS)[number] = 'P-256', rsaBits = 2048): KeyTexts {
  const publicKeyEncoding = { type: 'spki', format: 'pem' } as const;
  const privateKeyEncoding = { type: 'pkcs8', format: 'pem' } as const;
  switch (kind) {
    case 'x25519':
      return generateKeyPairSync('x25519', { publicKeyEncoding, privateKeyEncoding });
    case 'ed25519':
      return generateKeyPairSync('ed25519', { publicKeyEncoding, privateKeyEncoding });
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: rsaBits, publicKeyEncoding, privateKeyEncoding });
    default:
      return generateKeyPairSync('ec', { namedCurve: kind, publicKeyEncoding, privateKeyEncoding });
  }
}
