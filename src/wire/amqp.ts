// The server side of AMQP 1.0 on the `rhea` library, with the guards that the library lacks: sizes of frames and messages,
// counts of sessions and links, credit, ranges. No policy. The library's own handling of credit and of accepting is off.

import type { Duplex } from 'node:stream';
import { errorText } from '../core/errors.ts';
import { frameSizeCheck } from './amqp-frames.ts';
import { recordOf, textOf } from './amqp-incoming.ts';
import { roomOf, ServerReceiver, ServerSender, type LinkHost } from './amqp-link.ts';
import {
  loadRhea,
  typedError,
  type RheaConnection,
  type RheaContext,
  type RheaFrame,
  type RheaLibrary,
  type RheaLink,
  type RheaMechanism,
  type RheaSession,
} from './amqp-rhea.ts';
import { librarySocket } from './amqp-socket.ts';
import type {
  AmqpConnection,
  AmqpError,
  AmqpFault,
  AmqpHandlers,
  AmqpServer,
  AmqpServerOptions,
} from './amqp-types.ts';

/** How long a peer may take to answer a CLOSE. */
const CLOSE_MS = 3000;
/** Messages of one session, either way, that are not settled (AMQP 1.0, 2.5.6). */
const SESSION_WINDOW = 2048;
/** Smallest frame that a peer may ask for (2.4.1). */
const MIN_FRAME_BYTES = 512;
/** A peer may not make us send empty frames more often than this allows. */
const MIN_IDLE_MS = 1000;
/** Nobody has more deliveries to speak of at once. */
const MAX_RANGE = 65_536;

/** Loads the library, which a gateway without a hub does not need. */
export async function createAmqpServer(options: AmqpServerOptions): Promise<AmqpServer> {
  const library = await loadRhea();
  return { accept: (stream, handlers) => new ServerConnection(library, stream, options, handlers) };
}

interface Session {
  readonly number: number;
  readonly rhea: RheaSession;
  readonly links: Map<RheaLink, ServerReceiver | ServerSender>;
  /** A link had credit that the session had no room for. */
  isRoomWanted: boolean;
}

class ServerConnection implements AmqpConnection, LinkHost {
  readonly library: RheaLibrary;
  readonly #stream: Duplex;
  readonly #options: AmqpServerOptions;
  readonly #handlers: AmqpHandlers;
  readonly #rhea: RheaConnection;
  readonly #sessions = new Map<RheaSession, Session>();
  readonly #isSound: (chunk: Uint8Array) => boolean;
  #saslHostName = '';
  #sessionCount = 0;
  #linkCount = 0;
  #state: 'new' | 'open' | 'closing' | 'closed' = 'new';
  #isOrderly = false;
  #isDeaf = false;
  #cancelDestroy: (() => void) | undefined;

  constructor(library: RheaLibrary, stream: Duplex, options: AmqpServerOptions, handlers: AmqpHandlers) {
    this.library = library;
    this.#stream = stream;
    this.#options = options;
    this.#handlers = handlers;
    this.#isSound = frameSizeCheck(options.maxFrameBytes);
    const container = library.create_container({ id: options.containerId });
    container.sasl_server_mechanisms = this.#mechanisms();
    container.on('error', () => {});
    const { maxMessageBytes: max_message_size } = options;
    this.#rhea = container.create_connection({
      container_id: options.containerId,
      max_frame_size: options.maxFrameBytes,
      channel_max: options.maxSessions - 1,
      idle_time_out: options.idleTimeoutMs,
      reconnect: false,
      session_buffer_size: SESSION_WINDOW,
      receiver_options: { autoaccept: false, credit_window: 0, max_message_size },
      sender_options: { treat_modified_as_released: false, max_message_size },
    });
    this.#listen();
    this.#rhea.accept(librarySocket(stream, (chunk) => this.#admitsBytes(chunk)));
    stream.once('close', () => this.#ended());
    stream.on('drain', () => this.#wakeAll());
  }

  get connection(): AmqpConnection {
    return this;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get isCongested(): boolean {
    return this.#stream.writableNeedDrain;
  }

  get hostName(): string {
    const name = textOf(this.#rhea.remote.open?.hostname) ?? '';
    return (name === '' ? this.#saslHostName : name).replace(/:\d*$/, '');
  }

  get containerId(): string {
    return textOf(this.#rhea.remote.open?.container_id) ?? '';
  }

  get properties(): Readonly<Record<string, unknown>> {
    return recordOf(this.#rhea.remote.open?.properties);
  }

  close(error?: AmqpError): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closing';
    this.#isOrderly = error === undefined;
    // The SDK of IoT Hub for Node detaches its links when it hears of the end, and waits 45 s for answers that cannot come any
    // more; those of a session that has ended it lets go.
    for (const session of this.#sessions.keys()) session.close();
    this.#endLinks();
    if (error !== undefined) this.#rhea.local.close.value[0] = typedError(this.library, error);
    this.#rhea.close();
    this.#cancelDestroy = this.#options.clock.after(wasOpen ? CLOSE_MS : 1, () => this.destroy());
  }

  endSession(sessionNumber: number, error: AmqpError): void {
    const session = [...this.#sessions.values()].find(({ number }) => number === sessionNumber);
    if (session === undefined || !this.isOpen) return;
    session.rhea.local.end.value[0] = typedError(this.library, error);
    session.rhea.close();
    this.#endSession(session.rhea);
  }

  destroy(): void {
    this.#stream.destroy();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#isDeaf) this.#stream.resume();
  }

  linkClosed(link: ServerReceiver | ServerSender): void {
    this.#handlers.onLinkClosed(link);
  }

  hasSession(session: RheaSession): boolean {
    return this.isOpen && this.#sessions.has(session);
  }

  roomWanted(rhea: RheaSession): void {
    const session = this.#sessions.get(rhea);
    if (session !== undefined) session.isRoomWanted = true;
  }

  #admitsBytes(chunk: Buffer): boolean {
    if (this.#isDeaf) return false;
    if (this.#isSound(chunk)) return true;
    this.#fault('frame_size', 'a frame is larger than agreed or has no size');
    return false;
  }

  #mechanisms(): Readonly<Record<string, () => RheaMechanism>> {
    const later = (): RheaMechanism => ({
      outcome: undefined,
      username: undefined,
      start(_response, hostName) {
        noteHostName(hostName);
        // Who it is, CBS or the certificate says.
        this.outcome = true;
      },
    });
    const noteHostName = (hostName: string | null | undefined): void => {
      this.#saslHostName = hostName ?? '';
    };
    const plain = (): RheaMechanism => {
      const handlers = this.#handlers;
      const refused = (): void => void setImmediate(() => this.#stream.end());
      return {
        outcome: undefined,
        username: undefined,
        async start(response, hostName) {
          noteHostName(hostName);
          // authzid NUL authcid NUL password (RFC 4616, 2).
          const [, userName, password, ...rest] = Buffer.from(response ?? [])
            .toString('utf8')
            .split('\0');
          const isWellFormed = userName !== undefined && password !== undefined && rest.length === 0;
          this.outcome = isWellFormed && (await handlers.plain(userName, password, hostName ?? ''));
          if (!this.outcome) refused();
        },
      };
    };
    const table = { MSSBCBS: later, ANONYMOUS: later, EXTERNAL: later, PLAIN: plain };
    return Object.assign(Object.create(null) as Record<string, () => RheaMechanism>, table);
  }

  #listen(): void {
    const rhea = this.#rhea;
    const ignore = (): void => {};
    const malformed = (error: unknown): void => this.#fault('malformed', errorText(error));
    for (const name of ['connection_error', 'session_error', 'receiver_error', 'sender_error', 'disconnected']) {
      rhea.on(name, ignore);
    }
    rhea.on('error', malformed);
    rhea.on('protocol_error', malformed);
    rhea.on('connection_open', () => this.#opened());
    rhea.on('connection_close', () => {
      this.#isOrderly = true;
      if (this.#state === 'open') this.#state = 'closing';
      this.#endLinks();
      this.#cancelDestroy ??= this.#options.clock.after(CLOSE_MS, () => this.destroy());
    });
    rhea.on('session_open', ({ session }) => this.#sessionOpened(session));
    rhea.on('session_close', ({ session }) => this.#endSession(session));
    rhea.on('receiver_open', ({ receiver }) => this.#linkOpened(receiver));
    rhea.on('sender_open', ({ sender }) => this.#linkOpened(sender));
    rhea.on('receiver_close', ({ receiver }) => this.#linkGone(receiver));
    rhea.on('sender_close', ({ sender }) => this.#linkGone(sender));
    rhea.on('message', ({ receiver, delivery, message }) => {
      const link = this.#linkOf(receiver);
      if (link?.role === 'receiver' && link.isOpen) link.deliver(delivery, message);
    });
    rhea.on('sender_flow', ({ sender }) => this.#wake(sender));
    rhea.on('sender_draining', ({ sender }) => {
      const link = this.#linkOf(sender);
      if (link?.role === 'sender') link.drain();
    });
    for (const outcome of ['accepted', 'rejected', 'released', 'modified'] as const) {
      rhea.on(outcome, (context) => this.#outcome(context, outcome));
    }
    // Settled without an outcome: it was not taken.
    rhea.on('settled', (context) => this.#outcome(context, 'released'));
  }

  #opened(): void {
    const { open } = this.#rhea.remote;
    if (open === undefined || this.#state !== 'new') return;
    this.#state = 'open';
    const { max_frame_size: frameBytes, idle_time_out: idleMs } = open;
    if (typeof frameBytes === 'number' && frameBytes < MIN_FRAME_BYTES) {
      this.#fault('frame_size', `max-frame-size ${frameBytes} is below ${MIN_FRAME_BYTES}`);
      return;
    }
    if (typeof idleMs === 'number' && idleMs > 0 && idleMs < MIN_IDLE_MS) open.idle_time_out = MIN_IDLE_MS;
    this.#handlers.onOpen(this);
  }

  #sessionOpened(rhea: RheaSession): void {
    if (this.#sessions.size >= this.#options.maxSessions) {
      this.#fault('too_many_sessions', `more than ${this.#options.maxSessions} sessions`);
      return;
    }
    this.#sessionCount += 1;
    const session: Session = { number: this.#sessionCount, rhea, links: new Map(), isRoomWanted: false };
    this.#sessions.set(rhea, session);
    const transfer = rhea.on_transfer.bind(rhea);
    rhea.on_transfer = (frame) => {
      if (this.#admits(session, frame)) transfer(frame);
    };
    const disposition = rhea.on_disposition.bind(rhea);
    rhea.on_disposition = (frame) => {
      const { first, last } = frame.performative;
      if ((last ?? 0) - (first ?? 0) > MAX_RANGE) throw new RangeError('a disposition of too many deliveries');
      disposition(frame);
    };
    const [detach, end] = [rhea.on_detach.bind(rhea), rhea.on_end.bind(rhea)];
    /** The library tells what became of messages when all that came with it is read, and the link would be gone. */
    const tellOutcomes = (): void => {
      if (rhea.outgoing.updated.length > 0) rhea._process();
    };
    rhea.on_detach = (frame) => {
      tellOutcomes();
      detach(frame);
    };
    rhea.on_end = (frame) => {
      tellOutcomes();
      end(frame);
    };
    const process = rhea._process.bind(rhea);
    rhea._process = () => {
      process();
      if (!session.isRoomWanted || roomOf(rhea) < 1) return;
      session.isRoomWanted = false;
      setImmediate(() => this.#wakeSession(session));
    };
  }

  /** Whether the library may have a frame of a message. What it does not get is counted for it. */
  #admits({ links, rhea }: Session, { performative, payload }: RheaFrame): boolean {
    const { handle, delivery_id: deliveryId, more } = performative;
    const known = rhea.remote.handles[handle ?? -1];
    const link = known === undefined ? undefined : links.get(known);
    if (link?.role !== 'receiver') return true;
    if (link.isOpen) {
      const { maxMessageBytes } = this.#options;
      let refusal: AmqpError | undefined;
      let fault: AmqpFault = 'credit';
      if (link.isBetween && link.credit < 1) {
        refusal = { condition: 'amqp:link:transfer-limit-exceeded', description: 'A message came without credit.' };
      } else if (link.count(payload?.byteLength ?? 0) > maxMessageBytes) {
        fault = 'message_too_large';
        const description = `A message has at most ${maxMessageBytes} bytes.`;
        refusal = { condition: 'amqp:link:message-size-exceeded', description };
      }
      if (refusal === undefined) return true;
      this.#handlers.onFault(fault, refusal.description ?? '');
      link.close(refusal);
    }
    link.skip(deliveryId, more ?? false);
    this.#rhea._register();
    return false;
  }

  #linkOpened(rhea: RheaLink | undefined): void {
    const session = rhea === undefined ? undefined : this.#sessions.get(rhea.session);
    if (rhea === undefined || session === undefined || !this.isOpen) return;
    if (this.#linkCount >= this.#options.maxLinks) {
      this.#fault('too_many_links', `more than ${this.#options.maxLinks} links`);
      return;
    }
    this.#linkCount += 1;
    const link = rhea.is_receiver()
      ? new ServerReceiver(this, rhea, session.number)
      : new ServerSender(this, rhea, session.number);
    session.links.set(rhea, link);
    this.#handlers.onLink(link);
  }

  #linkOf(rhea: RheaLink | undefined): ServerReceiver | ServerSender | undefined {
    return rhea === undefined ? undefined : this.#sessions.get(rhea.session)?.links.get(rhea);
  }

  /** The peer has closed it, or has answered that we did: no more frames of it come. */
  #linkGone(rhea: RheaLink | undefined): void {
    const link = this.#linkOf(rhea);
    if (rhea === undefined || link === undefined) return;
    this.#sessions.get(rhea.session)?.links.delete(rhea);
    this.#linkCount -= 1;
    // The library does this later, when the peer may have given the handle to its next link.
    const { handles } = rhea.session.remote;
    const { handle } = rhea.remote;
    if (handle !== undefined && handles[handle] === rhea) delete handles[handle];
    rhea.remote.handle = undefined;
    link.ended();
  }

  #outcome({ sender, delivery }: RheaContext, outcome: 'accepted' | 'rejected' | 'released' | 'modified'): void {
    const link = this.#linkOf(sender);
    if (link?.role === 'sender') link.outcome(delivery, outcome);
  }

  #wake(rhea: RheaLink | undefined): void {
    const link = this.#linkOf(rhea);
    if (link?.role === 'sender' && link.isOpen) link.onCapacity();
  }

  #wakeSession({ links }: Session): void {
    for (const rhea of links.keys()) this.#wake(rhea);
  }

  #wakeAll(): void {
    for (const session of this.#sessions.values()) this.#wakeSession(session);
  }

  #endSession(rhea: RheaSession): void {
    const session = this.#sessions.get(rhea);
    if (session === undefined) return;
    this.#sessions.delete(rhea);
    this.#linkCount -= session.links.size;
    for (const link of session.links.values()) link.ended();
  }

  #endLinks(): void {
    for (const rhea of this.#sessions.keys()) this.#endSession(rhea);
  }

  #fault(reason: AmqpFault, detail: string): void {
    if (this.#isDeaf) return;
    this.#isDeaf = true;
    this.#handlers.onFault(reason, detail);
    const condition = CONDITIONS[reason];
    this.close({ condition, description: detail });
    // Nothing that it still sends is read.
    setImmediate(() => this.#stream.end());
    this.#stream.resume();
  }

  #ended(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#cancelDestroy?.();
    this.#endLinks();
    // Stops the timers of the library.
    this.#rhea.eof();
    this.#handlers.onClosed(this, this.#isOrderly);
  }
}

const CONDITIONS: Readonly<Record<AmqpFault, string>> = {
  frame_size: 'amqp:connection:framing-error',
  malformed: 'amqp:decode-error',
  too_many_sessions: 'amqp:resource-limit-exceeded',
  too_many_links: 'amqp:resource-limit-exceeded',
  message_too_large: 'amqp:link:message-size-exceeded',
  credit: 'amqp:link:transfer-limit-exceeded',
};
