// Messages of the hub as bytes of AMQP: commands, inputs, events, feedback (contract/device-amqp.md, sections 6 to 8;
// contract/service-06, section 4; contract/service-07, section 5).

import {
  amqpLong,
  amqpTimestamp,
  amqpUbyte,
  amqpUlong,
  commandTarget,
  encodeAmqpMessage,
  SYSTEM_PROPERTIES,
  type AmqpProperties,
  type AmqpValue,
  type DeliveredCommand,
  type FeedbackBatch,
  type HubEvent,
  type HubInfo,
  type IdentityRef,
  type PartitionInfo,
  type SystemProperties,
  type ToSession,
} from '#sdk';

export function encodeCommand(command: DeliveredCommand, to: IdentityRef): Buffer {
  const { message } = command;
  return encodeAmqpMessage({
    annotations: {
      'iothub-enqueuedtime': amqpTimestamp(command.enqueuedTimeMs),
      'iothub-deliverycount': amqpUbyte(command.deliveryCount),
      'x-opt-sequence-number': amqpUlong(command.sequenceNumber),
      'x-opt-lock-token': command.lockToken,
    },
    properties: {
      messageId: message.messageId,
      userId: bytesOf(message.userId),
      to: commandTarget(to),
      correlationId: message.correlationId,
      contentType: message.contentType,
      contentEncoding: message.contentEncoding,
      absoluteExpiryTimeMs: command.expiresAtMs,
    },
    applicationProperties: {
      ...message.properties,
      ...(message.ack === 'none' ? {} : { 'iothub-ack': message.ack }),
    },
    data: message.body,
  });
}

export function encodeInput(item: Extract<ToSession, { readonly kind: 'input' }>): Buffer {
  const { from, properties, systemProperties } = item;
  return encodeAmqpMessage({
    annotations: { 'x-opt-input-name': item.input },
    properties: propertiesOf(systemProperties),
    applicationProperties: {
      ...properties,
      'iothub-connection-device-id': from.deviceId,
      ...(from.moduleId === undefined ? {} : { 'iothub-connection-module-id': from.moduleId }),
    },
    data: item.body,
  });
}

const AS_ANNOTATION = SYSTEM_PROPERTIES.filter(({ isAmqpProperty }) => isAmqpProperty !== true);

/** @param latest told with every event to those who asked for it. */
export function encodeEvent(event: HubEvent, latest: PartitionInfo | undefined, wallMs: number): Buffer {
  const { systemProperties } = event;
  const annotations: Record<string, AmqpValue> = {
    'x-opt-sequence-number': amqpLong(event.sequenceNumber),
    'x-opt-offset': String(event.offset),
    'x-opt-enqueued-time': amqpTimestamp(event.enqueuedTimeMs),
    'x-opt-partition-key': event.partitionKey,
    ...event.stamps,
    'iothub-enqueuedtime': amqpTimestamp(event.enqueuedTimeMs),
  };
  for (const { field, name } of AS_ANNOTATION) {
    const value = systemProperties[field];
    if (value !== undefined) annotations[name] = value;
  }
  return encodeAmqpMessage({
    ...(latest === undefined ? {} : { deliveryAnnotations: latestOf(latest, wallMs) }),
    annotations,
    properties: propertiesOf(systemProperties),
    applicationProperties: event.properties,
    data: event.body,
  });
}

function latestOf(latest: PartitionInfo, wallMs: number): Readonly<Record<string, AmqpValue>> {
  return {
    last_enqueued_sequence_number: amqpLong(latest.lastSequenceNumber),
    last_enqueued_offset: String(latest.lastOffset),
    last_enqueued_time_utc: amqpTimestamp(latest.lastEnqueuedTimeMs),
    runtime_info_retrieval_time_utc: amqpTimestamp(wallMs),
  };
}

/** The strict client, in C#, looks at user id, content type and enqueued time. */
export function encodeFeedback({ records, enqueuedTimeMs }: FeedbackBatch, { hostName }: HubInfo): Buffer {
  return encodeAmqpMessage({
    annotations: { 'iothub-enqueuedtime': amqpTimestamp(enqueuedTimeMs) },
    properties: {
      userId: Buffer.from(hostName.split('.')[0] ?? hostName),
      contentType: 'application/vnd.microsoft.iothub.feedback.json',
    },
    data: Buffer.from(JSON.stringify(records)),
  });
}

function propertiesOf(properties: SystemProperties): AmqpProperties {
  const { absoluteExpiryTime } = properties;
  const expiryMs = absoluteExpiryTime === undefined ? Number.NaN : Date.parse(absoluteExpiryTime);
  return {
    messageId: properties.messageId,
    userId: bytesOf(properties.userId),
    to: properties.to,
    correlationId: properties.correlationId,
    contentType: properties.contentType,
    contentEncoding: properties.contentEncoding,
    absoluteExpiryTimeMs: Number.isFinite(expiryMs) ? expiryMs : undefined,
  };
}

function bytesOf(text: string | undefined): Uint8Array | undefined {
  return text === undefined ? undefined : Buffer.from(text);
}
