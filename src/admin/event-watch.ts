// All partitions of a hub's events as one row: for people, who know of no partitions.

import type { Events, HubEvent } from '../core/hub/messaging.ts';

const READ_LIMIT = { maxMessages: 100, maxBytes: 1024 * 1024 };

export interface EventWatch {
  readonly hubId: string;
  readonly from: 'earliest' | 'latest';
  readonly signal: AbortSignal;
  /** No more are read while what it returns is unresolved. */
  readonly report: (partition: number, event: HubEvent) => void | Promise<void>;
}

/** Sequence numbers of a partition: the one to begin with, and the one behind the last when the watch began. */
interface Backlog {
  readonly next: number;
  readonly end: number;
}

/** What is there already in the order in which the hub took it, then what comes, as it comes; until the signal aborts. */
export async function watchEvents(events: Events, { hubId, from, signal, report }: EventWatch): Promise<void> {
  async function backlogOf(partition: number): Promise<Backlog> {
    const next = await events.locate(hubId, partition, { kind: from });
    return { next, end: (await events.partition(hubId, partition)).lastSequenceNumber + 1 };
  }

  async function* stored({ next, end }: Backlog, partition: number): AsyncGenerator<HubEvent, void> {
    while (next < end && !signal.aborted) {
      // What its retention took meanwhile is not waited for.
      if ((await events.partition(hubId, partition)).beginSequenceNumber >= end) return;
      const found = await events.read(hubId, partition, next, READ_LIMIT, signal);
      for (const event of found) if (event.sequenceNumber < end) yield event;
      next = (found.at(-1)?.sequenceNumber ?? end) + 1;
    }
  }

  async function follow({ next, end }: Backlog, partition: number): Promise<void> {
    for (let first = Math.max(next, end); !signal.aborted;) {
      const found = await events.read(hubId, partition, first, READ_LIMIT, signal);
      for (const event of found) await report(partition, event);
      first = (found.at(-1)?.sequenceNumber ?? first - 1) + 1;
    }
  }

  const { partitions } = events.info(hubId);
  const backlogs = await Promise.all(Array.from({ length: partitions }, (_, partition) => backlogOf(partition)));
  for await (const [partition, event] of merged(backlogs.map(stored))) {
    if (signal.aborted) return;
    await report(partition, event);
  }
  await Promise.all(backlogs.map(follow));
}

/**
 * By the position in the hub's log: that is the order of the enqueued times, and where the clock was set back meanwhile
 * still the one of every partition.
 */
async function* merged(
  partitions: readonly AsyncGenerator<HubEvent, void>[],
): AsyncGenerator<readonly [partition: number, event: HubEvent]> {
  const heads = await Promise.all(
    partitions.map(async (row, partition) => ({ row, partition, event: (await row.next()).value })),
  );
  for (;;) {
    const offsets = heads.map(({ event }) => event?.offset ?? Number.POSITIVE_INFINITY);
    const head = heads[offsets.indexOf(Math.min(...offsets))];
    if (head?.event === undefined) return;
    yield [head.partition, head.event];
    head.event = (await head.row.next()).value;
  }
}
