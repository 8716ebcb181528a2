// TCP connections with the errors of Fieldpost.

import { connect, type Socket } from 'node:net';
import { errorText, GatewayError } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';

export interface TcpOptions {
  readonly host: string;
  readonly port: number;
  /** Name lookup and handshake together. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Idle time before the system probes a silent peer. */
const KEEP_ALIVE_MS = 30_000;

/**
 * Connects, without Nagle's delay: small messages with acknowledgements would otherwise wait for each other.
 * @throws GatewayError GW_CONNECT with the system's code as cause, GW_TIMEOUT, GW_ABORTED.
 */
export function connectTcp({ host, port, timeoutMs, signal }: TcpOptions): Promise<Socket> {
  return new Promise<Socket>((resolve, reject) => {
    if (signal.aborted) {
      reject(abortError(signal));
      return;
    }
    const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
    const end = (error: GatewayError): void => {
      settle();
      // A late error of a socket given up must not become an uncaught exception.
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => end(abortError(signal));
    const onError = (error: Error): void =>
      end(new GatewayError('GW_CONNECT', `${host}:${port} cannot be reached: ${reasonOf(error)}.`, { cause: error }));
    const onTimeout = (): void =>
      end(new GatewayError('GW_TIMEOUT', `${host}:${port} did not answer within ${timeoutMs} ms.`));
    const settle = (): void => {
      socket.setTimeout(0);
      socket.off('timeout', onTimeout);
      socket.off('error', onError);
      socket.off('connect', onConnect);
      signal.removeEventListener('abort', onAbort);
    };
    const onConnect = (): void => {
      settle();
      resolve(socket);
    };
    socket.setTimeout(timeoutMs, onTimeout);
    socket.on('error', onError);
    socket.on('connect', onConnect);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there (connection refused)',
  EHOSTUNREACH: 'there is no route to the host',
  ENETUNREACH: 'there is no network',
  ENOTFOUND: 'the name is not known; check the host name and the DNS servers',
  EAI_AGAIN: 'the name could not be looked up now; DNS does not answer',
  ETIMEDOUT: 'it does not answer',
  ECONNRESET: 'it closed the connection',
  EACCES: 'the system does not allow it',
};

/** A system error in words for a person. */
function reasonOf(error: unknown): string {
  // With several addresses behind a name, Node gives an AggregateError whose own message is empty.
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const code = (first as { code?: unknown }).code;
  return (typeof code === 'string' ? REASONS[code] : undefined) ?? errorText(first);
}
