// The listeners of the local hub, shared by its protocol heads: MQTT and AMQP over TLS on ports of their own, HTTPS and
// WebSockets on one, and AMQP without TLS for clients on this machine (contract/device-auth.md, section 1;
// contract/service-00-index.md, section 3).

import { constants } from 'node:crypto';
import type { IncomingMessage, RequestListener } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  createSecureContext,
  createServer as createTlsServer,
  TLSSocket,
  type Server as TlsServer,
  type TlsOptions,
} from 'node:tls';
import { errorText, GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { loopbackOf } from '../core/listen-address.ts';
import type { HealthReport } from '../core/service.ts';
import { coalesceWrites } from './coalesce.ts';
import { createHandshakeGate } from './handshake-gate.ts';
import { peerFacts } from './hub-peer.ts';
import { createHubDoor, type HubDoor } from './hub-door.ts';
import type {
  DoorConnection,
  DoorProtocol,
  HubDoorName,
  HubDoorsOptions,
  HubDoorsService,
  ServerCertificate,
} from './hub-doors.ts';
import { createWebSockets, offeredProtocol, streamOf, webSocketPath } from './hub-web-sockets.ts';
import { createSilentPeers, type SilentPeers } from './silent-peers.ts';

/** From the first byte of TCP to the end of the handshake; Azure's own limit is not known. */
const HANDSHAKE_MS = 30_000;
/** Clients of SDKs wait for a connection about this long. */
const GATE_WAIT_MS = 60_000;
/** Tokens and properties are headers, so there are more than browsers send. */
const HEADER_BYTES = 64 * 1024;
const REQUEST_MS = 60_000;

type TlsDoorName = Exclude<HubDoorName, 'amqp'>;

const TLS_DOORS: readonly TlsDoorName[] = ['mqtts', 'amqps', 'https'];
/** WebSockets come over HTTPS. */
const DOORS_OF: Readonly<Record<DoorProtocol, readonly HubDoorName[]>> = {
  mqtt: ['mqtts', 'https'],
  amqp: ['amqps', 'amqp', 'https'],
  https: ['https'],
};

/** @throws GatewayError GW_TLS when the certificates cannot be used. */
export function createHubDoors(options: HubDoorsOptions): HubDoorsService {
  return new ListeningDoors(options);
}

class ListeningDoors implements HubDoorsService {
  readonly kind = 'hub-doors';
  readonly #options: HubDoorsOptions;
  readonly #sockets = new Set<Socket>();
  readonly #gate;
  readonly #doors = new Map<HubDoorName, HubDoor>();
  /** What secures a door, made for its first client. */
  readonly #secured = new Map<TlsDoorName, TlsServer>();
  #certificates: readonly ServerCertificate[];
  readonly #webSockets = createWebSockets();
  readonly #takers = new Map<'mqtt' | 'amqp', (connection: DoorConnection) => void>();
  /** Protocols that are served once their first client has come. */
  readonly #expected = new Map<DoorProtocol, () => Promise<void>>();
  readonly #opened = new Set<HubDoorName>();
  readonly #silent: SilentPeers;
  #onRequest: RequestListener | undefined;

  constructor(options: HubDoorsOptions) {
    this.#options = options;
    this.#gate = createHandshakeGate({
      ratePerSec: options.maxHandshakesPerSec,
      maxWaiting: LIMITS.hub_waiting_handshakes,
      maxWaitMs: GATE_WAIT_MS,
      clock: options.clock,
    });
    this.#certificates = options.certificates;
    this.#silent = createSilentPeers(options.clock, HANDSHAKE_MS);
    for (const name of TLS_DOORS) {
      if (options.areCertificatesProven !== true) this.#securedBy(name);
      this.#doors.set(
        name,
        this.#door(name, options.address, (socket) => {
          const server = this.#securedBy(name);
          this.#expectWord(name, socket);
          whenSpoken(socket, () => server.emit('connection', socket));
        }),
      );
    }
    if (options.ports.amqp !== undefined) {
      this.#doors.set(
        'amqp',
        this.#door('amqp', loopbackOf(options.address), (socket) => this.#handSocket('amqp', socket)),
      );
    }
  }

  /** @throws GatewayError GW_TLS. */
  #securedBy(name: TlsDoorName): TlsServer {
    const known = this.#secured.get(name);
    if (known !== undefined) return known;
    const tls = tlsOptions(this.#certificates);
    const server = secured(() => {
      if (name === 'https') return this.#httpsServer(tls);
      return createTlsServer(tls, (socket) => this.#handSocket(name === 'mqtts' ? 'mqtt' : 'amqp', socket));
    });
    server.on('secureConnection', (socket: TLSSocket) => {
      this.#silent.heardFrom(socket);
      if (name === 'https') this.#expectWord(name, socket);
    });
    server.on('tlsClientError', (error, socket) => {
      this.#refused('tls_handshake', { door: name, remoteAddress: socket.remoteAddress, error: errorText(error) });
    });
    this.#secured.set(name, server);
    return server;
  }

  #httpsServer(tls: TlsOptions): HttpsServer {
    const server = createHttpsServer(
      {
        ...tls,
        maxHeaderSize: HEADER_BYTES,
        headersTimeout: HANDSHAKE_MS,
        requestTimeout: REQUEST_MS,
        connectionsCheckingInterval: 5000,
      },
      (request, response) => {
        this.#silent.heardFrom(request.socket);
        this.#whenServed('https', () => this.#handRequest(request, response));
      },
    );
    server.on('upgrade', (request, socket, head) => {
      this.#silent.heardFrom(request.socket);
      this.#upgrade(request, socket, head);
    });
    return server;
  }

  #expectWord(door: HubDoorName, socket: Socket): void {
    this.#silent.expectWord(socket, () => this.#refused('silent', { door, remoteAddress: socket.remoteAddress }));
  }

  #door(name: HubDoorName, address: string, enter: (socket: Socket) => void): HubDoor {
    const { ports, clock, log, reportRefusal } = this.#options;
    const sockets = this.#sockets;
    const port = ports[name] ?? 0;
    return createHubDoor({ name, address, port, enter, gate: this.#gate, sockets, clock, log, reportRefusal });
  }

  async serve(protocol: 'mqtt' | 'amqp', take: (connection: DoorConnection) => void): Promise<void> {
    this.#takers.set(protocol, take);
    this.#expected.delete(protocol);
    await this.#open(DOORS_OF[protocol]);
  }

  async serveHttp(listener: RequestListener): Promise<void> {
    this.#onRequest = listener;
    this.#expected.delete('https');
    await this.#open(DOORS_OF.https);
  }

  async expect(protocol: DoorProtocol, load: () => Promise<void>): Promise<void> {
    this.#expected.set(protocol, load);
    await this.#open(DOORS_OF[protocol]);
  }

  #whenServed(protocol: DoorProtocol, use: () => void): void {
    const load = this.#expected.get(protocol);
    if (load === undefined) use();
    else void load().then(use);
  }

  async #open(names: readonly HubDoorName[]): Promise<void> {
    const closed = names.filter((name) => !this.#opened.has(name));
    for (const name of closed) this.#opened.add(name);
    await Promise.all(closed.flatMap((name) => this.#doors.get(name)?.open() ?? []));
  }

  healthOf(protocol: DoorProtocol): HealthReport {
    const names = { mqtt: ['mqtts'], amqp: ['amqps', 'amqp'], https: ['https'] } as const;
    for (const name of names[protocol]) {
      const health = this.#doors.get(name)?.health();
      if (health !== undefined && health.status !== 'running') return health;
    }
    return { status: 'running' };
  }

  addressOf(door: HubDoorName): { readonly address: string; readonly port: number } | undefined {
    return this.#doors.get(door)?.address();
  }

  counts(): { readonly connections: number; readonly waiting: number } {
    return { connections: this.#sockets.size, waiting: this.#gate.waiting };
  }

  replaceCertificates(certificates: readonly ServerCertificate[]): void {
    const tls = tlsOptions(certificates);
    secured(() => {
      // Also where no client has come yet, whom a door would be secured for.
      createSecureContext(tls);
      for (const server of this.#secured.values()) server.setSecureContext(tls);
    });
    this.#certificates = certificates;
  }

  async stopAccepting(): Promise<void> {
    this.#gate.close();
    await Promise.all(Array.from(this.#doors.values(), (door) => door.close()));
  }

  async close(): Promise<void> {
    await this.stopAccepting();
    this.#webSockets.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #handSocket(protocol: 'mqtt' | 'amqp', socket: Socket): void {
    const facts = peerFacts(socket);
    const isPlaintext = !(socket instanceof TLSSocket);
    this.#hand(protocol, socket, { ...facts, protocol, isPlaintext, destroy: () => void socket.destroy() });
  }

  #hand(protocol: 'mqtt' | 'amqp', stream: Duplex, facts: Omit<DoorConnection, 'stream'>): void {
    // While it waits a reset must not end the process.
    if (this.#expected.has(protocol)) stream.on('error', () => {});
    this.#whenServed(protocol, () => this.#give(protocol, stream, facts));
  }

  #give(protocol: 'mqtt' | 'amqp', stream: Duplex, facts: Omit<DoorConnection, 'stream'>): void {
    const take = this.#takers.get(protocol);
    if (take === undefined || stream.destroyed) {
      stream.on('error', () => {});
      facts.destroy();
      return;
    }
    coalesceWrites(stream);
    take({ ...facts, stream });
    // Without TLS it was accepted without reading.
    if (facts.isPlaintext) stream.resume();
  }

  #handRequest(request: IncomingMessage, response: Parameters<RequestListener>[1]): void {
    if (this.#onRequest !== undefined) {
      this.#onRequest(request, response);
      return;
    }
    response.writeHead(503, { 'content-length': 0 }).end();
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {});
    const path = webSocketPath(request.url ?? '');
    const protocol = offeredProtocol(request, path);
    if (path === undefined || protocol === undefined || !this.#isKnown(protocol)) {
      this.#refused('websocket_handshake', { door: 'https', remoteAddress: request.socket.remoteAddress });
      socket.end(`HTTP/1.1 ${path === undefined ? '404 Not Found' : '400 Bad Request'}\r\nConnection: close\r\n\r\n`);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#hand(protocol, streamOf(webSocket), {
        ...peerFacts(request.socket),
        protocol: `${protocol}-ws`,
        isPlaintext: false,
        path,
        destroy: () => webSocket.terminate(),
      });
    });
  }

  #isKnown(protocol: 'mqtt' | 'amqp'): boolean {
    return this.#takers.has(protocol) || this.#expected.has(protocol);
  }

  #refused(reason: string, fields: Readonly<Record<string, unknown>>): void {
    this.#options.reportRefusal(reason, fields);
  }
}

/**
 * Calls back once the first bytes are there, which stay in the socket. Node's TLS takes bytes that it finds in a socket into a
 * buffer as long as they are, and then goes on with one of 16 KB; what it reads itself it puts into one of 64 KB, and keeps that
 * to the end of the connection. Who says nothing costs no TLS at all.
 */
function whenSpoken(socket: Socket, use: () => void): void {
  socket.once('readable', () => {
    // Without a byte it is the end.
    if (socket.readableLength > 0) use();
    else socket.destroy();
  });
}

function tlsOptions(certificates: readonly ServerCertificate[]): TlsOptions {
  return {
    cert: certificates.map(({ certificate }) => certificate),
    key: certificates.map(({ key }) => key),
    minVersion: 'TLSv1.2',
    // Asked of everybody, demanded of nobody: who a client must be is known only from what it says later.
    requestCert: true,
    rejectUnauthorized: false,
    // None of Node's, which take 4 MB, as nothing is judged by them.
    ca: [],
    // Without X25519MLKEM768, of which OpenSSL keeps 8 KB for each connection to its end.
    ecdhCurve: 'X25519:P-256:P-384:P-521',
    handshakeTimeout: HANDSHAKE_MS,
    // A resumed session has lost the chain behind the client's certificate, so none is resumed.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** @throws GatewayError GW_TLS. */
function secured<T>(use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new GatewayError('GW_TLS', `The local hub's certificate or key cannot be used: ${errorText(error)}.`, {
      cause: error,
    });
  }
}
