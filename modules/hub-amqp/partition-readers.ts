// Who reads a partition of the events in a consumer group: several side by side, or the one with the highest epoch
// (contract/service-07, section 4).

import { QUOTAS, type AmqpError, type AmqpLink } from '#sdk';

export interface PartitionReader {
  readonly link: AmqpLink;
  /** Undefined: it does not claim the partition for itself. */
  readonly epoch: number | undefined;
}

export interface PartitionReaders {
  /** Lets a reader in and ends those that must give way; else why not. */
  enter(key: string, reader: PartitionReader): AmqpError | undefined;
  leave(key: string, link: AmqpLink): void;
}

/** `link:stolen`, which clients do not try again. */
const STOLEN = 'amqp:link:stolen';

export function createPartitionReaders(): PartitionReaders {
  const byPartition = new Map<string, Set<PartitionReader>>();

  function refusal(readers: ReadonlySet<PartitionReader>, epoch: number | undefined): AmqpError | undefined {
    const holder = [...readers].find((reader) => reader.epoch !== undefined)?.epoch;
    if (epoch === undefined && holder !== undefined) {
      const description = `A receiver with epoch '${holder}' holds the partition, so that one without is not allowed.`;
      return { condition: STOLEN, description };
    }
    if (epoch === undefined && readers.size >= QUOTAS.partition_receivers) {
      const description = `Exceeded the maximum number of allowed receivers per partition in a consumer group which is ${QUOTAS.partition_receivers}.`;
      return { condition: 'amqp:resource-limit-exceeded', description };
    }
    if (epoch !== undefined && holder !== undefined && holder > epoch) {
      const description = `A receiver with a higher epoch '${holder}' holds the partition; epoch '${epoch}' cannot.`;
      return { condition: STOLEN, description };
    }
    return undefined;
  }

  return {
    enter(key, reader) {
      const { epoch } = reader;
      const readers = byPartition.get(key) ?? new Set();
      const refused = refusal(readers, epoch);
      if (refused !== undefined) return refused;
      const losers = epoch === undefined ? [] : [...readers];
      readers.add(reader);
      byPartition.set(key, readers);
      for (const loser of losers) {
        readers.delete(loser);
        const description = `New receiver with higher epoch '${epoch}' is created hence current receiver with epoch '${loser.epoch ?? 'none'}' is getting disconnected.`;
        loser.link.close({ condition: STOLEN, description });
      }
      // A loser that left as it was closed may have taken the last place with it.
      byPartition.set(key, readers);
      return undefined;
    },
    leave(key, link) {
      const readers = byPartition.get(key);
      for (const reader of readers ?? []) if (reader.link === link) readers?.delete(reader);
      if (readers?.size === 0) byPartition.delete(key);
    },
  };
}
