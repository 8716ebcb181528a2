// Where the broker listens: TCP, TLS and WebSockets. Hands over a stream for each connection.

import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, WebSocketServer } from 'ws';
import { errorText, GatewayError, systemCode } from '#sdk';
import type { MqttConfig } from './config.ts';

/** Of a path that is told. */
const PATH_CHARS = 128;

export interface Incoming {
  readonly stream: Duplex;
  /** Closes the connection at once, whatever the stream is made of. */
  readonly destroy: () => void;
  readonly remoteAddress: string;
}

/** Who failed, and at what. */
export interface HandshakeFault {
  readonly address: string | undefined;
  readonly error: string;
}

export interface ListenersOptions {
  readonly config: Pick<MqttConfig, 'listen' | 'listen_tls' | 'listen_ws' | 'max_packet_bytes'>;
  /** Asked for each TCP connection before anything else is done for it; false closes it. */
  readonly admit: (remoteAddress: string) => boolean;
  readonly connected: (incoming: Incoming) => void;
  /** A handshake failed. */
  readonly failed: (reason: 'tls_handshake' | 'websocket_handshake', cause: HandshakeFault) => void;
  /** Longest TLS or WebSocket handshake. */
  readonly handshakeMs: number;
}

export interface Listeners {
  /** For people: `mqtt://127.0.0.1:1883`. */
  readonly urls: readonly string[];
  close(): Promise<void>;
}

interface Listener {
  readonly name: 'listen' | 'listen_tls' | 'listen_ws';
  readonly scheme: string;
  readonly address: string;
  readonly port: number;
  readonly server: Server | HttpServer;
  readonly close?: () => void;
}

/** @throws GatewayError GW_PORT_IN_USE, GW_PORT_DENIED, GW_TLS. */
export async function startListeners(options: ListenersOptions): Promise<Listeners> {
  const sockets = new Set<Socket>();
  const listeners = createListeners(options);
  for (const { server } of listeners) {
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
  }
  const close = async (): Promise<void> => {
    const closed = listeners.map(
      ({ server, close: closeMore }) =>
        new Promise<void>((resolve) => {
          closeMore?.();
          server.close(() => resolve());
        }),
    );
    for (const socket of sockets) socket.destroy();
    await Promise.all(closed);
  };
  try {
    for (const listener of listeners) await listen(listener);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    urls: listeners.map(({ scheme, address, port }) => `${scheme}://${address}:${port}`),
    close,
  };
}

function createListeners(options: ListenersOptions): Listener[] {
  const { listen: plain, listen_tls: tls, listen_ws: ws } = options.config;
  const listeners: Listener[] = [];
  const start = (socket: Socket): void => hand(options, socket, socket);
  if (plain !== undefined) {
    const server = createServer({ noDelay: true }, (socket) => {
      if (isAdmitted(options, socket)) start(socket);
    });
    listeners.push({ name: 'listen', scheme: 'mqtt', ...plain, server });
  }
  if (tls !== undefined) {
    const server = secured(() => createTlsServer({ ...tlsOptions(tls, options), noDelay: true }, start));
    // The TCP connection, before its handshake.
    server.on('connection', (socket: Socket) => isAdmitted(options, socket));
    tellHandshakes(server, options);
    listeners.push({ name: 'listen_tls', scheme: 'mqtts', address: tls.address, port: tls.port, server });
  }
  if (ws !== undefined) listeners.push(webSocketListener(ws, options));
  return listeners;
}

function webSocketListener(ws: NonNullable<MqttConfig['listen_ws']>, options: ListenersOptions): Listener {
  const secure = ws.certificate !== undefined;
  const server = secure ? secured(() => createHttpsServer(tlsOptions(ws, options))) : createHttpServer();
  server.headersTimeout = options.handshakeMs;
  server.requestTimeout = options.handshakeMs;
  server.on('connection', (socket: Socket) => {
    socket.setNoDelay(true);
    isAdmitted(options, socket);
  });
  if (secure) tellHandshakes(server, options);
  const fail = (socket: Duplex, error: string): void => {
    options.failed('websocket_handshake', { address: (socket as Socket).remoteAddress, error });
  };
  server.on('request', ({ socket, method, url }, response) => {
    fail(socket, `${method} ${pathOf(url)} asks for no WebSocket`);
    response.writeHead(426, { connection: 'close', 'content-type': 'text/plain' }).end('MQTT over WebSockets only.\n');
  });
  const sockets = new WebSocketServer({
    noServer: true,
    path: ws.path,
    // MQTT 3.1.1, 6: the subprotocol is `mqtt`; clients of MQTT 3.1 say `mqttv3.1`.
    handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : offered.has('mqttv3.1') ? 'mqttv3.1' : false),
    perMessageDeflate: false,
    maxPayload: options.config.max_packet_bytes,
  });
  const refuse = (socket: Duplex, status: string, error: string): void => {
    fail(socket, error);
    socket.once('finish', () => socket.destroy());
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
  };
  sockets.on('wsClientError', (error, socket) => refuse(socket, '400 Bad Request', error.message));
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => {});
    if (!sockets.shouldHandle(request)) refuse(socket, '404 Not Found', `${pathOf(request.url)} is not ${ws.path}`);
    else {
      sockets.handleUpgrade(request, socket, head, (peer) => {
        hand(options, createWebSocketStream(peer), request.socket, () => peer.terminate());
      });
    }
  });
  return {
    name: 'listen_ws',
    scheme: secure ? 'wss' : 'ws',
    address: ws.address,
    port: ws.port,
    server,
    close: () => sockets.close(),
  };
}

/** Without the query, which may hold a secret. */
function pathOf(url = ''): string {
  return url.split('?', 1).join('').slice(0, PATH_CHARS);
}

/** TLS handshakes that fail. */
function tellHandshakes(server: Server, options: ListenersOptions): void {
  server.on('tlsClientError', (error: Error, { remoteAddress: address }: Socket) => {
    options.failed('tls_handshake', { address, error: errorText(error) });
  });
}

function hand(
  options: ListenersOptions,
  stream: Duplex,
  socket: Socket,
  destroy = (): void => void stream.destroy(),
): void {
  options.connected({ stream, destroy, remoteAddress: socket.remoteAddress ?? '' });
}

function isAdmitted(options: ListenersOptions, socket: Socket): boolean {
  const admitted = options.admit(socket.remoteAddress ?? '');
  if (!admitted) {
    socket.on('error', () => {});
    socket.resetAndDestroy();
  }
  return admitted;
}

function tlsOptions(
  { certificate, key, client_ca: ca }: Pick<NonNullable<MqttConfig['listen_tls']>, 'certificate' | 'key' | 'client_ca'>,
  { handshakeMs }: ListenersOptions,
): TlsOptions {
  return {
    ...(certificate !== undefined && { cert: certificate }),
    ...(key !== undefined && { key }),
    ...(ca !== undefined && { ca, requestCert: true, rejectUnauthorized: true }),
    handshakeTimeout: handshakeMs,
    minVersion: 'TLSv1.2',
  };
}

/** @throws GatewayError GW_TLS when the certificate or the key cannot be used. */
function secured<T>(create: () => T): T {
  try {
    return create();
  } catch (error) {
    throw new GatewayError('GW_TLS', `The broker's certificate or key cannot be used: ${errorText(error)}.`, {
      cause: error,
    });
  }
}

function listen({ name, address, port, server }: Listener): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => reject(listenError(error, { name, address, port }));
    server.once('error', onError);
    server.listen({ host: address, port, backlog: 1024 }, () => {
      server.off('error', onError);
      // An accept that fails (no file descriptors left, for example) costs that client only.
      server.on('error', () => {});
      resolve();
    });
  });
}

function listenError(error: Error, { name, address, port }: Pick<Listener, 'name' | 'address' | 'port'>): GatewayError {
  const code = systemCode(error);
  const where = `${address}:${port}`;
  if (code === 'EACCES') {
    const advice = `choose a port above 1023 in \`${name}.port\``;
    return new GatewayError('GW_PORT_DENIED', `The broker may not listen on ${where}; ${advice}.`, { cause: error });
  }
  const why = code === 'EADDRNOTAVAIL' ? 'this machine has no such address' : 'another program does';
  return new GatewayError('GW_PORT_IN_USE', `The broker cannot listen on ${where}, ${why}; change \`${name}\`.`, {
    cause: error,
  });
}
