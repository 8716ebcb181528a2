// What is to be sent on a link waits here for the client's credit, in order and bounded.

import { LIMITS, type AmqpSender, type AmqpSendOptions } from '#sdk';

export interface LinkQueue {
  /** Whether there was room for it. */
  send(message: Uint8Array, options?: AmqpSendOptions): boolean;
  readonly isFull: boolean;
}

/** Takes the link's `onCapacity` for itself. */
export function linkQueue(link: AmqpSender): LinkQueue {
  const waiting: { readonly message: Uint8Array; readonly options: AmqpSendOptions | undefined }[] = [];
  const flush = (): void => {
    while (waiting.length > 0 && link.capacity > 0) {
      const next = waiting.shift();
      if (next !== undefined) link.send(next.message, next.options);
    }
  };
  link.onCapacity = flush;
  return {
    get isFull() {
      return waiting.length >= LIMITS.hub_amqp_waiting_messages;
    },
    send(message, options) {
      if (!link.isOpen || waiting.length >= LIMITS.hub_amqp_waiting_messages) return false;
      waiting.push({ message, options });
      flush();
      return true;
    },
  };
}
