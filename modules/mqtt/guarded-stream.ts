// A client's stream as the broker library sees it: bytes pass the frame meter first, a client that sends too fast is read
// more slowly, and one that takes too little is dropped instead of holding up whoever sends to it.

import type { Duplex } from 'node:stream';
import type { Client } from 'aedes';
import { LIMITS, type Clock } from '#sdk';
import { FrameMeter, type FrameFault } from './frame-meter.ts';
import { TokenBucket } from './rate-limit.ts';

export interface GuardOptions {
  readonly clock: Clock;
  readonly maxPacketBytes: number;
  /** 0: no limit. */
  readonly maxMessagesPerSec: number;
  /** The client sent what it must not, and the stream ends. */
  readonly onFault: (fault: FrameFault) => void;
  /** The client is being slowed down; told once each time that it starts. */
  readonly onSlowed: () => void;
}

/** Puts itself before `read`, which the library calls for every piece of input; call it before the library has the stream. */
export function guardInput(stream: Duplex, options: GuardOptions): void {
  const { clock, maxMessagesPerSec } = options;
  const meter = new FrameMeter(options.maxPacketBytes);
  const bucket = new TokenBucket(clock, maxMessagesPerSec);
  const read = stream.read.bind(stream) as (size?: number) => Buffer | null;
  let resting = false;
  let slowed = false;
  stream.read = (size?: number): Buffer | null => {
    // The stream ended for it, or its debt is not paid yet.
    if (resting || stream.destroyed) return null;
    const bytes = read(size);
    if (bytes === null) return null;
    const counted = meter.take(bytes);
    if (typeof counted === 'string') {
      options.onFault(counted);
      return null;
    }
    const restMs = maxMessagesPerSec === 0 ? 0 : bucket.take(counted);
    if (restMs === 0) {
      slowed = false;
      return bytes;
    }
    if (!slowed) options.onSlowed();
    slowed = true;
    resting = true;
    clock.after(restMs, () => {
      resting = false;
      // The library reads on when it hears this.
      if (!stream.destroyed) stream.emit('readable');
    });
    return bytes;
  };
}

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
