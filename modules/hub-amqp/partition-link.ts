// One reader of a partition: events go out in order as far as the client's credit and its reading allow
// (contract/service-07, sections 4 and 5).

import {
  Notifier,
  parseEventsSelector,
  type AmqpSender,
  type Clock,
  type EventPosition,
  type Hub,
  type HubEvent,
} from '#sdk';
import { encodeEvent } from './message-out.ts';

/** Read at a time, so that a client that stops reading holds little. */
const READ_MESSAGES = 256;
const READ_BYTES = 512 * 1024;
const METRICS = 'com.microsoft:enable-receiver-runtime-metric';

export interface PartitionPlace {
  readonly hubId: string;
  readonly partition: number;
}

/** Where a reader wants to begin. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function positionOf(link: AmqpSender): EventPosition {
  return parseEventsSelector(link.selector);
}

/**
 * Sends events until the signal aborts.
 * @param located sequence number to begin with.
 * @throws GatewayError as `Events.read`.
 */
export async function sendEvents(
  link: AmqpSender,
  { hubId, partition }: PartitionPlace,
  located: Promise<number>,
  { hub, clock }: { readonly hub: Hub; readonly clock: Clock },
  signal: AbortSignal,
): Promise<void> {
  const { events } = hub;
  const withMetrics = link.desiredCapabilities.includes(METRICS);
  const capacity = new Notifier();
  link.onCapacity = () => capacity.notify();
  let next = await located;
  while (!signal.aborted) {
    if (link.capacity === 0) {
      await capacity.wait(signal).catch(() => {});
      continue;
    }
    const limit = { maxMessages: Math.min(link.capacity, READ_MESSAGES), maxBytes: READ_BYTES };
    const found: readonly HubEvent[] = await events.read(hubId, partition, next, limit, signal);
    const latest = withMetrics && found.length > 0 ? await events.partition(hubId, partition) : undefined;
    for (const event of found) {
      // The client may have taken its credit back meanwhile; the rest is read again.
      if (link.capacity === 0) break;
      // Dispositions carry no meaning here, so none are asked for.
      link.send(encodeEvent(event, latest, clock.wallMs()), { isSettled: true });
      next = event.sequenceNumber + 1;
    }
  }
}
