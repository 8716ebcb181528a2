// Where the messages of a device stand in the built-in events of a hub (contract/service-07, section 5).

import type { Message } from '../core/message.ts';
import type { StreamPlace } from '../core/outbox.ts';

/** Name of the stream that keeps the events of a hub. */
export function eventsStream(hubId: string): string {
  return `events/${hubId}`;
}

/**
 * The partition of a device, by a hash of its id (FNV-1a): always the same one while the count is the same, which keeps the
 * order of its messages. Modules go with their device.
 */
export function partitionOf(deviceId: string, partitions: number): number {
  let hash = 0x811c_9dc5;
  for (let index = 0; index < deviceId.length; index += 1) {
    hash = Math.imul(hash ^ deviceId.charCodeAt(index), 0x0100_0193);
  }
  // The low bits of FNV alone are uneven for ids that differ in their last digit.
  return ((hash ^ (hash >>> 15)) >>> 0) % partitions;
}

/** @param hubId of messages that name no hub: those of the gateway's own adapters. */
export function eventsPlace(message: Message, hubId: string, partitions: number): StreamPlace {
  return {
    name: eventsStream(message.hubId ?? hubId),
    partition: partitionOf(message.deviceId, partitions),
  };
}
