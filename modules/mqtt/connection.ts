// What the broker knows of a connection besides what the library knows.

import type { AnswerOrder } from './answer-order.ts';
import type { Principal } from './authenticator.ts';
import type { PublishLane } from './publish-lane.ts';
import type { Subscriptions } from './subscriptions.ts';

export interface Connection {
  readonly remoteAddress: string;
  readonly destroy: () => void;
  /** Of PUBACK and PUBREC, as far as the library gives them. */
  readonly answers: AnswerOrder;
  readonly subscriptions: Subscriptions;
  /** When bytes of it were last read, by the monotonic clock. */
  heardAtMs: number;
  principal: Principal | undefined;
  lane: PublishLane | undefined;
}
