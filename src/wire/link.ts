// A byte stream to field devices: contract of sockets and serial ports.

import type { GatewayError } from '../core/errors.ts';

export interface LinkEvents {
  onData(bytes: Buffer): void;
  /** Exactly once, whoever ended it; nothing comes after it. Undefined when we ended it ourselves. */
  onClosed(error: GatewayError | undefined): void;
}

export interface Link {
  /** Queues bytes; failures show as `onClosed`. */
  write(bytes: Buffer): void;
  /** Idempotent; resolves when the port or socket is free again. */
  close(): Promise<void>;
}

export interface LinkOpener {
  /** Where it goes, for people: `tcp://10.0.0.5:502`, `/dev/ttyUSB0`. */
  readonly target: string;
  /** How long one character takes on the line in ms; 0 when bytes are not paced. */
  readonly charMs: number;
  /**
   * One attempt. @throws GatewayError GW_CONNECT, GW_TIMEOUT, GW_TLS, GW_SERIAL_MISSING, GW_SERIAL_BUSY,
   * GW_SERIAL_DENIED, GW_ABORTED.
   */
  open(events: LinkEvents, signal: AbortSignal): Promise<Link>;
  /**
   * Whether the path leads to the device that the newest link was opened on; asked when nothing answers any more,
   * because an adapter that was plugged in again may have another name behind the same link.
   */
  isCurrent(): Promise<boolean>;
}
