// A message as Azure IoT Hub takes it over AMQP (contract/device-amqp.md, section 6).

import {
  encodeAmqpMessage,
  MESSAGE_MAX_BYTES,
  SYSTEM_PROPERTIES,
  type AmqpOutgoing,
  type DeviceId,
  type StoredMessage,
} from '#sdk';
import { hubProperties } from './telemetry.ts';

/** Those that are annotations of the message. */
const ANNOTATIONS: ReadonlySet<string> = new Set(['componentName', 'diagnosticId', 'correlationContext']);
const OTHERS = SYSTEM_PROPERTIES.filter(({ isAmqpProperty }) => isAmqpProperty !== true);
/** AMQP 1.0, 1.6.22: a symbol is of ASCII characters. */
const SYMBOL = /^[\x20-\x7e]*$/;

/** @param ownerId under whose identity it travels, on this side. */
export function encodeAmqpTelemetry(stored: StoredMessage, ownerId: DeviceId): AmqpOutgoing {
  const { body, systemProperties } = stored.message;
  const { absoluteExpiryTime, contentEncoding, contentType, correlationId, to, userId } = systemProperties;
  if (!SYMBOL.test(contentType ?? '') || !SYMBOL.test(contentEncoding ?? '')) {
    return { rejected: 'The content type or encoding is not of ASCII characters, as AMQP wants it.' };
  }
  const { messageId, properties } = hubProperties(stored, ownerId);
  const applicationProperties: Record<string, string> = Object.fromEntries(properties);
  const annotations: Record<string, string> = {};
  for (const { field, name } of OTHERS) {
    const value = systemProperties[field];
    if (value !== undefined) (ANNOTATIONS.has(field) ? annotations : applicationProperties)[name] = value;
  }
  const expiresAtMs = Date.parse(absoluteExpiryTime ?? '');
  let bytes = body.byteLength;
  for (const name in applicationProperties) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(applicationProperties[name] ?? '');
  }
  for (const { field } of SYSTEM_PROPERTIES) bytes += Buffer.byteLength(systemProperties[field] ?? '');
  if (bytes > MESSAGE_MAX_BYTES) {
    return { rejected: `The message has ${bytes} bytes with its properties; the hub takes ${MESSAGE_MAX_BYTES}.` };
  }
  return {
    bytes: encodeAmqpMessage({
      ...(Object.keys(annotations).length > 0 && { annotations }),
      properties: {
        messageId,
        correlationId,
        userId: userId === undefined ? undefined : Buffer.from(userId),
        to,
        contentType,
        contentEncoding,
        absoluteExpiryTimeMs: Number.isNaN(expiresAtMs) ? undefined : expiresAtMs,
      },
      applicationProperties,
      data: body,
    }),
  };
}
