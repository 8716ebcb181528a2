// Inputs of a module (contract/device-amqp.md, section 6).

import { randomUuid, uuidBytes, type AmqpSender, type ToSession } from '#sdk';
import { linkQueue } from './link-queue.ts';
import { encodeInput } from './message-out.ts';
import { unsettledDeliveries } from './unsettled.ts';

/** Returns what sends a message to the module. SDKs settle each, by its tag; nothing hangs on that. */
export function inputLink(link: AmqpSender): (item: Extract<ToSession, { readonly kind: 'input' }>) => void {
  const queue = linkQueue(link);
  const unsettled = unsettledDeliveries();
  return (item) => {
    queue.send(encodeInput(item), {
      tag: uuidBytes(randomUuid()),
      onSent: (sent) => unsettled.add(sent),
      onOutcome: (_outcome, sent) => {
        unsettled.remove(sent);
        sent.settle('accepted');
      },
    });
  };
}
