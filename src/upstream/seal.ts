// Bodies sealed for the back end, so that brokers and gateways on the way carry what they cannot read.

import { PROPERTY_FIELDPOST_SEALED, type StoredMessage } from '../core/message.ts';
import { type KeyUse, type PayloadKey, readPayloadKey } from '../platform/payload-keys.ts';
import type { SealMessage } from './prepare.ts';

/** Keys as text. */
export interface SealKeys {
  readonly recipients: readonly string[];
  readonly sign?: string | undefined;
}

/** Takes keys that the check of the configuration took. */
export async function createSeal({ recipients, sign }: SealKeys): Promise<SealMessage> {
  // Loaded by those who seal alone.
  const { createPayloadSealer, SEALED_CONTENT_TYPE } = await import('../platform/sealed-payload.ts');
  const signer = sign === undefined ? undefined : keyOf(sign, 'sign');
  const sealer = await createPayloadSealer(
    recipients.map((text) => keyOf(text, 'seal')),
    signer,
  );
  return async (stored): Promise<StoredMessage> => {
    // The stamps are places in a body that nobody will see.
    const { stamps: _stamps, ...message } = stored.message;
    const { deviceId, systemProperties } = message;
    const { contentType, contentEncoding } = systemProperties;
    const about = { deviceId, messageId: stored.messageId, contentType, contentEncoding };
    return {
      ...stored,
      message: {
        ...message,
        body: await sealer.seal({ body: message.body, ...about }),
        properties: { ...message.properties, [PROPERTY_FIELDPOST_SEALED]: 'jwe' },
        systemProperties: { ...systemProperties, contentType: SEALED_CONTENT_TYPE, contentEncoding: 'utf-8' },
      },
    };
  };
}

function keyOf(text: string, use: KeyUse): PayloadKey {
  const read = readPayloadKey(text, use);
  if ('fault' in read) throw new Error(`A key of the seal ${read.fault}.`);
  return read;
}
