// The client side of AMQP 1.0 on the `rhea` library: one object for one connection. The library's own reconnecting, heartbeats
// and resending are off: the outbox resends, nobody else.

import type { Duplex } from 'node:stream';
import { errorText, GatewayError } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';
import { ClientReceiver, ClientSender, type ClientLinkHost } from './amqp-client-link.ts';
import type {
  AmqpClient,
  AmqpClientReceiver,
  AmqpClientSender,
  AmqpClientSession,
  AmqpClosed,
  AmqpConnectOptions,
  AmqpReceiverOptions,
  AmqpSasl,
  AmqpSenderOptions,
} from './amqp-client-types.ts';
import { ClientSession } from './amqp-client-session.ts';
import { frameSizeCheck } from './amqp-frames.ts';
import { errorOf, recordOf } from './amqp-incoming.ts';
import { loadRhea, type RheaConnection, type RheaLibrary } from './amqp-rhea.ts';
import { librarySocket } from './amqp-socket.ts';
import type { AmqpError } from './amqp-types.ts';
import { coalesceWrites } from './coalesce.ts';
import { isTlsFailure, tlsError } from './tls.ts';
import { openWebSocket } from './web-socket-client.ts';

const MAX_FRAME_BYTES = 65_536;
/** Smallest frame that a peer may ask for (2.4.1). */
const MIN_FRAME_BYTES = 512;
/** Messages of one session from the peer that are not settled. */
const INCOMING_WINDOW = 2048;
/** Messages to the peer of a session with several links that are not settled. */
const SHARED_WINDOW = 2048;
const MAX_CHANNEL = 65_535;
/** Longest wait for an orderly end. */
const END_MS = 500;
/** A peer may not make us send empty frames more often than this allows. */
const MIN_IDLE_MS = 1000;
/** Looks for a silent peer within its time; counted, because a process that was suspended has read nothing either. */
const SILENCE_LOOKS = 4;
/** In OPEN of a peer that is about to close with a reason (2.4.6). */
const REFUSED_PROPERTY = 'amqp:connection-establishment-failed';
/** Outcomes of SASL (5.3.3.6): the credentials, and what is no matter of them. */
const SASL_OK = 0;
const SASL_AUTH = 1;

/**
 * Speaks AMQP on a connected socket.
 * @throws GatewayError what `refused` gives for a CLOSE; GW_UNAUTHORIZED, GW_TIMEOUT, GW_DISCONNECTED, GW_TLS, GW_PROTOCOL,
 * GW_ABORTED. The socket is destroyed then.
 */
export async function connectAmqp(options: AmqpConnectOptions): Promise<AmqpClient> {
  const { clock, signal, socket, webSocket, timeoutMs } = options;
  if (signal.aborted) {
    socket.destroy();
    throw abortError(signal);
  }
  // Loaded with the first connection, so that a gateway without AMQP does not pay for it.
  const library = await loadRhea();
  const stream =
    webSocket === undefined
      ? socket
      : await openWebSocket({
          protocol: 'amqp',
          ...webSocket,
          socket,
          target: options.target,
          timeoutMs,
          signal,
          clock,
        });
  return new ClientConnection(library, stream, options).opened;
}

class ClientConnection implements AmqpClient, ClientLinkHost {
  readonly library: RheaLibrary;
  readonly opened: Promise<AmqpClient>;
  readonly closed: Promise<AmqpClosed>;
  readonly #options: AmqpConnectOptions;
  readonly #stream: Duplex;
  readonly #rhea: RheaConnection;
  readonly #isSound = frameSizeCheck(MAX_FRAME_BYTES);
  readonly #senders = new Set<ClientSender>();
  readonly #ready = Promise.withResolvers<AmqpClient>();
  readonly #ended = Promise.withResolvers<AmqpClosed>();
  /** Sessions that the peer has not ended yet. */
  #sessions = 0;
  #isOpen = false;
  #isOver = false;
  #why: AmqpClosed | undefined;
  /** Why it did not open, where more is known than that it ended. */
  #failure: GatewayError | undefined;
  #cause: unknown;
  /** Looks in a row that found nothing read. */
  #silentLooks = 0;
  #hasWritten = false;
  readonly #cancels = new Map<'handshake' | 'silence' | 'beat' | 'end', () => void>();

  constructor(library: RheaLibrary, stream: Duplex, options: AmqpConnectOptions) {
    this.library = library;
    this.#options = options;
    this.#stream = stream;
    this.opened = this.#ready.promise;
    this.closed = this.#ended.promise;
    coalesceWrites(stream);
    const container = library.create_container({ id: options.containerId });
    container.on('error', () => {});
    const { hostName, idleTimeoutMs, sasl } = options;
    this.#rhea = container.create_connection({
      container_id: options.containerId,
      hostname: hostName,
      sasl_init_hostname: hostName,
      max_frame_size: MAX_FRAME_BYTES,
      channel_max: MAX_CHANNEL,
      idle_time_out: Math.floor(idleTimeoutMs / 2),
      reconnect: false,
      ...(sasl.mechanism !== 'NONE' && { sasl_mechanisms: mechanismOf(sasl) }),
      connect: (_port: unknown, _host: unknown, _options: unknown, connected: () => void) => {
        setImmediate(connected);
        return librarySocket(
          stream,
          (chunk) => this.#admits(chunk),
          () => {
            this.#hasWritten = true;
          },
        );
      },
    });
    this.#listen();
    this.#rhea.connect();
    // A socket that came through a proxy is paused.
    stream.resume();
    this.#guardSasl();
  }

  get maxLinks(): number {
    const { channel_max: channelMax } = this.#rhea.remote.open ?? {};
    // Those that are ending still count.
    return Math.min(MAX_CHANNEL, typeof channelMax === 'number' ? channelMax : MAX_CHANNEL) + 1 - this.#sessions;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get isCongested(): boolean {
    return this.#stream.writableNeedDrain;
  }

  openSender(options: AmqpSenderOptions): AmqpClientSender {
    return this.#openSender(this.#session(2 * options.window, false), options);
  }

  openReceiver(options: AmqpReceiverOptions): AmqpClientReceiver {
    return new ClientReceiver(this, this.#session(1, false), options);
  }

  openSession(): AmqpClientSession {
    const session = this.#session(SHARED_WINDOW, true);
    return {
      get isOver() {
        return session.isOver;
      },
      openSender: (options) => this.#openSender(session, options),
      openReceiver: (options) => new ClientReceiver(this, session, options),
      close: () => session.close(),
    };
  }

  fault(detail: string): void {
    this.destroy(`${this.#options.target} broke the protocol: ${detail}.`);
  }

  async end(): Promise<void> {
    this.#why ??= { reason: 'Closed by Fieldpost.' };
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#rhea.close();
      this.#after('end', END_MS, () => this.#stream.destroy());
    } else if (!this.#isOver && !this.#cancels.has('end')) this.#stream.destroy();
    await this.closed;
  }

  destroy(reason: string): void {
    this.#why ??= { reason };
    this.#isOpen = false;
    this.#stream.destroy();
  }

  #openSender(session: ClientSession, options: AmqpSenderOptions): AmqpClientSender {
    const sender = new ClientSender(this, session, options);
    this.#senders.add(sender);
    session.rhea.on('session_close', () => this.#senders.delete(sender));
    return sender;
  }

  #session(outgoing: number, isShared: boolean): ClientSession {
    const session = this.#rhea.create_session({ outgoing, incoming: INCOMING_WINDOW });
    this.#sessions += 1;
    session.on('session_open', () => {});
    session.on('session_close', () => {
      this.#sessions -= 1;
    });
    return new ClientSession(session, isShared);
  }

  #after(name: 'handshake' | 'silence' | 'beat' | 'end', ms: number, callback: () => void): void {
    this.#cancels.get(name)?.();
    this.#cancels.set(name, this.#options.clock.after(ms, callback));
  }

  #admits(chunk: Buffer): boolean {
    this.#silentLooks = 0;
    if (this.#isSound(chunk)) return true;
    this.fault('a frame is larger than agreed, or it does not speak AMQP 1.0');
    return false;
  }

  #listen(): void {
    const { signal, target, timeoutMs } = this.#options;
    const rhea = this.#rhea;
    const ignore = (): void => {};
    const malformed = (error: unknown): void => this.fault(errorText(error));
    for (const name of ['connection_error', 'disconnected']) rhea.on(name, ignore);
    rhea.on('error', malformed);
    rhea.on('protocol_error', malformed);
    rhea.on('connection_open', () => this.#remoteOpened());
    rhea.on('connection_close', () => this.#remoteClosed());
    // Peers have nothing to open here.
    rhea.on('sender_open', () => this.fault('it attached a link of its own'));
    rhea.on('receiver_open', () => this.fault('it attached a link of its own'));
    rhea.on('session_open', () => this.fault('it began a session of its own'));
    const onAbort = (): void => this.#fail(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    this.opened.catch(ignore).finally(() => signal.removeEventListener('abort', onAbort));
    this.#after('handshake', timeoutMs, () => {
      this.#fail(new GatewayError('GW_TIMEOUT', `${target} did not answer the AMQP OPEN within ${timeoutMs} ms.`));
    });
    this.#stream.on('error', (error: Error) => {
      this.#cause = error;
      this.#why ??= { reason: errorText(error) };
    });
    this.#stream.on('drain', () => {
      for (const sender of this.#senders) sender.wake();
    });
    this.#stream.once('close', () => this.#gone());
  }

  /** The library tells a refusal by its text alone, and leaves what stands behind the outcome in the same read lying. */
  #guardSasl(): void {
    const { sasl_transport: sasl } = this.#rhea;
    if (sasl === undefined) return;
    const { target, sasl: wanted } = this.#options;
    const [onMechanisms, onOutcome] = [sasl.on_sasl_mechanisms.bind(sasl), sasl.on_sasl_outcome.bind(sasl)];
    sasl.on_sasl_mechanisms = (frame) => {
      const offered = [frame.performative.sasl_server_mechanisms].flat().map(String);
      if (offered.includes(wanted.mechanism)) onMechanisms(frame);
      else {
        const names = offered.join(', ').slice(0, 200);
        const text = `${target} does not take SASL ${wanted.mechanism}; it offers ${names}. See \`sasl\`.`;
        this.#fail(new GatewayError('GW_UNAUTHORIZED', text));
      }
    };
    sasl.on_sasl_outcome = (frame) => {
      const { code } = frame.performative;
      if (code === SASL_OK) {
        onOutcome(frame);
        setImmediate(() => this.#rhea.input(Buffer.alloc(0)));
      } else if (code === SASL_AUTH) {
        this.#fail(
          new GatewayError('GW_UNAUTHORIZED', `${target} refused the credentials (SASL ${wanted.mechanism}).`),
        );
      } else {
        const text = `${target} could not check the credentials (SASL outcome ${String(code)}).`;
        this.#fail(new GatewayError('GW_PROTOCOL', text));
      }
    };
  }

  #remoteOpened(): void {
    const { open } = this.#rhea.remote;
    if (open === undefined || this.#isOver) return;
    if (REFUSED_PROPERTY in recordOf(open.properties)) return;
    const { idle_time_out: idleMs, max_frame_size: frameBytes } = open;
    if (typeof frameBytes === 'number' && frameBytes < MIN_FRAME_BYTES) {
      this.fault(`max-frame-size ${frameBytes} is below ${MIN_FRAME_BYTES}`);
      return;
    }
    // Both are watched here: the library renews a timer with every frame, and does not look while half a frame is there.
    open.idle_time_out = null;
    this.#rhea.local.open.idle_time_out = null;
    if (typeof idleMs === 'number' && idleMs > 0) this.#beat(Math.max(idleMs, MIN_IDLE_MS) / 3);
    this.#watchSilence();
    this.#isOpen = true;
    this.#cancels.get('handshake')?.();
    this.#ready.resolve(this);
  }

  #remoteClosed(): void {
    const error = errorOf(this.#rhea.error);
    this.#isOpen = false;
    this.#why ??= { reason: closeReason(error), ...(error !== undefined && { error }) };
    this.#failure ??= this.#options.refused(error);
    // The library answers in the next turn.
    setImmediate(() => this.#stream.end());
    this.#after('end', END_MS, () => this.#stream.destroy());
  }

  #beat(everyMs: number): void {
    this.#after('beat', everyMs, () => {
      if (!this.#hasWritten) this.#rhea._write_frame();
      this.#hasWritten = false;
      if (!this.#isOver) this.#beat(everyMs);
    });
  }

  #watchSilence(): void {
    const { idleTimeoutMs, target } = this.#options;
    this.#after('silence', idleTimeoutMs / SILENCE_LOOKS, () => {
      this.#silentLooks += 1;
      if (this.#silentLooks > SILENCE_LOOKS) this.destroy(`${target} was silent for ${idleTimeoutMs} ms.`);
      else if (!this.#isOver) this.#watchSilence();
    });
  }

  #fail(error: GatewayError): void {
    this.#failure ??= error;
    this.#stream.destroy();
  }

  #gone(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#isOpen = false;
    for (const cancel of this.#cancels.values()) cancel();
    // Stops the timers of the library.
    this.#rhea.eof();
    this.#ready.reject(this.#failure ?? this.#handshakeError());
    this.#ended.resolve(this.#why ?? { reason: 'The connection was closed by the peer.' });
  }

  #handshakeError(): GatewayError {
    const { target } = this.#options;
    // With TLS 1.3 a refused client certificate shows only now.
    if (isTlsFailure(this.#cause)) return tlsError(this.#cause, target);
    if (this.#why !== undefined) return new GatewayError('GW_PROTOCOL', this.#why.reason, { cause: this.#cause });
    return new GatewayError('GW_DISCONNECTED', `${target} closed the connection instead of answering the AMQP OPEN.`);
  }
}

function closeReason(error: AmqpError | undefined): string {
  return error === undefined
    ? 'The connection was closed by the peer.'
    : `${error.condition} ${error.description ?? ''}`;
}

/** A table without the names of objects in general, in which the library looks up what the peer offers. */
function mechanismOf(sasl: AmqpSasl): object {
  const response =
    sasl.mechanism === 'PLAIN'
      ? // authzid NUL authcid NUL password (RFC 4616, 2).
        Buffer.from(`\0${sasl.username}\0${sasl.password}`)
      : Buffer.alloc(0);
  const mechanism = {
    start: (callback: (error: undefined, response: Buffer) => void) => callback(undefined, response),
    step: (_challenge: unknown, callback: (error: undefined, response: Buffer) => void) => {
      callback(undefined, Buffer.alloc(0));
    },
  };
  return Object.assign(Object.create(null) as object, { [sasl.mechanism]: mechanism });
}
