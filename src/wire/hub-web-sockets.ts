// WebSockets of the local hub: `/$iothub/websocket` for MQTT and AMQP, `/$servicebus/websocket` for AMQP (contract/device-auth.md,
// section 1; contract/service-00-index.md, section 3).

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, WebSocketServer, type WebSocket } from 'ws';
import { LIMITS } from '../core/limits.ts';

const IOTHUB_PATH = '/$iothub/websocket';
const SERVICEBUS_PATH = '/$servicebus/websocket';

/** The path in its own spelling; a query, which SDKs for Java send, does not matter. */
export function webSocketPath(url: string): string | undefined {
  const path = url
    .replace(/[?#].*$/s, '')
    .replaceAll(/%24/g, '$')
    .replace(/\/$/, '')
    .toLowerCase();
  return path === IOTHUB_PATH || path === SERVICEBUS_PATH ? path : undefined;
}

/** SDKs for C say `MQTT`, others `mqtt`; AMQP is `AMQPWSB10`. */
function protocolOf(name: string): 'mqtt' | 'amqp' | undefined {
  const lower = name.toLowerCase();
  return lower === 'mqtt' ? 'mqtt' : lower === 'amqpwsb10' ? 'amqp' : undefined;
}

/** What a client wants to speak, where that is served on its path. */
export function offeredProtocol(request: IncomingMessage, path: string | undefined): 'mqtt' | 'amqp' | undefined {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const protocol = offered.map(protocolOf).find((known) => known !== undefined);
  return protocol === 'mqtt' && path !== IOTHUB_PATH ? undefined : protocol;
}

/** Its bytes. Ends and errors are those of the stream. */
export function streamOf(socket: WebSocket): Duplex {
  // Both bindings are of binary frames only (OASIS MQTT 3.1.1, section 6; AMQP WebSocket binding, 2.2).
  socket.on('message', (_data, isBinary) => {
    if (!isBinary) socket.close(1003);
  });
  const stream = createWebSocketStream(socket);
  // It reads its end when the WebSocket is closed, and would wait for a flush that a broken connection never makes.
  stream.once('end', () => stream.destroy());
  return stream;
}

/** Makes WebSockets of requests that were accepted; the sub-protocol is echoed in the client's spelling. */
export function createWebSockets(): WebSocketServer {
  return new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => [...offered].find((name) => protocolOf(name) !== undefined) ?? false,
    perMessageDeflate: false,
    maxPayload: LIMITS.hub_websocket_bytes,
  });
}
