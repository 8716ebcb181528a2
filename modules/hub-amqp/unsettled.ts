// Deliveries that a client has not settled. The places for them are bounded by session and freed in order, so that a few which
// are never settled would stop a whole connection: the oldest are given up in time.

import { LIMITS, type AmqpSent } from '#sdk';

export interface Unsettled {
  add(sent: AmqpSent): void;
  remove(sent: AmqpSent): void;
}

export function unsettledDeliveries(): Unsettled {
  const all = new Set<AmqpSent>();
  return {
    add(sent) {
      all.add(sent);
      for (const oldest of all) {
        if (all.size <= LIMITS.hub_amqp_unsettled_messages) return;
        all.delete(oldest);
        oldest.forget();
      }
    },
    remove: (sent) => void all.delete(sent),
  };
}
