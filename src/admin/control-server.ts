// The control socket: the admin port as HTTP over a UNIX socket that only the owner of the process (and root) may open.
// It is how the command line speaks to a running gateway. The socket of a dead process is replaced, that of a living one
// never.

import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, type ListenOptions } from 'node:net';
import fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import type { AdminApi } from '../core/admin.ts';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { errorBody, httpStatus } from '../core/http-status.ts';
import { LIMITS } from '../core/limits.ts';
import type { Logger } from '../core/log.ts';
import { socketPathFault } from './control-errors.ts';
import { addControlRoutes } from './control-routes.ts';

export interface ControlServerOptions {
  readonly admin: AdminApi;
  /** Path of the socket; at most 107 bytes (unix(7): sun_path). */
  readonly path: string;
  readonly log: Logger;
}

export interface ControlServer {
  /**
   * @throws GatewayError GW_DATA_LOCKED when a living process listens there already, GW_PORT_DENIED when the path cannot be
   * used for a socket.
   */
  start(): Promise<void>;
  /** Idempotent; removes the socket. */
  stop(): Promise<void>;
}

const OWNER_ONLY_UMASK = 0o177;

export function createControlServer({ admin, path, log }: ControlServerOptions): ControlServer {
  let app: FastifyInstance | undefined;

  async function start(): Promise<void> {
    const fault = socketPathFault(path);
    if (fault !== undefined) throw new GatewayError('GW_PORT_DENIED', fault);
    await removeStale(path);
    const server = buildApp(admin, log);
    await server.ready();
    await listenOwnerOnly(server, path);
    app = server;
  }

  return {
    start,
    async stop() {
      const closing = app;
      app = undefined;
      // Node removes the socket's file when its server closes.
      await closing?.close();
    },
  };
}

function buildApp(admin: AdminApi, log: Logger): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: LIMITS.control_request_bytes,
    forceCloseConnections: true,
    requestTimeout: 60_000,
  });
  app.server.maxConnections = LIMITS.control_connections;
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    // Fastify's own refusals (a body too large, broken JSON) carry their status and a text for people.
    if (error.statusCode !== undefined && error.statusCode < 500) {
      return reply.status(error.statusCode).send({ code: 'GW_USAGE', message: error.message });
    }
    const status = httpStatus(error);
    if (status === 500) log.error({ error: errorText(error) }, 'A request on the control socket failed.');
    return reply.status(status).send(errorBody(error));
  });
  app.setNotFoundHandler((request, reply) =>
    reply.status(404).send({ code: 'GW_NOT_FOUND', message: `There is no ${request.method} ${request.url}.` }),
  );
  addControlRoutes(app, admin);
  return app;
}

/** Binds with a umask, because a mode set afterwards would leave a moment in which others may connect. */
async function listenOwnerOnly(app: FastifyInstance, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    app.server.once('listening', resolve);
    app.server.once('error', reject);
  });
  const options: ListenOptions = { path };
  const umask = process.umask(OWNER_ONLY_UMASK);
  try {
    // The socket is bound before this returns (a path needs no lookup), so the umask holds for nothing else.
    app.server.listen(options);
  } finally {
    process.umask(umask);
  }
  try {
    await listening;
    await chmod(path, 0o600);
  } catch (error) {
    throw new GatewayError(
      'GW_PORT_DENIED',
      `The control socket "${path}" cannot be opened: ${errorText(error)}. Check that its directory exists and may be written.`,
      { cause: error },
    );
  }
}

async function removeStale(path: string): Promise<void> {
  let isSocket: boolean;
  try {
    isSocket = (await lstat(path)).isSocket();
  } catch {
    // Absent, or a directory that cannot be entered: binding says so.
    return;
  }
  if (!isSocket) {
    throw new GatewayError(
      'GW_PORT_DENIED',
      `"${path}" is not a socket, and the control socket must stand there. Move it away.`,
    );
  }
  if (await answers(path)) {
    throw new GatewayError(
      'GW_DATA_LOCKED',
      `Another Fieldpost listens on "${path}". Stop it first, or run this one with another data directory.`,
    );
  }
  await unlink(path);
}

/** Whether a living process listens; one that may not be asked counts as living. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      socket.destroy();
      const code = systemCode(error);
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT');
    });
  });
}
