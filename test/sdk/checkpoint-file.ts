// A checkpoint store for the consumers of `@azure/event-hubs`, as an application would write one: positions in a file, which a
// later process reads; who owns which partition in memory, as one process alone reads.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Checkpoint, CheckpointStore, PartitionOwnership } from '@azure/event-hubs';

export function createCheckpointFile(path: string): CheckpointStore {
  const owned = new Map<string, PartitionOwnership>();
  let changes = 0;

  function read(): Record<string, Checkpoint> {
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, Checkpoint>) : {};
  }

  return {
    claimOwnership(wanted) {
      const claimed = wanted.filter(({ partitionId, etag }) => owned.get(partitionId)?.etag === etag);
      const next = claimed.map((one) => {
        changes += 1;
        return { ...one, etag: String(changes), lastModifiedTimeInMs: Date.now() };
      });
      for (const one of next) owned.set(one.partitionId, one);
      return Promise.resolve(next);
    },
    listOwnership: () => Promise.resolve([...owned.values()]),
    listCheckpoints: () => Promise.resolve(Object.values(read())),
    updateCheckpoint(checkpoint) {
      const next = { ...read(), [checkpoint.partitionId]: checkpoint };
      writeFileSync(`${path}.new`, JSON.stringify(next));
      renameSync(`${path}.new`, path);
      return Promise.resolve();
    },
  };
}
