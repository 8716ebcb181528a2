// A client that takes too little of what is sent to it is dropped instead of holding up whoever sends to it.

import type { Client } from 'aedes';
import { LIMITS } from '#sdk';

/** The library waits for `drain`, and everybody with it; here what waits is bounded instead. */
export function guardOutput(client: Client, onSlow: () => void): void {
  const stream = client.conn;
  const guarded = client as Client & { waitForDrain: (done: (error: Error | null, client: Client) => void) => void };
  guarded.waitForDrain = (done) => {
    if (stream.writableLength > LIMITS.mqtt_subscriber_bytes && !stream.destroyed) {
      onSlow();
      stream.destroy();
    }
    setImmediate(done, null, client);
  };
}
