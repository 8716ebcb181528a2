// Messages of devices and back ends as the hub takes them (contract/device-amqp.md, section 6; contract/service-06, section 2).

import {
  iotHubError,
  isoTime,
  uuidText,
  type AmqpId,
  type AmqpIncoming,
  type CommandMessage,
  type TelemetryMessage,
} from '#sdk';

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function telemetryOf(message: AmqpIncoming, modelId: string | undefined): TelemetryMessage {
  const { annotations } = message;
  const properties = textProperties(message.applicationProperties);
  const {
    'iothub-creation-time-utc': creationTimeUtc,
    'iothub-message-schema': messageSchema,
    'iothub-outputname': outputName,
    ...own
  } = properties;
  const interfaceId = textOf(annotations['iothub-interface-id']);
  return {
    body: bodyOf(message),
    properties: own,
    systemProperties: {
      ...optional('messageId', idText(message.messageId)),
      ...optional('correlationId', idText(message.correlationId)),
      ...optional('userId', message.userId && Buffer.from(message.userId).toString('utf8')),
      ...optional('to', message.to),
      ...optional('absoluteExpiryTime', timeText(message.absoluteExpiryTimeMs)),
      ...optional('contentType', message.contentType),
      ...optional('contentEncoding', message.contentEncoding),
      ...optional('creationTimeUtc', creationTimeUtc),
      ...optional('messageSchema', messageSchema),
      ...optional('componentName', textOf(annotations['dt-subject'])),
      ...optional('diagnosticId', textOf(annotations['Diagnostic-Id'])),
      ...optional('correlationContext', textOf(annotations['Correlation-Context'])),
    },
    ...optional('interfaceId', interfaceId),
    ...optional('outputName', outputName),
    ...optional('modelId', modelId),
  };
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function commandOf(message: AmqpIncoming): CommandMessage & { readonly expiresAtMs?: number } {
  const { 'iothub-ack': ack = 'none', ...properties } = textProperties(message.applicationProperties);
  return {
    body: bodyOf(message),
    properties,
    ack: ackOf(ack),
    ...optional('messageId', idText(message.messageId)),
    ...optional('correlationId', idText(message.correlationId)),
    ...optional('userId', message.userId && Buffer.from(message.userId).toString('utf8')),
    ...optional('contentType', message.contentType),
    ...optional('contentEncoding', message.contentEncoding),
    ...optional('expiresAtMs', message.absoluteExpiryTimeMs),
  };
}

function ackOf(text: string): CommandMessage['ack'] {
  const ack = text.toLowerCase();
  if (ack === 'none' || ack === 'positive' || ack === 'negative' || ack === 'full') return ack;
  throw iotHubError('ArgumentInvalid', `iothub-ack is none, positive, negative or full, not "${text.slice(0, 40)}".`);
}

/** Text of an id: SDKs send what looks like a UUID as one, and expect its text back. */
export function idText(id: AmqpId | undefined): string | undefined {
  if (id === undefined || typeof id === 'string') return id;
  if (typeof id === 'number') return String(id);
  return id.byteLength === 16 ? uuidText(id) : Buffer.from(id).toString('base64');
}

/** Bytes of the body. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function bodyOf({ body }: AmqpIncoming): Uint8Array {
  if (body !== undefined) return body;
  throw iotHubError('ArgumentInvalid', 'The body must be data sections, or an AMQP value that is text or binary.');
}

function textProperties(properties: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const names = Object.keys(properties);
  for (const name of names) {
    if (typeof properties[name] === 'string') continue;
    throw iotHubError('ArgumentInvalid', `The application property "${name.slice(0, 128)}" is no text.`);
  }
  return properties as Readonly<Record<string, string>>;
}

function timeText(ms: number | undefined): string | undefined {
  return ms === undefined || Math.abs(ms) > 8.64e15 ? undefined : isoTime(ms);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function optional<Name extends string>(name: Name, value: string | number | undefined): Partial<Record<Name, never>> {
  return (value === undefined ? {} : { [name]: value }) as Partial<Record<Name, never>>;
}
