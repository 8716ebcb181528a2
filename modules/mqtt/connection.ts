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
  /** Of its CONNECT: the broker ends a connection that is silent for one and a half times that (MQTT 3.1.1, 3.1.2-24); 0: never. */
  keepAliveSecs: number;
  principal: Principal | undefined;
  lane: PublishLane | undefined;
}
