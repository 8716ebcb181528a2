// What an AMQP server connection is made of, as the protocol head sees it. `amqp.ts` makes it of the `rhea` library.

import type { Duplex } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import type { AmqpId } from './amqp-message.ts';

export interface AmqpError {
  /** Symbol, such as `amqp:not-found`. */
  readonly condition: string;
  readonly description?: string;
  readonly info?: Readonly<Record<string, string | number | boolean>>;
}

/** A message as it came. Maps are decoded to plain objects; annotations and properties are unchecked. */
export interface AmqpIncoming {
  readonly messageId: AmqpId | undefined;
  readonly correlationId: AmqpId | undefined;
  readonly userId: Uint8Array | undefined;
  readonly to: string | undefined;
  readonly replyTo: string | undefined;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  /** Wall clock in ms. */
  readonly absoluteExpiryTimeMs: number | undefined;
  readonly creationTimeMs: number | undefined;
  /** Of its header: how long it holds. */
  readonly ttlMs: number | undefined;
  readonly annotations: Readonly<Record<string, unknown>>;
  readonly applicationProperties: Readonly<Record<string, unknown>>;
  /** All data sections, one behind the other, or an AMQP value that is text or binary; undefined for any other kind. */
  readonly body: Uint8Array | undefined;
}

/** What a peer's message is settled with. Each is sent once at most; on a link that is gone it is left out. */
export interface AmqpDelivery {
  /** 0x80013700 is a batch; 0 an AMQP message. */
  readonly format: number;
  /** For the peer it is settled already; nothing more is said of it. */
  readonly isSettled: boolean;
  /** Undefined for a batch. */
  readonly message: AmqpIncoming | undefined;
  /** Of a batch: each message of it. @throws GatewayError GW_PROTOCOL. */
  batch(maxMessages: number): readonly AmqpIncoming[];
  /** As it came, headers and all. */
  readonly bytes: number;
  accept(): void;
  reject(error: AmqpError): void;
  release(): void;
}

export type AmqpOutcome = 'accepted' | 'rejected' | 'released' | 'modified';

interface AmqpLinkFields {
  readonly name: string;
  readonly connection: AmqpConnection;
  /** Tells the sessions of a connection apart. */
  readonly sessionNumber: number;
  /** Of the terminus of this side: the source where the peer receives, the target where it sends. */
  readonly address: string | undefined;
  /** Of the peer's own terminus. */
  readonly peerAddress: string | undefined;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly desiredCapabilities: readonly string[];
  readonly isOpen: boolean;
  /** Detaches with `closed`, with an error where it failed. Idempotent. */
  close(error?: AmqpError): void;
}

/** The peer sends, we receive. */
export interface AmqpReceiver extends AmqpLinkFields {
  readonly role: 'receiver';
  /** Set once, in `onLink`. */
  onDelivery: (delivery: AmqpDelivery) => void;
  grant(credit: number): void;
}

export interface AmqpSendOptions {
  /** Default: a number of the link's own. */
  readonly tag?: Uint8Array;
  /** Nothing is heard of it any more. */
  readonly isSettled?: boolean;
  /** Called when it goes out, where that is later than the call. */
  readonly onSent?: (sent: AmqpSent) => void;
  /** Called once, with what the peer says first; `isSettled`: it waits for nothing. */
  readonly onOutcome?: (outcome: AmqpOutcome, sent: AmqpSent) => void;
}

/** Something sent that is not settled. */
export interface AmqpSent {
  /** The peer settled it by itself: no answer is due. */
  readonly isSettledByPeer: boolean;
  /** Ends it with what it came to. */
  settle(outcome: 'accepted' | 'released' | AmqpError): void;
  /** Frees its place without a word. */
  forget(): void;
}

/** The peer receives, we send. */
export interface AmqpSender extends AmqpLinkFields {
  readonly role: 'sender';
  /** Text of the filter `apache.org:selector-filter:string`. */
  readonly selector: string | undefined;
  /** How many messages can be sent now: the peer's credit, as far as it reads what is written. */
  readonly capacity: number;
  /** Set in `onLink`: there may be more capacity than before. */
  onCapacity: () => void;
  /** Only while there is capacity. */
  send(message: Uint8Array, options?: AmqpSendOptions): AmqpSent;
}

export type AmqpLink = AmqpReceiver | AmqpSender;

export interface AmqpConnection {
  /** `hostname` of the peer's OPEN, else what its SASL frames said; port left off. */
  readonly hostName: string;
  readonly containerId: string;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly isOpen: boolean;
  /** Says CLOSE, and ends the connection once the peer has answered, or soon. Idempotent. */
  close(error?: AmqpError): void;
  /** Ends one session with an error. */
  endSession(sessionNumber: number, error: AmqpError): void;
  /** At once, without a word. */
  destroy(): void;
  /** Stops and goes on reading what the peer sends. */
  pause(): void;
  resume(): void;
}

export interface AmqpHandlers {
  onOpen(connection: AmqpConnection): void;
  /** Answered already; `close` refuses it. No credit is given. */
  onLink(link: AmqpLink): void;
  /** Once for each link, whoever ended it. */
  onLinkClosed(link: AmqpLink): void;
  /** Once. `isOrderly`: after a CLOSE. */
  onClosed(connection: AmqpConnection, isOrderly: boolean): void;
  /** SASL PLAIN (RFC 4616). Must not reject. */
  plain(userName: string, password: string, hostName: string): Promise<boolean>;
  /** The peer broke the protocol. `reason`: stable. */
  onFault(reason: AmqpFault, detail: string): void;
}

export type AmqpFault =
  'frame_size' | 'malformed' | 'too_many_sessions' | 'too_many_links' | 'message_too_large' | 'credit';

export interface AmqpServerOptions {
  readonly containerId: string;
  readonly maxFrameBytes: number;
  readonly maxMessageBytes: number;
  /** Told to the peer; it is given up after twice as long. */
  readonly idleTimeoutMs: number;
  readonly maxSessions: number;
  /** Of one connection. */
  readonly maxLinks: number;
  readonly clock: Clock;
}

export interface AmqpServer {
  /** Speaks AMQP on a connection whose bytes nobody has read. */
  accept(stream: Duplex, handlers: AmqpHandlers): AmqpConnection;
}
