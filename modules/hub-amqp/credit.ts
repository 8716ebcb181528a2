// Credit for what clients send: a window that is opened again as messages are settled, and an end to reading where too many
// bytes are under way on one connection.

import { LIMITS, type AmqpConnection, type AmqpDelivery, type AmqpReceiver } from '#sdk';

/** What the service gives (contract/device-amqp.md, section 3). */
const WINDOW = 100;

/** Bytes of one connection's messages that are not settled yet. */
export class InFlightBytes {
  readonly #connection: AmqpConnection;
  #bytes = 0;

  constructor(connection: AmqpConnection) {
    this.#connection = connection;
  }

  add(bytes: number): void {
    const before = this.#bytes;
    this.#bytes += bytes;
    const limit = LIMITS.hub_amqp_bytes_under_way;
    if (before <= limit && this.#bytes > limit) this.#connection.pause();
    if (before > limit && this.#bytes <= limit) this.#connection.resume();
  }
}

/**
 * Grants credit now, and more whenever half of it is used up and done with. `take` settles each delivery, resolves
 * then, and does not reject.
 */
export function receive(
  link: AmqpReceiver,
  inFlight: InFlightBytes,
  take: (delivery: AmqpDelivery) => Promise<void> | void,
): void {
  let done = 0;
  link.onDelivery = (delivery) => {
    inFlight.add(delivery.bytes);
    const settled = (): void => {
      inFlight.add(-delivery.bytes);
      done += 1;
      if (done < WINDOW / 2) return;
      link.grant(done);
      done = 0;
    };
    const taking = take(delivery);
    if (taking === undefined) settled();
    else void taking.finally(settled);
  };
  link.grant(WINDOW);
}
