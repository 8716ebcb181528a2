// Certificates made here: the one file that knows `@peculiar/x509`. It costs some 20 MB, so x509-process.ts alone loads it.

import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import 'reflect-metadata';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

cryptoProvider.set(webcrypto);

/** `rsa`: 2048 bits. `ecdsa`: P-256. */
export type KeyKind = 'rsa' | 'ecdsa' | 'authority';

const ALGORITHMS = {
  rsa: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
  // RSA, as some clients know nothing else, and of a length that outlives its ten and more years (NIST SP 800-57, table 2).
  authority: {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 3072,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
  ecdsa: { name: 'ECDSA', hash: 'SHA-256', namedCurve: 'P-256' },
} as const;

/** A fresh private key: PKCS #8 as PEM. */
export async function generateKey(kind: KeyKind): Promise<string> {
  const { privateKey } = await webcrypto.subtle.generateKey(ALGORITHMS[kind], true, ['sign', 'verify']);
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ format: 'pem', type: 'pkcs8' })
    .toString();
}

export interface Validity {
  /** Wall clock in ms. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/** A certificate that signs itself and others (RFC 5280, section 4.2.1.9). @returns PEM. */
export async function issueAuthority(commonName: string, key: string, validity: Validity): Promise<string> {
  const keys = await importPair(key, 'authority');
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: subject(commonName),
    ...dates(validity),
    signingAlgorithm: ALGORITHMS.authority,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign + KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

export interface ServerRequest {
  readonly kind: 'rsa' | 'ecdsa';
  /** PEM. */
  readonly key: string;
  readonly commonName: string;
  /** DNS names and IP addresses. */
  readonly names: readonly string[];
  readonly validity: Validity;
}

/** A server's certificate (RFC 5280; names as RFC 6125 wants them). @returns PEM. */
export async function issueServer(
  request: ServerRequest,
  authority: { readonly certificate: string; readonly key: string },
): Promise<string> {
  const { kind, key, commonName, names, validity } = request;
  const issuer = new X509Certificate(authority.certificate);
  const signer = await importPair(authority.key, 'authority');
  const own = await importPair(key, kind);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: subject(commonName),
    issuer: issuer.subject,
    ...dates(validity),
    publicKey: own.publicKey,
    signingKey: signer.privateKey,
    signingAlgorithm: ALGORITHMS.authority,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(keyUsage(kind), true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
      ),
      await SubjectKeyIdentifierExtension.create(own.publicKey),
      await AuthorityKeyIdentifierExtension.create(signer.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

/** The RSA key exchange without Diffie-Hellman is not offered, yet old clients look for its bit. */
function keyUsage(kind: 'rsa' | 'ecdsa'): KeyUsageFlags {
  return kind === 'rsa'
    ? KeyUsageFlags.digitalSignature + KeyUsageFlags.keyEncipherment
    : KeyUsageFlags.digitalSignature;
}

/** A positive number of 16 bytes (RFC 5280, section 4.1.2.2: at most 20). */
function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  return `4${Buffer.from(bytes).toString('hex').slice(1)}`;
}

function subject(commonName: string) {
  // X.520's upper bound of a common name.
  return [{ CN: [commonName.slice(0, 64)] }];
}

function dates({ fromMs, untilMs }: Validity): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(fromMs), notAfter: new Date(untilMs) };
}

async function importPair(pem: string, kind: KeyKind): Promise<webcrypto.CryptoKeyPair> {
  const algorithm = ALGORITHMS[kind];
  const pkcs8 = createPrivateKey(pem).export({ format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(pem).export({ format: 'der', type: 'spki' });
  return {
    privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']),
    publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  };
}
