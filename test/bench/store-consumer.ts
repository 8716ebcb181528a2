// An endpoint that takes everything at once, for the store's benches.

import type { Lane, Outbox } from '../../src/core/outbox.ts';

const TAKE = { maxMessages: 256, maxBytes: 1024 ** 2 } as const;

/** Takes and accepts what a lane gets until the signal aborts; resolves with how many. */
export async function consume(
  outbox: Outbox,
  queueName: string,
  signal: AbortSignal,
  lane: Lane = 'live',
): Promise<number> {
  const queue = outbox.queue(queueName);
  let accepted = 0;
  while (!signal.aborted) {
    const batch = await queue.take(lane, TAKE);
    if (batch.length === 0) await queue.available(lane, signal).catch(() => {});
    else await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    accepted += batch.length;
  }
  return accepted;
}

/** Takes and accepts until both lanes are empty; resolves with how many. */
export async function drain(outbox: Outbox, queueName: string): Promise<number> {
  const queue = outbox.queue(queueName);
  let accepted = 0;
  for (;;) {
    const batch = [...(await queue.take('live', TAKE)), ...(await queue.take('history', TAKE))];
    if (batch.length === 0) return accepted;
    await queue.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    accepted += batch.length;
  }
}
