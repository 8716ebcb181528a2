// One port of the local hub: it listens, tries again where it cannot, and hands on each socket that the gate lets in.

import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { Logger } from '../core/log.ts';
import type { HealthReport } from '../core/service.ts';
import type { HandshakeGate } from './handshake-gate.ts';
import type { HubDoorName, ReportRefusal } from './hub-doors.ts';

const RETRY_MS = 10_000;
/** Idle time before the system probes a silent peer. */
const KEEP_ALIVE_MS = 60_000;

export interface HubDoorOptions {
  readonly name: HubDoorName;
  readonly address: string;
  readonly port: number;
  /** Takes a socket whose bytes nobody has read yet. */
  readonly enter: (socket: Socket) => void;
  readonly gate: HandshakeGate;
  /** All open sockets of all doors. */
  readonly sockets: Set<Socket>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly reportRefusal: ReportRefusal;
}

export interface HubDoor {
  /** Resolves after the first attempt; failing to open is no error, as it is tried again. */
  open(): Promise<void>;
  health(): HealthReport;
  /** Where it listens, once it does; `port` 0 chose one. */
  address(): { readonly address: string; readonly port: number } | undefined;
  /** Stops listening; open connections stay. */
  close(): Promise<void>;
}

export function createHubDoor(options: HubDoorOptions): HubDoor {
  const { name, address, port, gate, sockets, clock, log, reportRefusal, enter } = options;
  let server: Server | undefined;
  let fault: GatewayError | undefined;
  let cancelRetry: (() => void) | undefined;
  let isClosed = false;

  const accept = (socket: Socket): void => {
    const remoteAddress = socket.remoteAddress ?? '';
    const refuse = (reason: string): void => {
      reportRefusal(reason, { door: name, remoteAddress });
      socket.resetAndDestroy();
    };
    // Until somebody else listens: a reset while it waits must not end the process.
    socket.on('error', () => {});
    if (sockets.size >= LIMITS.hub_connections) {
      refuse('connections');
      return;
    }
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    gate.knock({ address: remoteAddress, refuse, enter: () => void (socket.destroyed || enter(socket)) });
  };

  const open = async (): Promise<void> => {
    cancelRetry = undefined;
    // Paused: whoever gets the socket reads its first byte.
    const opening = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS, pauseOnConnect: true },
      accept,
    );
    try {
      await listen(opening, address, port);
    } catch (error) {
      const isFirst = fault === undefined;
      fault = listenError(error, options);
      if (isFirst) log.warn({ door: name, address, port, reason: fault.code }, fault.message);
      if (!isClosed) cancelRetry = clock.after(RETRY_MS, () => void open());
      return;
    }
    if (isClosed) {
      await closeServer(opening);
      return;
    }
    server = opening;
    fault = undefined;
    log.info({ door: name, address, port: portOf(opening) }, 'The local hub listens.');
  };

  return {
    open,
    health: () => {
      if (fault !== undefined) return { status: 'degraded', reason: fault.message };
      return { status: server === undefined ? 'starting' : 'running' };
    },
    address: () => (server === undefined ? undefined : { address, port: portOf(server) }),
    async close() {
      isClosed = true;
      cancelRetry?.();
      if (server !== undefined) await closeServer(server);
    },
  };
}

function portOf(server: Server): number {
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}

function listen(server: Server, address: string, port: number): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port, backlog: 1024 }, () => {
      server.off('error', reject);
      // An accept that fails (no file descriptors left, for example) costs that client only.
      server.on('error', () => {});
      resolve();
    });
  });
}

/** Does not wait for open connections: they are ended by those who own them. */
function closeServer(server: Server): Promise<void> {
  server.close();
  return Promise.resolve();
}

function listenError(error: unknown, { name, address, port }: HubDoorOptions): GatewayError {
  const where = `${address}:${port}`;
  const field = `hub.${name}_port`;
  switch (systemCode(error)) {
    case 'EACCES':
      return new GatewayError(
        'GW_PORT_DENIED',
        `The local hub may not listen on ${where}: ports below 1024 need a right. Run it as the service, or change \`${field}\`.`,
        { cause: error },
      );
    case 'EADDRINUSE':
      return new GatewayError(
        'GW_PORT_IN_USE',
        `The local hub cannot listen on ${where}: another program does. Stop that program or change \`${field}\`.`,
        { cause: error },
      );
    case 'EADDRNOTAVAIL':
      return new GatewayError(
        'GW_PORT_IN_USE',
        `The local hub cannot listen on ${where}: this machine has no such address. Change \`hub.address\`.`,
        { cause: error },
      );
    default:
      return new GatewayError('GW_PORT_IN_USE', `The local hub cannot listen on ${where}: ${errorText(error)}.`, {
        cause: error,
      });
  }
}
