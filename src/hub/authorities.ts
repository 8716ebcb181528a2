// Certificate authorities of devices: configuration of a hub, at most LIMITS.hub_authorities of them. A device that authenticates
// by one proves a certificate whose chain ends there and whose common name is its id (contract/device-auth.md, section 5).

import { X509Certificate } from 'node:crypto';
import type { IdentityRef } from '../core/hub/identity.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from '../iothub/errors.ts';
import { certificatesIn } from '../platform/certificates.ts';
import { refText } from './keys.ts';

export interface Authorities {
  /**
   * Other ones from now on: PEM, one or more in each text. Resolves when the sessions by those that are gone have ended.
   * @throws Error of OpenSSL; nothing is changed then.
   */
  set(pems: readonly string[]): Promise<void>;
  /** @param thumbprint SHA-256, upper-case hexadecimal. */
  has(thumbprint: string): boolean;
  /**
   * The authority that a chain of certificates, the leaf first, leads to.
   * @throws GatewayError GW_IOTHUB IotHubUnauthorizedAccess, ArgumentInvalid.
   */
  verify(chain: readonly Uint8Array[], ref: IdentityRef, wallMs: number): string;
}

/** Certificates between the leaf and the authority. */
const CHAIN_LENGTH = 8;

/** @throws Error of OpenSSL. */
export function createAuthorities(pems: readonly string[], onChanged: () => Promise<void>): Authorities {
  let known = byThumbprint(pems);

  return {
    async set(next) {
      known = byThumbprint(next);
      await onChanged();
    },
    has: (thumbprint) => known.has(thumbprint),
    verify(chain, ref, wallMs) {
      const certificates = chain.slice(0, CHAIN_LENGTH).map(parsed);
      const leaf = certificates[0];
      if (leaf === undefined) throw refused('there is none');
      if (commonName(leaf) !== refText(ref)) throw refused('its common name is not the id of the identity');
      return pathTo([...known.values()], certificates, wallMs);
    },
  };
}

function byThumbprint(pems: readonly string[]): ReadonlyMap<string, X509Certificate> {
  const certificates = pems.flatMap((pem) => certificatesIn(pem)).slice(0, LIMITS.hub_authorities);
  return new Map(certificates.map((certificate) => [thumbprintOf(certificate), certificate]));
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
function parsed(certificate: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch {
    throw iotHubError('ArgumentInvalid', 'What was given is no X.509 certificate.');
  }
}

function refused(why: string): Error {
  return iotHubError('IotHubUnauthorizedAccess', `The client's certificate is refused: ${why}.`);
}

function thumbprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '');
}

/** SHA-1 and SHA-256 of a certificate, upper-case hexadecimal. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function thumbprintsOf(der: Uint8Array): readonly [sha1: string, sha256: string] {
  const certificate = parsed(der);
  return [certificate.fingerprint.replaceAll(':', ''), thumbprintOf(certificate)];
}
