// Application and system properties of a message as MQTT 5 properties of its PUBLISH, and the sizes that MQTT sets.

import {
  gatewayMessageId,
  PROPERTY_FIELDPOST_ID,
  SYSTEM_PROPERTIES,
  type MqttPublishProperties,
  type StoredMessage,
} from '#sdk';

/** MQTT 5, 1.5.4: a UTF-8 string and binary data have at most this many bytes. */
const STRING_MAX_BYTES = 65_535;

/** Written as an MQTT property of its own, not as a user property. */
const NATIVE: ReadonlySet<string> = new Set(['messageId', 'correlationId', 'contentType']);
const AS_USER_PROPERTY = SYSTEM_PROPERTIES.filter((row) => !NATIVE.has(row.field));

/**
 * Content type and correlation id become the MQTT properties made for them; the message id and all else become user
 * properties by Azure IoT Hub's names, which win over application properties of the same name.
 */
export function publishProperties(stored: StoredMessage): MqttPublishProperties {
  const { message, messageId } = stored;
  const { contentType, correlationId } = message.systemProperties;
  const userProperties: Record<string, string> = { ...message.properties, 'message-id': messageId };
  for (const { field, name } of AS_USER_PROPERTY) {
    const value = message.systemProperties[field];
    if (value !== undefined) userProperties[name] = value;
  }
  const ownId = gatewayMessageId(stored.epoch, message.deviceId, stored.seq);
  if (messageId !== ownId) userProperties[PROPERTY_FIELDPOST_ID] = ownId;
  return {
    ...(contentType !== undefined && { contentType }),
    ...(correlationId !== undefined && { correlationData: Buffer.from(correlationId) }),
    userProperties,
  };
}

/** Why no MQTT server could take these properties; undefined when nothing is wrong. */
export function propertiesFault(properties: MqttPublishProperties): string | undefined {
  const { contentType, correlationData, userProperties = {} } = properties;
  if (contentType !== undefined && !isMqttString(contentType)) return 'The content type is not an MQTT string.';
  if ((correlationData?.byteLength ?? 0) > STRING_MAX_BYTES) return 'The correlation id is too long for MQTT.';
  for (const name in userProperties) {
    if (!isMqttString(name) || !isMqttString(userProperties[name] ?? '')) {
      return `The property "${name.slice(0, 40)}" is not an MQTT string (at most ${STRING_MAX_BYTES} bytes, no NUL).`;
    }
  }
  return undefined;
}

/** MQTT 5, 1.5.4: well-formed UTF-8 without U+0000. A lone surrogate cannot be written and would end the connection. */
function isMqttString(text: string): boolean {
  if (text.includes('\0') || !text.isWellFormed()) return false;
  return text.length * 3 <= STRING_MAX_BYTES || Buffer.byteLength(text) <= STRING_MAX_BYTES;
}

/** Bytes of a PUBLISH packet with QoS 1 (MQTT 5, 3.3), to compare with the server's Maximum Packet Size. */
export function publishPacketBytes(
  topic: string,
  payloadBytes: number,
  properties: MqttPublishProperties | undefined,
): number {
  let remaining = 2 + Buffer.byteLength(topic) + 2 + payloadBytes;
  if (properties !== undefined) {
    let bytes = 0;
    if (properties.contentType !== undefined) bytes += 3 + Buffer.byteLength(properties.contentType);
    if (properties.correlationData !== undefined) bytes += 3 + properties.correlationData.byteLength;
    for (const name in properties.userProperties) {
      bytes += 5 + Buffer.byteLength(name) + Buffer.byteLength(properties.userProperties[name] ?? '');
    }
    remaining += variableIntegerBytes(bytes) + bytes;
  }
  return 1 + variableIntegerBytes(remaining) + remaining;
}

/** MQTT 5, 1.5.5. */
function variableIntegerBytes(value: number): number {
  if (value < 128) return 1;
  if (value < 16_384) return 2;
  return value < 2_097_152 ? 3 : 4;
}
