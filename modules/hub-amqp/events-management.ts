// `$management` of the Event Hubs-compatible endpoint: what there is to read (contract/service-07, section 3).

import {
  amqpInt,
  amqpLong,
  amqpTimestamp,
  encodeAmqpMessage,
  iotHubError,
  iotHubErrorOf,
  type AmqpDelivery,
  type AmqpIncoming,
  type AmqpMap,
  type Hub,
  type HubInfo,
} from '#sdk';
import type { LinkQueue } from './link-queue.ts';
import { partitionNumber } from './events-address.ts';

/** Answers one request. Does not reject. */
export async function answerManagement(
  delivery: AmqpDelivery,
  replies: LinkQueue | undefined,
  hub: Hub,
  info: HubInfo,
): Promise<void> {
  const { message } = delivery;
  delivery.accept();
  if (message === undefined) return;
  let value: AmqpMap = { map: {} };
  let outcome: { readonly code: number; readonly text: string; readonly condition?: string } = {
    code: 200,
    text: 'OK',
  };
  try {
    value = await read(message, hub, info);
  } catch (error) {
    const { httpStatus, message: text, amqpCondition } = iotHubErrorOf(error);
    outcome = { code: httpStatus, text, condition: amqpCondition };
  }
  replies?.send(
    encodeAmqpMessage({
      properties: { correlationId: message.messageId },
      applicationProperties: {
        'status-code': amqpInt(outcome.code),
        'status-description': outcome.text,
        ...(outcome.condition === undefined ? {} : { 'error-condition': outcome.condition }),
      },
      value,
    }),
  );
}

async function read(message: AmqpIncoming, hub: Hub, info: HubInfo): Promise<AmqpMap> {
  const { operation, name, type, partition } = message.applicationProperties;
  const { hubId, eventHubName } = info;
  if (operation !== 'READ') throw iotHubError('InvalidOperation', 'The operation of $management is READ.');
  if (typeof name !== 'string' || name.toLowerCase() !== eventHubName.toLowerCase()) {
    throw iotHubError('AmqpAddressNotFound', `There is no event hub "${String(name).slice(0, 64)}".`);
  }
  const { partitions, createdAtMs } = hub.events.info(hubId);
  if (type === 'com.microsoft:eventhub') {
    return {
      map: {
        name: eventHubName,
        type,
        created_at: amqpTimestamp(createdAtMs),
        partition_count: amqpInt(partitions),
        partition_ids: Array.from({ length: partitions }, (_, index) => String(index)),
      },
    };
  }
  if (type !== 'com.microsoft:partition') {
    throw iotHubError('ArgumentInvalid', `The type "${String(type).slice(0, 64)}" is not known.`);
  }
  const number = partitionNumber(String(partition), partitions);
  const found = await hub.events.partition(hubId, number);
  return {
    map: {
      name: eventHubName,
      type,
      partition: String(number),
      begin_sequence_number: amqpLong(found.beginSequenceNumber),
      last_enqueued_sequence_number: amqpLong(found.lastSequenceNumber),
      last_enqueued_offset: String(found.lastOffset),
      last_enqueued_time_utc: amqpTimestamp(found.lastEnqueuedTimeMs),
      is_partition_empty: found.isEmpty,
    },
  };
}
