// What a hub has stored, as `@azure/event-hubs` reads its built-in events: with all that it was sent twice, and without what was
// read twice.

import { HUB_HOST_NAME, type HubDaemon } from './hub-daemon.ts';
import { startBackEnd, type SdkChild } from './sdk-child.ts';

export interface HubEvent {
  /** Parsed where it says that it is JSON. */
  readonly body: unknown;
  readonly messageId: string;
  readonly partition: string;
  readonly sequenceNumber: number;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

interface PartitionList {
  readonly partitions: readonly { readonly partitionId: string }[];
}

/** Under whose identity it came. */
export const senderOf = ({ systemProperties }: HubEvent): string =>
  String(systemProperties['iothub-connection-device-id']);

export class EventAccount implements AsyncDisposable {
  readonly #stored = new Map<string, HubEvent>();
  /** Sequence numbers by partition. */
  readonly #last = new Map<string, number>();
  #reader: SdkChild | undefined;
  #taken = 0;

  /** Reads from the beginning, and where it has read, from there on; again after each start of the hub. */
  async read(hub: HubDaemon): Promise<void> {
    this.events();
    await this.#reader?.kill();
    const reader = startBackEnd({ hub });
    this.#reader = reader;
    this.#taken = 0;
    const connectionString = hub.events.replace(HUB_HOST_NAME, hub.address);
    const { partitions } = (await reader.call('eventsInfo', { connectionString })) as PartitionList;
    // Without the name of a partition the SDK takes them one by one, ten seconds apart.
    for (const { partitionId } of partitions) {
      const last = this.#last.get(partitionId);
      const from = last === undefined ? 'earliest' : { sequenceNumber: last };
      await reader.call('readEvents', { connectionString, partition: partitionId, from });
    }
  }

  /** By their places in the hub: what it has twice is twice among them. */
  events(): readonly HubEvent[] {
    const told = this.#reader?.events ?? [];
    for (; this.#taken < told.length; this.#taken += 1) {
      const one = told[this.#taken];
      if (one?.event !== 'event') continue;
      const event = one.data as HubEvent;
      this.#last.set(event.partition, event.sequenceNumber);
      this.#stored.set(`${event.partition} ${event.sequenceNumber}`, event);
    }
    return [...this.#stored.values()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader?.kill();
  }
}
