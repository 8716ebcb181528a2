// Messages as they leave: with their time made right first and sealed after that, on copies, an endpoint at a time.

import type { Endpoint } from '../core/endpoint.ts';
import type { StoredMessage } from '../core/message.ts';
import { restamp } from '../pipeline/restamp.ts';

/** Seals the body of one message for its reader. */
export type SealMessage = (stored: StoredMessage) => Promise<StoredMessage>;

export interface PrepareOptions {
  readonly endpoint: Endpoint;
  /** `outbox.clockOffset`. */
  readonly clockOffset: (bootId: string) => number | undefined;
  /** Undefined: nothing is sealed. */
  readonly seal?: SealMessage | undefined;
}

/** One message for each, in the same order. Rejects only where a body could not be sealed. */
export type Prepare = (batch: readonly StoredMessage[]) => Promise<readonly StoredMessage[]>;

export function createPrepare({ endpoint, clockOffset, seal }: PrepareOptions): Prepare {
  return (batch) => {
    const { bodiesOnly } = endpoint.capabilities;
    const stamped = batch.map((stored) => restamp(stored, clockOffset, bodiesOnly));
    return seal === undefined ? Promise.resolve(stamped) : Promise.all(stamped.map(seal));
  };
}
