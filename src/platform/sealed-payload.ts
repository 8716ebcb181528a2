// Payloads sealed for their readers: JWE (RFC 7516) in the general JSON serialization, whatever the number of recipients, with
// a content key of its own for each message. Signed, the JWS (RFC 7515, compact) is what is sealed.

import {
  calculateJwkThumbprint,
  CompactSign,
  compactVerify,
  decodeProtectedHeader,
  exportJWK,
  GeneralEncrypt,
  generalDecrypt,
} from 'jose';
import { GatewayError } from '../core/errors.ts';
import type { PayloadKey } from './payload-keys.ts';

/** RFC 7515, 9.2.2. */
export const SEALED_CONTENT_TYPE = 'application/jose+json';
/** RFC 7515, 4.1.10: what is sealed is a JWS in compact form. */
const SIGNED_CONTENT = 'JOSE';

/** What is sealed, with what its reader should be able to trust as much as the body. */
export interface Payload {
  readonly body: Uint8Array;
  readonly deviceId?: string | undefined;
  readonly messageId?: string | undefined;
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
}

export interface OpenedPayload extends Payload {
  /** `unchecked`: there is a signature, and no signer was given to check it by. */
  readonly signature: 'none' | 'unchecked' | 'verified';
}

export interface PayloadSealer {
  /** UTF-8 of the JSON; new for each call. */
  seal(payload: Payload): Promise<Uint8Array>;
}

/** @param recipients one or more. @param signer none: not signed. */
export async function createPayloadSealer(
  recipients: readonly PayloadKey[],
  signer: PayloadKey | undefined,
): Promise<PayloadSealer> {
  const named = await Promise.all(recipients.map(withKid));
  const signing = signer === undefined ? undefined : await withKid(signer);
  return {
    async seal(payload) {
      const about = headerOf(payload);
      const content =
        signing === undefined
          ? payload.body
          : Buffer.from(
              await new CompactSign(payload.body)
                .setProtectedHeader({ alg: signing.alg, kid: signing.kid, ...about })
                .sign(signing.key),
            );
      const sealing = new GeneralEncrypt(content).setProtectedHeader({
        enc: 'A256GCM',
        typ: 'JOSE+JSON',
        ...(signing === undefined ? about : { cty: SIGNED_CONTENT }),
      });
      for (const { key, alg, kid } of named) sealing.addRecipient(key).setUnprotectedHeader({ alg, kid });
      return Buffer.from(JSON.stringify(await sealing.encrypt()));
    },
  };
}

/**
 * Opens a sealed payload with the first key that fits.
 * @param signers public keys, one of which must have signed it; none: the signature is not checked.
 * @throws GatewayError GW_UNSEAL.
 */
export async function openPayload(
  text: string,
  keys: readonly PayloadKey[],
  signers: readonly PayloadKey[],
): Promise<OpenedPayload> {
  const { plaintext, protectedHeader } = await decrypt(text, keys);
  if (protectedHeader?.cty !== SIGNED_CONTENT) {
    if (signers.length > 0)
      throw new GatewayError('GW_UNSEAL', 'The message is not signed, and a signer was asked for.');
    return { ...payloadOf(plaintext, protectedHeader ?? {}), signature: 'none' };
  }
  const jws = Buffer.from(plaintext).toString('latin1');
  if (signers.length === 0) return { ...contentOf(jws), signature: 'unchecked' };
  for (const { key, alg } of signers) {
    try {
      const { payload, protectedHeader: header } = await compactVerify(jws, key, { algorithms: [alg] });
      return { ...payloadOf(payload, header), signature: 'verified' };
    } catch {
      // Perhaps another one signed it.
    }
  }
  throw new GatewayError('GW_UNSEAL', 'The signature is not by the signer asked for, or the message was changed.');
}

async function decrypt(text: string, keys: readonly PayloadKey[]): ReturnType<typeof generalDecrypt> {
  let jwe: Parameters<typeof generalDecrypt>[0];
  try {
    jwe = JSON.parse(text) as typeof jwe;
  } catch (cause) {
    throw new GatewayError('GW_UNSEAL', 'This is no sealed message: it is not JSON.', { cause });
  }
  if (typeof jwe !== 'object' || jwe === null || typeof jwe.ciphertext !== 'string' || !Array.isArray(jwe.recipients)) {
    throw new GatewayError('GW_UNSEAL', 'This is no sealed message: it is not a JWE in the general JSON form.');
  }
  let cause: unknown;
  for (const { key, alg } of keys) {
    try {
      return await generalDecrypt(jwe, key, {
        keyManagementAlgorithms: [alg],
        contentEncryptionAlgorithms: ['A256GCM'],
      });
    } catch (error) {
      cause = error;
    }
  }
  const kids = jwe.recipients.map((recipient) => recipient?.header?.kid).filter((kid) => typeof kid === 'string');
  const readers = kids.length === 0 ? '' : ` It is for ${kids.join(', ').slice(0, 300)}.`;
  throw new GatewayError('GW_UNSEAL', `The message is for other keys, or was changed.${readers}`, { cause });
}

/** What stands beside the body, integrity-protected with it. Names with `_` are our own (RFC 7515, 4.3). */
function headerOf({ deviceId, messageId, contentType, contentEncoding }: Payload): Record<string, string> {
  return {
    ...(contentType !== undefined && { cty: contentType }),
    ...(contentEncoding !== undefined && { content_encoding: contentEncoding }),
    ...(deviceId !== undefined && { device_id: deviceId }),
    ...(messageId !== undefined && { message_id: messageId }),
  };
}

function payloadOf(body: Uint8Array, header: Readonly<Record<string, unknown>>): Payload {
  const text = (name: string): string | undefined => {
    const value = header[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    body,
    deviceId: text('device_id'),
    messageId: text('message_id'),
    contentType: text('cty'),
    contentEncoding: text('content_encoding'),
  };
}

/** Of a JWS that nobody checks. */
function contentOf(jws: string): Payload {
  try {
    return payloadOf(Buffer.from(jws.split('.')[1] ?? '', 'base64url'), { ...decodeProtectedHeader(jws) });
  } catch (cause) {
    throw new GatewayError('GW_UNSEAL', 'What was sealed says that it is signed, and is not.', { cause });
  }
}

/** RFC 7638 names a key that has no name. */
async function withKid(key: PayloadKey): Promise<PayloadKey & { readonly kid: string }> {
  return { ...key, kid: key.kid ?? (await calculateJwkThumbprint(await exportJWK(key.key))) };
}
