// A stored message as AMQP 1.0 (part 3, 3.2): what has a place of its own among the standard properties stands there, all else
// by Azure IoT Hub's names among the message annotations, as in its events, and among the application properties, which more
// receivers read.

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

const WITHOUT_PLACE = SYSTEM_PROPERTIES.filter(({ isAmqpProperty }) => isAmqpProperty !== true);

/**
 * Not the standard property: brokers compare that with who has logged in, the gateway, and RabbitMQ ends the session over
 * another one (AMQP 1.0, 3.2.4).
 */
const USER_ID_PROPERTY = 'user-id';

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
    to,
    correlationId,
    contentType,
    contentEncoding,
    absoluteExpiryTimeMs,
    creationTimeMs: timeOf(creationTimeUtc),
  };
  const applicationProperties: Record<string, string> = { ...message.properties };
  let annotations: Record<string, string> | undefined;
  for (const { field, name } of WITHOUT_PLACE) {
    const value = systemProperties[field];
    if (value === undefined) continue;
    applicationProperties[name] = value;
    (annotations ??= {})[name] = value;
  }
  if (userId !== undefined) applicationProperties[USER_ID_PROPERTY] = userId;
  if (absoluteExpiryTime !== undefined && absoluteExpiryTimeMs === undefined) {
    applicationProperties['absolute-expiry-time'] = absoluteExpiryTime;
  }
  applicationProperties[DEVICE_PROPERTY] = message.deviceId;
  const ownId = gatewayMessageId(stored.epoch, message.deviceId, stored.seq);
  if (messageId !== ownId) applicationProperties[PROPERTY_FIELDPOST_ID] = ownId;
  return {
    bytes: encodeAmqpMessage({
      durable: true,
      ...(annotations !== undefined && { annotations }),
      properties,
      applicationProperties,
      data: message.body,
    }),
  };
}

function timeOf(text: string | undefined): number | undefined {
  const ms = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}
