// A way through an HTTP proxy by the CONNECT method (RFC 9110, 9.3.6).

import type { Socket } from 'node:net';
import { GatewayError } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';
import { connectTcp } from './tcp.ts';

export interface ProxyOptions {
  readonly proxyHost: string;
  readonly proxyPort: number;
  /** For Basic authentication (RFC 7617). */
  readonly username?: string;
  readonly password?: string;
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** No proxy's answer to CONNECT is longer; more is not HTTP. */
const ANSWER_MAX_BYTES = 16_384;

/**
 * Connects to a host through a proxy.
 * @throws GatewayError GW_CONNECT (the proxy, or the host beyond it, cannot be reached), GW_UNAUTHORIZED (403, 407),
 *   `details.isForTarget` where others may be allowed, GW_TIMEOUT, GW_PROTOCOL, GW_DISCONNECTED, GW_ABORTED.
 */
export async function connectThroughProxy(options: ProxyOptions): Promise<Socket> {
  const { host, port, proxyHost, proxyPort, signal, timeoutMs } = options;
  const socket = await connectTcp({ host: proxyHost, port: proxyPort, timeoutMs, signal });
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const lines = [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`];
  if (options.username !== undefined) {
    const credentials = Buffer.from(`${options.username}:${options.password ?? ''}`, 'utf8').toString('base64');
    lines.push(`Proxy-Authorization: Basic ${credentials}`);
  }
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  try {
    const head = await readHead(socket, options);
    judge(head, `${proxyHost}:${proxyPort}`, target);
    return socket;
  } catch (error) {
    socket.on('error', () => {});
    socket.destroy();
    throw error;
  }
}

/** Reads up to the empty line; bytes beyond it go back to the socket. */
function readHead(socket: Socket, { proxyHost, signal, timeoutMs }: ProxyOptions): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    let received = Buffer.alloc(0);
    const onData = (data: Buffer): void => {
      received = Buffer.concat([received, data]);
      const end = received.indexOf('\r\n\r\n');
      if (end === -1) {
        if (received.byteLength > ANSWER_MAX_BYTES) {
          fail(new GatewayError('GW_PROTOCOL', `The proxy ${proxyHost} does not answer in HTTP.`));
        }
        return;
      }
      settle();
      socket.pause();
      const rest = received.subarray(end + 4);
      if (rest.byteLength > 0) socket.unshift(rest);
      resolve(received.subarray(0, end).toString('latin1'));
    };
    const fail = (error: GatewayError): void => {
      settle();
      reject(error);
    };
    const onAbort = (): void => fail(abortError(signal));
    const onClose = (): void =>
      fail(new GatewayError('GW_DISCONNECTED', `The proxy ${proxyHost} closed the connection without an answer.`));
    const onError = (error: Error): void =>
      fail(new GatewayError('GW_DISCONNECTED', `The proxy ${proxyHost} broke the connection.`, { cause: error }));
    const onTimeout = (): void =>
      fail(new GatewayError('GW_TIMEOUT', `The proxy ${proxyHost} did not answer within ${timeoutMs} ms.`));
    const settle = (): void => {
      socket.setTimeout(0);
      socket.off('data', onData).off('close', onClose).off('error', onError).off('timeout', onTimeout);
      signal.removeEventListener('abort', onAbort);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    socket.setTimeout(timeoutMs, onTimeout);
    socket.on('data', onData).on('close', onClose).on('error', onError);
  });
}

/** @throws GatewayError unless the status is 2xx. */
function judge(head: string, proxy: string, target: string): void {
  const match = /^HTTP\/1\.[01] (?<status>\d{3})(?: (?<phrase>[^\r\n]{0,80}))?/.exec(head);
  const status = Number(match?.groups?.['status']);
  if (match === null || Number.isNaN(status)) {
    throw new GatewayError('GW_PROTOCOL', `The proxy ${proxy} does not answer in HTTP.`);
  }
  if (status >= 200 && status < 300) return;
  const answer = `${status} ${match.groups?.['phrase'] ?? ''}`.trim();
  if (status === 407) {
    throw new GatewayError('GW_UNAUTHORIZED', `The proxy ${proxy} refused the credentials (${answer}).`);
  }
  if (status === 403) {
    const text = `The proxy ${proxy} does not allow ${target} (${answer}).`;
    throw new GatewayError('GW_UNAUTHORIZED', text, { details: { isForTarget: true } });
  }
  throw new GatewayError('GW_CONNECT', `The proxy ${proxy} cannot reach ${target} (${answer}).`);
}
