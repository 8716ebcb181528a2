// What comes in during one turn of the event loop goes to the outbox in one append.

import { assertMessageSize, type AdapterContext, type Message } from '#sdk';

/** Well below a chunk, so that one append never spans commits. */
const BATCH_MESSAGES = 1024;

/**
 * Returns a function that stores a message: it resolves after the sync of the commit that holds it.
 * @throws GatewayError GW_MESSAGE_INVALID for that message alone; else as `publishMessages`, for all of its turn.
 */
export function createMessageBatch(publish: AdapterContext['publishMessages']): (message: Message) => Promise<void> {
  let open: Message[] | undefined;
  let stored: Promise<void> = Promise.resolve();
  return (message) => {
    try {
      assertMessageSize(message);
    } catch (error) {
      return Promise.reject(error);
    }
    if (open === undefined || open.length >= BATCH_MESSAGES) {
      const batch: Message[] = [];
      open = batch;
      stored = Promise.resolve().then(() => {
        if (open === batch) open = undefined;
        return publish(batch);
      });
    }
    open.push(message);
    return stored;
  };
}
