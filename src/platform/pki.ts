// The local hub's own authority and server certificates: `pki/` of the data directory. A client is given `ca.pem` once; the
// server's certificates are made anew when they near their end or lack a name, under the same authority.
//
// Keys are written before their certificates and stay for good, so a power cut between leaves no pair that does not fit. They are
// sealed; those that a person, or an earlier release, put there as PEM are sealed when they are read.

import { X509Certificate, createPrivateKey, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { PEM_PATTERN } from '../core/pem.ts';
import { createCertificateMaker, type CertificateMaker } from './certificate-maker.ts';
import { makeDirectory, writeFileAtomic } from './files.ts';
import type { Sealer } from './sealing.ts';

const DAY_MS = 86_400_000;
const SERVER_DAYS = 365;
/** What is left of a server certificate when it is made anew. */
const RENEW_DAYS = SERVER_DAYS / 3;
const AUTHORITY_DAYS = 20 * 365;
/** A certificate with more names than this is of use to nobody. */
const MAX_NAMES = 64;

export interface PkiOptions {
  readonly dataDirectory: string;
  /** Of the same data directory. */
  readonly sealer: Sealer;
  /** What clients call the server by, first; also its common name. */
  readonly hostName: string;
  /** Further DNS names and IP addresses. */
  readonly names: readonly string[];
  /** When this program was built: no certificate begins later, so that clocks which are behind do no harm. */
  readonly builtAtMs: number;
  /** Wall clock; the build time counts where that is later. */
  readonly wallMs: number;
}

export interface ServerPair {
  /** PEM, with the authority behind it. */
  readonly certificate: string;
  readonly key: string;
}

export interface Pki {
  readonly caPath: string;
  /** RSA and ECDSA: what clients know differs. */
  readonly certificates: readonly ServerPair[];
  /** The earlier end of the two. */
  readonly expiresAtMs: number;
  /** Whether any certificate was made by this call. */
  readonly isChanged: boolean;
}

/**
 * Reads the certificates, and makes what is missing, near its end, or without one of the names.
 * @throws GatewayError GW_TLS when the authority's key is gone and is needed, GW_SEALED; Error of the file system.
 */
export async function openPki(options: PkiOptions): Promise<Pki> {
  const folder = join(options.dataDirectory, 'pki');
  await makeDirectory(folder, 0o750);
  const nowMs = Math.max(options.wallMs, options.builtAtMs);
  const caPath = join(folder, 'ca.pem');
  using maker = createCertificateMaker();
  const keys = keyFiles(folder, options.sealer);
  const authority = await openAuthority(folder, caPath, { builtAtMs: options.builtAtMs, nowMs, maker, keys });
  const pairs = [];
  for (const kind of ['rsa', 'ecdsa'] as const) {
    pairs.push(await openServer(kind, folder, authority, { ...options, nowMs, maker, keys }));
  }
  return {
    caPath,
    certificates: pairs.map(({ certificate, key }) => ({ certificate: certificate + authority.certificate, key })),
    expiresAtMs: Math.min(...pairs.map(({ certificate }) => new X509Certificate(certificate).validToDate.getTime())),
    isChanged: pairs.some((pair) => pair.isChanged),
  };
}

interface Authority {
  readonly certificate: string;
  /** Undefined when it was lost: certificates that were made go on. */
  readonly key: string | undefined;
}

interface Making {
  readonly builtAtMs: number;
  readonly nowMs: number;
  readonly maker: CertificateMaker;
  readonly keys: KeyFiles;
}

async function openAuthority(
  folder: string,
  caPath: string,
  { builtAtMs, nowMs, maker, keys }: Making,
): Promise<Authority> {
  const keyPath = join(folder, 'ca.key');
  const [known, knownKey] = [await readText(caPath), await keys.read('ca.key')];
  if (known !== undefined && (knownKey === undefined || fits(known, knownKey))) {
    return { certificate: known, key: knownKey };
  }
  if (known !== undefined) {
    throw new GatewayError(
      'GW_TLS',
      `${caPath} and ${keyPath} do not belong together. Put back the pair from a backup, or remove both for a new authority, ` +
        `which all clients must be given.`,
    );
  }
  const key = knownKey ?? (await maker.generateKey('authority'));
  if (knownKey === undefined) await keys.write('ca.key', key);
  const name = `Fieldpost CA ${randomBytes(4).toString('hex')}`;
  const validity = { fromMs: Math.min(builtAtMs, nowMs), untilMs: nowMs + AUTHORITY_DAYS * DAY_MS };
  const certificate = await maker.issueAuthority(name, key, validity);
  await writeFileAtomic(caPath, certificate, { mode: 0o644 });
  return { certificate, key };
}

async function openServer(
  kind: 'rsa' | 'ecdsa',
  folder: string,
  authority: Authority,
  { hostName, names: others, builtAtMs, nowMs, maker, keys }: PkiOptions & Making,
): Promise<ServerPair & { readonly isChanged: boolean }> {
  const base = kind === 'rsa' ? 'hub' : 'hub-ecdsa';
  const path = join(folder, `${base}.pem`);
  const [known, knownKey] = [await readText(path), await keys.read(`${base}.key`)];
  const names = [...new Set([hostName, ...others])].slice(0, MAX_NAMES);
  if (known !== undefined && knownKey !== undefined && isGood(known, knownKey, authority, names, nowMs)) {
    return { certificate: known, key: knownKey, isChanged: false };
  }
  if (authority.key === undefined) {
    throw new GatewayError(
      'GW_TLS',
      `${join(folder, 'ca.key')} is gone, and a new certificate of the hub is needed. Put it back from a backup, or remove ` +
        `${join(folder, 'ca.pem')} for a new authority, which all clients must be given.`,
    );
  }
  const key = knownKey ?? (await maker.generateKey(kind));
  if (knownKey === undefined) await keys.write(`${base}.key`, key);
  const validity = { fromMs: Math.min(builtAtMs, nowMs), untilMs: nowMs + SERVER_DAYS * DAY_MS };
  const request = { kind, key, commonName: hostName, names, validity };
  const certificate = await maker.issueServer(request, { certificate: authority.certificate, key: authority.key });
  await writeFileAtomic(path, certificate, { mode: 0o644 });
  return { certificate, key, isChanged: true };
}

/** Its own key and authority, all names, and far from its end. */
function isGood(pem: string, key: string, authority: Authority, names: readonly string[], nowMs: number): boolean {
  if (!fits(pem, key)) return false;
  const certificate = new X509Certificate(pem);
  if (!certificate.verify(new X509Certificate(authority.certificate).publicKey)) return false;
  if (certificate.validToDate.getTime() - nowMs < RENEW_DAYS * DAY_MS) return false;
  return names.every((name) => {
    const found = isIP(name) === 0 ? certificate.checkHost(name, { subject: 'never' }) : certificate.checkIP(name);
    return found !== undefined;
  });
}

/** False also for what cannot be read as PEM: a file that was damaged is made anew. */
function fits(certificate: string, key: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

interface KeyFiles {
  /** PEM; undefined when there is no such file. @throws GatewayError GW_SEALED. */
  read(name: string): Promise<string | undefined>;
  write(name: string, key: string): Promise<void>;
}

function keyFiles(folder: string, sealer: Sealer): KeyFiles {
  const contextOf = (name: string): string => `pki/${name}`;
  const write = (name: string, key: string): Promise<void> =>
    writeFileAtomic(join(folder, name), `${sealer.seal(key, contextOf(name))}\n`, { mode: 0o600 });
  return {
    write,
    async read(name) {
      const text = await readText(join(folder, name));
      if (text === undefined) return undefined;
      if (PEM_PATTERN.test(text)) {
        await write(name, text);
        return text;
      }
      try {
        return sealer.unseal(text.trim(), contextOf(name));
      } catch (cause) {
        throw new GatewayError(
          'GW_SEALED',
          `${errorText(cause)} Without it, remove ${folder} for a new authority, which all clients must be given.`,
          { cause },
        );
      }
    },
  };
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
