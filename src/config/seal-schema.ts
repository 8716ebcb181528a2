// `seal:` of an endpoint: whom its bodies are sealed for, and who signs them.

import { z } from 'zod';
import { type KeyUse, readPayloadKey } from '../platform/payload-keys.ts';

const RECIPIENTS_MAX = 8;

/** Text of a key, faults told in the words of `readPayloadKey`. */
function keySchema(use: KeyUse): z.ZodString {
  const faultOf = (text: string): string | undefined => {
    const read = readPayloadKey(text, use);
    return 'fault' in read ? read.fault : undefined;
  };
  return z.string().refine((text) => faultOf(text) === undefined, { error: ({ input }) => faultOf(String(input)) });
}

export const sealSchema = z
  .strictObject({
    recipients: z
      .array(keySchema('seal'))
      .min(1)
      .max(RECIPIENTS_MAX)
      .meta({
        title: 'Recipients',
        description:
          'Public keys of those who may read: EC, X25519 or RSA, in PEM (or a certificate) or as JWK, by `!file PATH`. To change a key have both for a while.',
        examples: [['!file /etc/fieldpost/back-end.pem']],
      }),
    sign: keySchema('sign').optional().meta({
      title: 'Signing key',
      description:
        'Private key (PEM or JWK: EC, Ed25519 or RSA) that signs each body, so that readers know that the gateway sent it. Default: not signed.',
      secret: true,
    }),
  })
  .meta({
    title: 'Seal',
    description:
      'Encrypts each body (JWE, RFC 7516) for the back end, so that no broker or gateway on the way can read it. Properties and topics stay readable.',
  });

export type SealConfig = z.output<typeof sealSchema>;
