// Where the bytes of a line come from and go to: a port, or a capture that is played.

import type { GatewayError } from '#sdk';

export interface WireEvents {
  onOpen(): void;
  /** The port cannot be opened, or was lost; told anew when the cause changes. */
  onLost(error: GatewayError): void;
  onData(bytes: Buffer): void;
  /** Of a capture: what the gateway sent when it was recorded. */
  onReplayedRequest(bytes: Buffer): void;
  /** Of a capture: nothing came for so long when it was recorded, however fast it is played. */
  onReplayedGap(ms: number): void;
}

export interface Wire {
  /** For people: `/dev/ttyUSB0`. */
  readonly target: string;
  readonly isOpen: boolean;
  /** The device file of the open port, links resolved; undefined while there is none. */
  readonly devicePath: string | undefined;
  /** Why it is not open. */
  readonly error: GatewayError | undefined;
  /** A capture: nothing can be sent. */
  readonly isReplay: boolean;
  /** Starts opening; waits for nothing. Events come from now on. */
  start(events: WireEvents): void;
  /** Queues bytes; failures show as `onLost`. Nothing while it is not open. */
  write(bytes: Buffer): void;
  /** Nobody answers: looks whether the path still leads to the port that is open, and opens it anew if not. */
  suspect(): void;
  /** Ends for good. Idempotent. */
  stop(): Promise<void>;
}
