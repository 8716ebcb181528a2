// A message as a PUBLISH to Azure IoT Hub: its properties stand in the topic (contract/device-mqtt.md, section 4).

import {
  gatewayMessageId,
  MESSAGE_MAX_BYTES,
  PROPERTY_FIELDPOST_ID,
  SYSTEM_PROPERTIES,
  telemetryTopic,
  TOPIC_MAX_BYTES,
  writePropertyBag,
  type DeviceId,
  type Outgoing,
  type StoredMessage,
} from '#sdk';

/** Tells whose message it is where it travels under the gateway's identity. */
export const PROPERTY_DEVICE_ID = 'device_id';
const PROPERTY_MODULE_ID = 'module_id';

/** The message's own id, where the hub takes no such. */
const PROPERTY_MESSAGE_ID = 'message-id';

/** What the hub takes for a message id (contract/device-semantics.md, section 1). */
const MESSAGE_ID = /^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$/;

export interface TelemetryOptions {
  /** At the hub. */
  readonly deviceId: string;
  /** Whose messages need no property that says whose they are. */
  readonly ownerId: DeviceId;
}

/** Makes the function that encodes messages for one identity. */
export function createTelemetryEncoder({ deviceId, ownerId }: TelemetryOptions): (stored: StoredMessage) => Outgoing {
  return (stored) => {
    const { body } = stored.message;
    const pairs = propertiesOf(stored, ownerId);
    // The hub ends the connection over a message that is too large; nobody would know which one it was.
    let bytes = body.byteLength;
    for (const [name, value] of pairs) bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
    if (bytes > MESSAGE_MAX_BYTES) {
      return { rejected: `The message has ${bytes} bytes with its properties; the hub takes ${MESSAGE_MAX_BYTES}.` };
    }
    const topic = telemetryTopic({ deviceId }, writePropertyBag(pairs));
    if (topic.length > TOPIC_MAX_BYTES) {
      return { rejected: `The properties make a topic of ${topic.length} bytes; MQTT takes ${TOPIC_MAX_BYTES}.` };
    }
    return { topic, payload: body, properties: undefined };
  };
}

/** System properties first, as the SDKs write them. */
function propertiesOf(stored: StoredMessage, ownerId: DeviceId): readonly (readonly [string, string])[] {
  const { message } = stored;
  const { messageId, properties } = hubProperties(stored, ownerId);
  const pairs: [string, string][] = messageId === undefined ? [] : [['$.mid', messageId]];
  for (const { field, topicKey } of SYSTEM_PROPERTIES) {
    const value = message.systemProperties[field];
    if (field !== 'messageId' && value !== undefined) pairs.push([topicKey, value]);
  }
  for (const [name, value] of properties) {
    // `$.` stands before system properties, which a message does not set in this way.
    if (!name.startsWith('$.')) pairs.push([name, value]);
  }
  return pairs;
}

/**
 * What a message is called at the hub, and its application properties there, whatever the protocol: what Fieldpost says of a
 * message wins over what the message says. An id that the hub does not take stands among the properties, and ours in its place.
 */
export function hubProperties(
  { message, messageId, epoch, seq }: StoredMessage,
  ownerId: DeviceId,
): { readonly messageId: string | undefined; readonly properties: ReadonlyMap<string, string> } {
  const ownId = gatewayMessageId(epoch, message.deviceId, seq);
  const id = [messageId, ownId].find((each) => MESSAGE_ID.test(each));
  const properties = new Map(Object.entries(message.properties));
  properties.delete('');
  if (id !== messageId && messageId !== ownId) properties.set(PROPERTY_MESSAGE_ID, messageId);
  if (id === ownId) properties.delete(PROPERTY_FIELDPOST_ID);
  else properties.set(PROPERTY_FIELDPOST_ID, ownId);
  if (message.deviceId !== ownerId) properties.set(PROPERTY_DEVICE_ID, message.deviceId);
  if (message.moduleId !== undefined) properties.set(PROPERTY_MODULE_ID, message.moduleId);
  return { messageId: id, properties };
}
