// A stored message as AMQP 1.0 (part 3, 3.2): what has a place of its own among the standard properties stands there, all else
// among the application properties by Azure IoT Hub's names.

import {
  type AmqpOutgoing,
  type AmqpProperties,
  encodeAmqpMessage,
  gatewayMessageId,
  PROPERTY_FIELDPOST_ID,
  SYSTEM_PROPERTIES,
  type StoredMessage,
} from '#sdk';

/** Application property that names the leaf device, so that receivers can select by it. */
export const DEVICE_PROPERTY = 'device_id';

const AS_APPLICATION_PROPERTY = SYSTEM_PROPERTIES.filter(({ isAmqpProperty }) => isAmqpProperty !== true);

/** AMQP 1.0, 1.6.22: a symbol is of ASCII characters. */
const SYMBOL_PATTERN = /^[\x20-\x7e]*$/;

export function encodeMessage(stored: StoredMessage): AmqpOutgoing {
  const { message, messageId } = stored;
  const { systemProperties } = message;
  const { absoluteExpiryTime, contentEncoding, contentType, correlationId, creationTimeUtc, to, userId } =
    systemProperties;
  if (!SYMBOL_PATTERN.test(contentType ?? '') || !SYMBOL_PATTERN.test(contentEncoding ?? '')) {
    return { rejected: 'The content type or encoding is not of ASCII characters, as AMQP wants it.' };
  }
  const absoluteExpiryTimeMs = timeOf(absoluteExpiryTime);
  const properties: AmqpProperties = {
    messageId,
    userId: userId === undefined ? undefined : Buffer.from(userId),
    to,
    correlationId,
    contentType,
    contentEncoding,
    absoluteExpiryTimeMs,
    creationTimeMs: timeOf(creationTimeUtc),
  };
  const applicationProperties: Record<string, string> = { ...message.properties };
  for (const { field, name } of AS_APPLICATION_PROPERTY) {
    const value = systemProperties[field];
    if (value !== undefined) applicationProperties[name] = value;
  }
  if (absoluteExpiryTime !== undefined && absoluteExpiryTimeMs === undefined) {
    applicationProperties['absolute-expiry-time'] = absoluteExpiryTime;
  }
  applicationProperties[DEVICE_PROPERTY] = message.deviceId;
  const ownId = gatewayMessageId(stored.epoch, message.deviceId, stored.seq);
  if (messageId !== ownId) applicationProperties[PROPERTY_FIELDPOST_ID] = ownId;
  return {
    bytes: encodeAmqpMessage({ durable: true, properties, applicationProperties, data: message.body }),
  };
}

function timeOf(text: string | undefined): number | undefined {
  const ms = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}
