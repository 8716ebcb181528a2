// The built-in events endpoint: the outbox's stream of a hub, in the words of Event Hubs (contract/service-07).

import { isGatewayError } from '../core/errors.ts';
import type { Events, HubEvent } from '../core/hub/messaging.ts';
import { PROPERTY_FIELDPOST_ID, type Message, type StoredMessage } from '../core/message.ts';
import type { Outbox, OutboxStream, StreamMessage } from '../core/outbox.ts';
import { iotHubError } from '../iothub/errors.ts';
import { eventsStream } from '../iothub/events-stream.ts';
import { GATEWAY_STAMPS, STAMP_NAMES } from '../iothub/stamps.ts';
import { restamp } from '../pipeline/restamp.ts';

/** When the last event came to a partition that never had one, as the service tells it. */
const NEVER_MS = Date.parse('0001-01-01T00:00:00Z');

export interface EventsOptions {
  readonly outbox: Pick<Outbox, 'stream' | 'clockOffset'>;
  /** Of an adapter's device, as far as it is known without a wait: its messages carry none themselves. */
  readonly generationOf?: (hubId: string, deviceId: string) => string | undefined;
}

export function createEvents({ outbox, generationOf }: EventsOptions): Events {
  function streamOf(hubId: string): OutboxStream {
    return told(() => outbox.stream(eventsStream(hubId)), `There is no hub ${hubId} here, or it has no events.`);
  }

  function eventOf(hubId: string, { sequence, enqueuedMs, stored }: StreamMessage): HubEvent {
    const { message } = stored;
    return {
      sequenceNumber: sequence,
      offset: stored.offset,
      enqueuedTimeMs: enqueuedMs,
      partitionKey: message.deviceId,
      ...(message.hub === undefined ? ofAdapter(stored, (bootId) => outbox.clockOffset(bootId)) : ofSession(message)),
      stamps: stampsOf(message, generationOf?.(hubId, message.deviceId)),
    };
  }

  return {
    info(hubId) {
      const { partitions, createdAtMs } = streamOf(hubId);
      return { partitions, createdAtMs };
    },

    async partition(hubId, partition) {
      const stream = streamOf(hubId);
      const found = await found404(partition, () => stream.partition(partition));
      return {
        beginSequenceNumber: found.firstSequence,
        lastSequenceNumber: found.lastSequence,
        lastOffset: found.lastOffset,
        lastEnqueuedTimeMs: found.lastEnqueuedMs < 0 ? NEVER_MS : found.lastEnqueuedMs,
        isEmpty: found.firstSequence > found.lastSequence,
      };
    },

    locate(hubId, partition, position) {
      const stream = streamOf(hubId);
      return found404(partition, () => stream.locate(partition, position));
    },

    async read(hubId, partition, from, limit, signal) {
      const stream = streamOf(hubId);
      for (let next = from; ;) {
        try {
          await found404(partition, () => stream.available(partition, next, signal));
        } catch (error) {
          if (isGatewayError(error, 'GW_ABORTED')) return [];
          throw error;
        }
        const messages = await stream.read(partition, next, limit);
        if (messages.length > 0) return messages.map((message) => eventOf(hubId, message));
        // What was there is gone: damaged, or its retention was over.
        next = Math.max(next, stream.partition(partition).lastSequence + 1);
      }
    },
  };
}

/** What a session of the hub sent goes out as it came: our own id stands beside the sender's for other endpoints only. */
function ofSession({
  body,
  properties,
  systemProperties,
}: Message): Pick<HubEvent, 'body' | 'properties' | 'systemProperties'> {
  if (properties[PROPERTY_FIELDPOST_ID] === undefined) return { body, properties, systemProperties };
  const { [PROPERTY_FIELDPOST_ID]: _, ...own } = properties;
  return { body, properties: own, systemProperties };
}

/** Of the field side: with the id that it has everywhere, and its time made right. */
function ofAdapter(
  stored: StoredMessage,
  clockOffset: (bootId: string) => number | undefined,
): Pick<HubEvent, 'body' | 'properties' | 'systemProperties'> {
  const { messageId } = stored;
  const { body, properties, systemProperties } = restamp(stored, clockOffset).message;
  return { body, properties, systemProperties: { ...systemProperties, messageId } };
}

function stampsOf(message: Message, generationId: string | undefined): Readonly<Record<string, string>> {
  const { hub = GATEWAY_STAMPS, deviceId, moduleId } = message;
  const ofGeneration = hub === GATEWAY_STAMPS ? (generationId ?? '') : hub.generationId;
  return {
    [STAMP_NAMES.connectionDeviceId]: deviceId,
    ...(moduleId === undefined ? {} : { [STAMP_NAMES.connectionModuleId]: moduleId }),
    [STAMP_NAMES.authMethod]: hub.authMethod,
    [STAMP_NAMES.generationId]: ofGeneration,
    [STAMP_NAMES.source]: hub.source,
    ...(hub.dataSchema === undefined ? {} : { [STAMP_NAMES.dataSchema]: hub.dataSchema }),
    ...(hub.interfaceId === undefined ? {} : { 'iothub-interface-id': hub.interfaceId }),
    ...(hub.outputName === undefined ? {} : { 'iothub-outputname': hub.outputName }),
  };
}

/** @throws GW_IOTHUB AmqpAddressNotFound: clients do not try that again. */
async function found404<T>(partition: number, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isGatewayError(error, 'GW_NOT_FOUND')) throw error;
    throw iotHubError('AmqpAddressNotFound', `There is no partition ${partition}.`);
  }
}

function told<T>(work: () => T, message: string): T {
  try {
    return work();
  } catch (error) {
    if (!isGatewayError(error, 'GW_NOT_FOUND')) throw error;
    throw iotHubError('AmqpAddressNotFound', message);
  }
}
