// What an AMQP client connection is made of, as an endpoint sees it. `amqp-client.ts` makes it of the `rhea` library.

import type { WebSocketPlace } from './broker-address.ts';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import type { GatewayError } from '../core/errors.ts';
import type { AmqpDelivery, AmqpError } from './amqp-types.ts';

/** Who we are (AMQP 1.0, 5.3); `NONE` leaves the security layer out. */
export type AmqpSasl =
  | { readonly mechanism: 'PLAIN'; readonly username: string; readonly password: string }
  | { readonly mechanism: 'EXTERNAL' | 'ANONYMOUS' | 'NONE' };

export interface AmqpConnectOptions {
  /** Connected, with TLS done where it is wanted. It belongs to the connection from now on. */
  readonly socket: Socket | TLSSocket;
  /** Speak through a WebSocket on the socket; the sub-protocol is that of the AMQP WebSocket binding where none is named. */
  readonly webSocket?: WebSocketPlace & { readonly protocol?: string };
  /** For messages to people. */
  readonly target: string;
  readonly containerId: string;
  /** `hostname` of OPEN and SASL, which names the virtual host. */
  readonly hostName: string;
  readonly sasl: AmqpSasl;
  /** Silent for so long, the peer is given up; it is asked to speak twice as often (2.4.5). */
  readonly idleTimeoutMs: number;
  /** WebSocket handshake, SASL and OPEN together. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** What a CLOSE instead of an OPEN means. */
  readonly refused: (error: AmqpError | undefined) => GatewayError;
}

/** Why the connection ended; `error` is that of the peer's CLOSE. */
export interface AmqpClosed {
  readonly error?: AmqpError;
  readonly reason: string;
}

/** What became of a message. `unknown`: the peer settled it and did not say. */
export type AmqpAnswer =
  | { readonly outcome: 'accepted' | 'released' | 'unknown' }
  | { readonly outcome: 'modified'; readonly undeliverableHere: boolean }
  | { readonly outcome: 'rejected'; readonly error: AmqpError | undefined };

interface LinkOptions {
  /** Of the ATTACH, by symbols. */
  readonly properties?: Readonly<Record<string, string>>;
  /** The peer took the attach. */
  readonly onOpen: () => void;
  /** Once, whoever ended it: the link, its session or the connection; nothing comes after it. Not called for `close`. */
  readonly onClosed: (error: AmqpError | undefined) => void;
}

export interface AmqpSenderOptions extends LinkOptions {
  readonly address: string;
  /** Messages that may be unsettled at once. */
  readonly window: number;
  /** There may be more capacity than before. */
  readonly onCapacity: () => void;
  /** Once for each message, by its number. */
  readonly onAnswer: (number: number, answer: AmqpAnswer) => void;
}

/** A sending link. */
export interface AmqpClientSender {
  /** What it still waits for before it is attached, as a sentence; undefined: for nothing. */
  readonly awaits?: string | undefined;
  /** Undefined before it is open, and where the peer sets no limit. */
  readonly maxMessageBytes: number | undefined;
  /** Whether the peer gives credit. */
  readonly hasCredit: boolean;
  /** How many messages can be sent now. */
  readonly capacity: number;
  /**
   * Only while there is capacity. Returns its number: 0 for the first of the link, and so on.
   * @param format of the message (2.7.5); default 0, AMQP's own.
   */
  send(message: Uint8Array, format?: number): number;
  /** Ends it. Idempotent. */
  close(): void;
}

export interface AmqpReceiverOptions extends LinkOptions {
  readonly address: string;
  /** Messages that may be unsettled at once. */
  readonly credit: number;
  /** A larger one is refused unread. */
  readonly maxMessageBytes: number;
  /** Has to be settled one day; only then the peer may send another one. */
  readonly onDelivery: (delivery: AmqpDelivery) => void;
}

export interface AmqpClientReceiver {
  close(): void;
}

/** A session of several links. */
export interface AmqpClientSession {
  /** Whoever ended it; its links end with it. */
  readonly isOver: boolean;
  openSender(options: AmqpSenderOptions): AmqpClientSender;
  openReceiver(options: AmqpReceiverOptions): AmqpClientReceiver;
  /** Ends it with its links, whose `onClosed` is not called. Idempotent. */
  close(): void;
}

export interface AmqpClient {
  /** Sessions that the peer allows, and so links. */
  readonly maxLinks: number;
  /** Settles once the connection is gone. Never rejects. */
  readonly closed: Promise<AmqpClosed>;
  /** Each link in a session of its own. */
  openSender(options: AmqpSenderOptions): AmqpClientSender;
  openReceiver(options: AmqpReceiverOptions): AmqpClientReceiver;
  openSession(): AmqpClientSession;
  /** CLOSE, then the end of the socket; at once when the peer does not take it. */
  end(): Promise<void>;
  /** Cuts the connection, for a reason that `closed` then gives. */
  destroy(reason: string): void;
}
