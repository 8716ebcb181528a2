// Telemetry as HTTPS carries it: one message with its properties in headers, or a batch of them in JSON
// (contract/device-http.md, section 3).

import { z } from 'zod';
import { iotHubError, type SystemProperties, type TelemetryMessage } from '#sdk';
import { readJson } from './json-body.ts';

export const BATCH_TYPE = 'application/vnd.microsoft.iothub.json';

const APPLICATION_PREFIX = 'iothub-app-';

/** Headers, and keys in a batch, by their names in lower case. */
const SYSTEM_HEADERS: Readonly<Record<string, keyof SystemProperties>> = {
  'iothub-messageid': 'messageId',
  'iothub-correlationid': 'correlationId',
  'iothub-userid': 'userId',
  'iothub-to': 'to',
  'iothub-expiry': 'absoluteExpiryTime',
  'iothub-contenttype': 'contentType',
  'iothub-contentencoding': 'contentEncoding',
  'iothub-messageschema': 'messageSchema',
  'iothub-creationtimeutc': 'creationTimeUtc',
  'dt-subject': 'componentName',
};
const INTERFACE_HEADER = 'iothub-interface-id';

/** @param rawHeaders names and values in turn, as the client wrote them: Node folds the case of the names elsewhere. */
export function readMessage(rawHeaders: readonly string[], body: Uint8Array): TelemetryMessage {
  const pairs = rawHeaders.flatMap((name, index) =>
    index % 2 === 0 ? [[name, rawHeaders[index + 1] ?? ''] as const] : [],
  );
  return { ...readProperties(pairs), body };
}

const batchSchema = z
  .array(
    z.object({
      body: z.string({ error: 'must be a text' }),
      base64Encoded: z.boolean({ error: 'must be true or false' }).nullish(),
      properties: z.record(z.string(), z.string({ error: 'must be a text' })).nullish(),
    }),
    { error: 'must be a list of messages' },
  )
  .min(1, { error: 'has no message' });

/** @throws GatewayError GW_IOTHUB ArgumentNull, IotHubFormatError, ArgumentInvalid. */
export function readBatch(bytes: Uint8Array): readonly TelemetryMessage[] {
  return readJson(batchSchema, bytes).map(({ body, base64Encoded, properties }, index) => ({
    ...readProperties(Object.entries(properties ?? {})),
    body: base64Encoded === false ? Buffer.from(body, 'utf8') : decode(body, index),
  }));
}

function decode(text: string, index: number): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  // Decoding skips what it does not know, so the length tells whether there was any.
  const digits = text.replace(/=+$/, '').length;
  if (Math.floor((digits * 3) / 4) === bytes.byteLength && /^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) return bytes;
  throw iotHubError('ArgumentInvalid', `${index}.body: is not base64; say "base64Encoded": false of a text.`);
}

function readProperties(pairs: readonly (readonly [name: string, value: string])[]): Omit<TelemetryMessage, 'body'> {
  const properties: Record<string, string> = {};
  const systemProperties: Partial<Record<keyof SystemProperties, string>> = {};
  let interfaceId: string | undefined;
  for (const [name, value] of pairs) {
    const lower = name.toLowerCase();
    const field = SYSTEM_HEADERS[lower];
    if (field !== undefined) systemProperties[field] = value;
    else if (lower === INTERFACE_HEADER) interfaceId = value;
    else if (lower.startsWith(APPLICATION_PREFIX)) {
      Object.defineProperty(properties, name.slice(APPLICATION_PREFIX.length), {
        value,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
  }
  return { properties, systemProperties, ...(interfaceId !== undefined && { interfaceId }) };
}
