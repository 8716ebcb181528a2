// TCP and TLS links: no delay, keepalive, a limit on the time to connect.

import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, createSecureContext } from 'node:tls';
import {
  abortError,
  type Clock,
  errorText,
  GatewayError,
  isTlsFailure,
  type Link,
  type LinkEvents,
  type LinkOpener,
  systemCode,
  tlsError,
} from '#sdk';
import { disconnectedFault } from './faults.ts';

/** Idle time before the system's first keepalive probe; half-open connections are found by timeouts sooner. */
const KEEPALIVE_MS = 15_000;

/** PEM texts of a Modbus/TCP Security connection (MODBUS/TCP Security Protocol Specification V36). */
export interface TlsSettings {
  readonly ca?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  /** Name that the server's certificate must carry; default: the host. */
  readonly serverName?: string | undefined;
}

export interface TcpLinkOptions {
  readonly host: string;
  readonly port: number;
  readonly connectTimeoutMs: number;
  readonly tls?: TlsSettings | undefined;
  readonly clock: Clock;
}

export function tcpLink(options: TcpLinkOptions): LinkOpener {
  const host = isIP(options.host) === 6 ? `[${options.host}]` : options.host;
  const target = `${options.tls === undefined ? 'tcp' : 'tls'}://${host}:${options.port}`;
  return {
    target,
    charMs: 0,
    isCurrent: () => Promise.resolve(true),
    async open(events, signal) {
      const tls = options.tls === undefined ? undefined : tlsOptions(options.tls, options.host, target);
      signal.throwIfAborted();
      const socket = connect(options, tls);
      await connected(socket, tls === undefined ? 'connect' : 'secureConnect', target, options, signal);
      return new SocketLink(socket, events, target);
    },
  };
}

function connect({ host, port }: TcpLinkOptions, tls: ConnectionOptions | undefined): Socket {
  // One question and one answer at a time: waiting to fill a packet (Nagle) costs up to 40 ms an exchange.
  const common = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS };
  return tls === undefined ? connectTcp(common) : connectTls({ ...common, ...tls });
}

function tlsOptions(tls: TlsSettings, host: string, target: string): ConnectionOptions {
  const { ca, certificate: cert, key } = tls;
  const servername = tls.serverName ?? (isIP(host) === 0 ? host : undefined);
  try {
    return {
      secureContext: createSecureContext({
        // The specification asks for TLS 1.2 at least and for certificates on both sides.
        minVersion: 'TLSv1.2',
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
      }),
      ...(servername === undefined ? {} : { servername }),
    };
  } catch (error) {
    throw tlsFault(`${target}: ca, certificate or key cannot be used (${errorText(error)}).`, error);
  }
}

function tlsFault(text: string, cause: unknown): GatewayError {
  return new GatewayError('GW_TLS', text, { cause, details: { reason: 'disconnected' } });
}

/** Resolves when the socket is connected; else destroys it and rejects. */
function connected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  target: string,
  { connectTimeoutMs, clock }: TcpLinkOptions,
  signal: AbortSignal,
): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const finish = (error?: GatewayError): void => {
      cancel();
      signal.removeEventListener('abort', onAbort);
      socket.off('error', onError).off(event, onConnected).off('close', onClose);
      if (error === undefined) return resolve();
      // A destroyed socket may still tell of its error.
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const onError = (error: Error): void => finish(connectFault(error, target));
    const onClose = (): void => finish(disconnectedFault(`${target} closed the connection at once.`));
    const onConnected = (): void => finish();
    const onAbort = (): void => finish(abortError(signal));
    const cancel = clock.after(connectTimeoutMs, () =>
      finish(
        new GatewayError('GW_TIMEOUT', `${target} did not take the connection within ${connectTimeoutMs} ms.`, {
          details: { reason: 'disconnected' },
        }),
      ),
    );
    socket.once('error', onError).once(event, onConnected).once('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

function connectFault(error: Error, target: string): GatewayError {
  if (isTlsFailure(error)) return tlsFault(tlsError(error, target).message, error);
  const code = systemCode(error);
  const text = `${target} cannot be reached (${code ?? errorText(error)}). Check host, port and network.`;
  return new GatewayError('GW_CONNECT', text, { cause: error, details: { reason: 'disconnected' } });
}

/** A peer that wants a certificate says so after the handshake (TLS 1.3). */
function lostFault(cause: Error | undefined, target: string): GatewayError {
  if (isTlsFailure(cause)) return disconnectedFault(tlsError(cause, target).message, cause);
  const reason = cause === undefined ? 'the peer closed it' : (systemCode(cause) ?? errorText(cause));
  return disconnectedFault(`${target}: the connection was lost (${reason}).`, cause);
}

class SocketLink implements Link {
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  #ours = false;

  constructor(socket: Socket, events: LinkEvents, target: string) {
    this.#socket = socket;
    let cause: Error | undefined;
    socket.on('data', (bytes: Buffer) => {
      if (!this.#ours) events.onData(bytes);
    });
    socket.on('error', (error) => {
      cause = error;
    });
    this.#closed = new Promise<void>((resolve) => {
      socket.once('close', () => {
        events.onClosed(this.#ours ? undefined : lostFault(cause, target));
        resolve();
      });
    });
    // It may have died between its connect and now; the event was missed then.
    if (socket.destroyed) socket.emit('close', true);
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  close(): Promise<void> {
    this.#ours = true;
    // Nothing is worth waiting for: what was not answered is asked again. `destroy` sends FIN when all was read.
    this.#socket.destroy();
    return this.#closed;
  }
}
