// Certificates that people hand in as PEM text, judged when the text is read.

import { X509Certificate, createPrivateKey } from 'node:crypto';
import { errorText } from '../core/errors.ts';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Every certificate of a PEM text, which may hold other things too. @throws Error of OpenSSL where one is damaged. */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  return Array.from(pem.matchAll(CERTIFICATE), ([text]) => new X509Certificate(text));
}

/** Why a text does not hold certificates of authorities, and nothing but those; undefined when it does. */
export function authoritiesFault(pem: string): string | undefined {
  try {
    const certificates = certificatesIn(pem);
    if (certificates.length === 0) return 'must hold a certificate (-----BEGIN CERTIFICATE-----)';
    const other = certificates.find(({ ca }) => !ca);
    if (other === undefined) return undefined;
    return `must hold authorities only: ${other.subject.replaceAll('\n', ', ')} is none (basicConstraints CA)`;
  } catch (error) {
    return `holds a certificate that cannot be read (${errorText(error)})`;
  }
}

/** Why a server cannot use a certificate, the first of its text, with a key; undefined when it can. */
export function pairFault(certificatePem: string, keyPem: string): string | undefined {
  try {
    const fits = new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem));
    return fits ? undefined : 'does not belong to the key beside it';
  } catch (error) {
    return `cannot be read, or its key cannot (${errorText(error)})`;
  }
}

/**
 * Since when nobody takes the first certificate of a text any more, by the clock here: a day, undefined while it lasts. Of one that
 * is not valid yet nothing is said: a board whose clock is not set would refuse itself what the peer takes.
 */
export function endedOn(pem: string): string | undefined {
  const [certificate] = certificatesIn(pem);
  if (certificate === undefined || Date.now() < certificate.validToDate.getTime()) return undefined;
  return certificate.validToDate.toISOString().slice(0, 10);
}
