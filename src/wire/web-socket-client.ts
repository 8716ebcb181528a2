// The client side of a WebSocket on a socket that is connected already.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';
import type { WebSocketPlace } from './broker-address.ts';
import { streamOf } from './hub-web-sockets.ts';

export interface WebSocketOptions extends WebSocketPlace {
  readonly socket: Socket;
  /** The sub-protocol. */
  readonly protocol: string;
  /** For messages to people. */
  readonly target: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** @throws GatewayError GW_UNAUTHORIZED, GW_PROTOCOL, GW_TIMEOUT, GW_DISCONNECTED, GW_ABORTED; the socket is destroyed then. */
export function openWebSocket(options: WebSocketOptions): Promise<Duplex> {
  const { clock, host, path, protocol, signal, socket, target, timeoutMs } = options;
  // One that came through a proxy is paused; nothing comes before the request.
  socket.resume();
  return new Promise<Duplex>((resolve, reject) => {
    const webSocket = new WebSocket(`ws://${host}${path}`, protocol, {
      createConnection: () => socket,
      perMessageDeflate: false,
    });
    const settle = (): void => {
      cancelTimeout();
      signal.removeEventListener('abort', onAbort);
    };
    const fail = (error: GatewayError): void => {
      settle();
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(abortError(signal));
    // The library's own needs a socket that it has made itself.
    const cancelTimeout = clock.after(timeoutMs, () => {
      const text = `${target} did not answer the WebSocket upgrade within ${timeoutMs} ms.`;
      fail(new GatewayError('GW_TIMEOUT', text));
    });
    signal.addEventListener('abort', onAbort, { once: true });
    webSocket.on('unexpected-response', (_request, response) => {
      const code = response.statusCode === 401 || response.statusCode === 403 ? 'GW_UNAUTHORIZED' : 'GW_PROTOCOL';
      const text = `${target} refused the WebSocket at ${path} (${response.statusCode ?? 0}).`;
      // Nothing in the request says who asks: it is the sub-protocol or the path that is not allowed.
      fail(new GatewayError(code, text, { details: { isForTarget: true } }));
    });
    webSocket.on('error', (error) => {
      fail(
        new GatewayError('GW_DISCONNECTED', `${target} opened no WebSocket: ${errorText(error)}.`, { cause: error }),
      );
    });
    webSocket.on('open', () => {
      settle();
      resolve(streamOf(webSocket));
    });
  });
}
