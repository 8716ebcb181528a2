// The outbox for operators, on an outbox at hand: of the running gateway, or opened by a command.

import type { BufferAdmin } from '../core/admin.ts';
import { GatewayError } from '../core/errors.ts';
import type { Outbox } from '../core/outbox.ts';
import { messageView, quarantinedView } from './views.ts';

/** Messages in one answer. */
export const PAGE_MESSAGES_MAX = 1000;

export function createBufferAdmin(outbox: Outbox): BufferAdmin {
  return {
    stats: () => Promise.resolve(outbox.stats()),
    async messages({ queue, fromOffset, limit }) {
      const stored = await outbox.browse({
        ...(queue === undefined ? {} : { queue }),
        ...(fromOffset === undefined ? {} : { fromOffset }),
        limit: pageLimit(limit),
      });
      return stored.map(messageView);
    },
    async quarantined({ afterId, limit }) {
      const page = { ...(afterId === undefined ? {} : { afterId }), limit: pageLimit(limit) };
      return (await outbox.quarantined(page)).map(quarantinedView);
    },
    requeue: (ids) => outbox.requeue(ids),
    discard: (ids) => outbox.discard(ids),
    purge: (queue) => outbox.purge(queue),
  };
}

/** @throws GatewayError GW_USAGE when it is not a whole number from 1 to PAGE_MESSAGES_MAX. */
function pageLimit(limit: number): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= PAGE_MESSAGES_MAX) return limit;
  throw new GatewayError('GW_USAGE', `A page has 1 to ${PAGE_MESSAGES_MAX} messages, not ${limit}.`);
}
