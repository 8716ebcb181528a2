// Certificate authorities of devices: data of a hub, at most LIMITS.hub_authorities of them. A device that authenticates by one
// proves a certificate whose chain ends there and whose common name is its id (contract/device-auth.md, section 5).

import { X509Certificate } from 'node:crypto';
import type { IdentityRef } from '../core/hub/identity.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from '../iothub/errors.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import { AUTHORITIES, refText } from './keys.ts';

export interface DeviceAuthority {
  /** SHA-256, upper-case hexadecimal. */
  readonly thumbprint: string;
  readonly subject: string;
  /** Wall clock in ms. */
  readonly notAfterMs: number;
  readonly pem: string;
}

export interface Authorities {
  list(): Promise<readonly DeviceAuthority[]>;
  /** Durable when it resolves. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
  add(pem: string): Promise<DeviceAuthority>;
  /** @throws GatewayError GW_IOTHUB CertificateNotFound. */
  remove(thumbprint: string): Promise<void>;
  has(thumbprint: string): Promise<boolean>;
  /**
   * The authority that a chain of certificates, the leaf first, leads to.
   * @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess.
   */
  verify(chain: readonly Uint8Array[], ref: IdentityRef, wallMs: number): Promise<string>;
}

interface Loaded {
  readonly authority: DeviceAuthority;
  readonly certificate: X509Certificate;
}

/** Certificates between the leaf and the authority. */
const CHAIN_LENGTH = 8;

export function createAuthorities(store: HubStore, onRemoved: () => Promise<void>): Authorities {
  let loaded: Promise<Map<string, Loaded>> | undefined;

  async function load(): Promise<Map<string, Loaded>> {
    const found = new Map<string, Loaded>();
    for await (const [, value] of store.entries(AUTHORITIES)) {
      const certificate = new X509Certificate((value as { readonly pem: string }).pem);
      found.set(thumbprintOf(certificate), { certificate, authority: authorityOf(certificate) });
    }
    return found;
  }

  function all(): Promise<Map<string, Loaded>> {
    loaded ??= load().catch((error: unknown) => {
      loaded = undefined;
      throw error;
    });
    return loaded;
  }

  return {
    async list() {
      return [...(await all()).values()].map(({ authority }) => authority);
    },
    async has(thumbprint) {
      return (await all()).has(thumbprint);
    },
    async add(pem) {
      const certificate = parsed(pem);
      if (!certificate.ca) {
        throw iotHubError('ArgumentInvalid', 'The certificate is not that of an authority (basicConstraints CA).');
      }
      const known = await all();
      const authority = authorityOf(certificate);
      if (!known.has(authority.thumbprint) && known.size >= LIMITS.hub_authorities) {
        throw iotHubError('ArgumentInvalid', `A hub has at most ${LIMITS.hub_authorities} certificate authorities.`);
      }
      await store.write({ changes: [changeOf(`${AUTHORITIES}${authority.thumbprint}`, { pem: authority.pem })] });
      known.set(authority.thumbprint, { certificate, authority });
      return authority;
    },
    async remove(thumbprint) {
      const known = await all();
      if (!known.has(thumbprint)) throw iotHubError('CertificateNotFound', 'There is no such certificate authority.');
      await store.write({ changes: [{ key: `${AUTHORITIES}${thumbprint}` }] });
      known.delete(thumbprint);
      await onRemoved();
    },
    async verify(chain, ref, wallMs) {
      const known = [...(await all()).values()].map(({ certificate }) => certificate);
      const certificates = chain.slice(0, CHAIN_LENGTH).map(parsed);
      const leaf = certificates[0];
      if (leaf === undefined) throw refused('there is none');
      if (commonName(leaf) !== refText(ref)) throw refused('its common name is not the id of the identity');
      return pathTo(known, certificates, wallMs);
    },
  };
}

/** Follows issuers from the leaf until one is a known authority. @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess. */
function pathTo(known: readonly X509Certificate[], chain: readonly X509Certificate[], wallMs: number): string {
  let current = chain[0] as X509Certificate;
  for (let step = 0; step < CHAIN_LENGTH; step += 1) {
    checkDates(current, wallMs);
    const issued = (issuer: X509Certificate): boolean =>
      issuer.ca && current.checkIssued(issuer) && current.verify(issuer.publicKey);
    const authority = known.find(issued);
    if (authority !== undefined) {
      checkDates(authority, wallMs);
      return thumbprintOf(authority);
    }
    const next = chain.find((candidate) => candidate !== current && issued(candidate));
    if (next === undefined) break;
    current = next;
  }
  throw refused('its chain leads to no certificate authority of this hub');
}

function checkDates(certificate: X509Certificate, wallMs: number): void {
  if (wallMs < Date.parse(certificate.validFrom)) throw refused('it, or its issuer, is not valid yet');
  if (wallMs > Date.parse(certificate.validTo)) throw refused('it, or its issuer, has expired');
}

function commonName(certificate: X509Certificate): string | undefined {
  const { CN } = certificate.toLegacyObject().subject as { readonly CN?: string | readonly string[] };
  return typeof CN === 'string' ? CN : undefined;
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
function parsed(certificate: string | Uint8Array): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw iotHubError('ArgumentInvalid', 'What was given is no X.509 certificate.', {
      cause: String(cause).slice(0, 100),
    });
  }
}

function refused(why: string): Error {
  return iotHubError('IotHubUnauthorizedAccess', `The client's certificate is refused: ${why}.`);
}

function authorityOf(certificate: X509Certificate): DeviceAuthority {
  return {
    thumbprint: thumbprintOf(certificate),
    subject: certificate.subject,
    notAfterMs: Date.parse(certificate.validTo),
    pem: certificate.toString(),
  };
}

function thumbprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '');
}

/** SHA-1 and SHA-256 of a certificate, upper-case hexadecimal. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function thumbprintsOf(der: Uint8Array): readonly [sha1: string, sha256: string] {
  const certificate = parsed(der);
  return [certificate.fingerprint.replaceAll(':', ''), thumbprintOf(certificate)];
}
