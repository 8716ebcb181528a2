// The web server: health, metrics, the read-only API and the page. A port that cannot be opened makes this part degraded
// and is tried again; it never stops the gateway.

import { hostname } from 'node:os';
import fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import {
  errorBody,
  errorText,
  GatewayError,
  httpStatus,
  LIMITS,
  systemCode,
  type AdminApi,
  type Clock,
  type HealthReport,
  type Logger,
  type Service,
  type Telemetry,
} from '#sdk';
import type { WebServerConfig } from '../config.ts';
import { hostNames, isLocal, isLoopback, isOwnHost, showsToken } from './access.ts';
import { addRoutes } from './routes.ts';

export interface WebServerOptions extends WebServerConfig {
  readonly admin: AdminApi;
  /** What requests from elsewhere than this machine must show. */
  readonly token: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

export interface WebServer extends Service {
  /** Where to point a browser at; undefined while it does not listen. */
  url(): string | undefined;
}

const PLAINTEXT_WARNING =
  'The web server listens off loopback without TLS: whoever is on the way can read what it sends, and the token.';
const RETRY_FIRST_MS = 1000;
const RETRY_LAST_MS = 30_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Everything comes from this server, nothing is run that stands in the page (CSP Level 3). */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

export function createWebServer(options: WebServerOptions): WebServer {
  const { address, port, clock, telemetry } = options;
  const stopped = new AbortController();
  let app: FastifyInstance | undefined;
  let health: HealthReport = { status: 'stopped' };
  let retrying: Promise<void> = Promise.resolve();
  let stopping: Promise<void> | undefined;

  async function attempt(): Promise<boolean> {
    const candidate = buildApp(options);
    try {
      await candidate.listen({ host: address, port });
    } catch (error) {
      await candidate.close();
      const failure = listenError(error, options);
      health = { status: 'degraded', reason: failure.message };
      telemetry.emit('web_unavailable', { key: failure.code, code: failure.code, error: failure.message });
      return false;
    }
    app = candidate;
    health = { status: 'running' };
    telemetry.emit('web_listening', { url: url() });
    if (!isLoopback(address)) options.log.warn({ address }, PLAINTEXT_WARNING);
    return true;
  }

  async function retry(): Promise<void> {
    let delayMs = RETRY_FIRST_MS;
    while (!stopped.signal.aborted) {
      try {
        await clock.sleep(delayMs, stopped.signal);
      } catch {
        return;
      }
      if (await attempt()) return;
      delayMs = Math.min(delayMs * 2, RETRY_LAST_MS);
    }
  }

  function url(): string | undefined {
    const bound = app?.server.address();
    if (typeof bound !== 'object' || bound === null) return undefined;
    const any = bound.address === '0.0.0.0' || bound.address === '::';
    const host = any ? 'localhost' : bound.address.includes(':') ? `[${bound.address}]` : bound.address;
    return `http://${host}:${bound.port}/`;
  }

  async function stop(): Promise<void> {
    stopped.abort();
    await retrying;
    await app?.close();
    app = undefined;
    health = { status: 'stopped' };
  }

  return {
    name: 'web',
    async start() {
      health = { status: 'starting' };
      if (!(await attempt())) retrying = retry();
    },
    stop: () => (stopping ??= stop()),
    health: () => health,
    url,
  };
}

function buildApp({ admin, address, token, clock, log }: WebServerOptions): FastifyInstance {
  const names = hostNames(hostname(), address);
  const app = fastify({
    logger: false,
    bodyLimit: 1024,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // Live connections never end by themselves.
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true },
  });
  app.server.maxConnections = LIMITS.web_connections;

  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(HEADERS);
    const asker = { remoteAddress: request.socket.remoteAddress, headers: request.headers };
    if (!isOwnHost(request.headers.host, names)) {
      // RFC 9110, section 15.5.20.
      reply.status(421).send({ code: 'GW_UNAUTHORIZED', message: 'This server is not called by that host name.' });
    } else if (!isLocal(asker) && !showsToken(asker, token)) {
      reply.header('www-authenticate', 'Basic realm="Fieldpost", charset="UTF-8"');
      reply.status(401).send({
        code: 'GW_UNAUTHORIZED',
        message:
          'From elsewhere than the gateway itself, show the token of <data>/secrets/api-token: as a bearer token, or as the password.',
      });
    } else done();
  });
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    if (error.statusCode !== undefined && error.statusCode < 500) {
      return reply.status(error.statusCode).send({ code: 'GW_USAGE', message: error.message });
    }
    const status = httpStatus(error);
    if (status === 500) log.error({ error: errorText(error) }, 'A request to the web server failed.');
    return reply.status(status).send(errorBody(error));
  });
  app.setNotFoundHandler((_request, reply) =>
    reply
      .status(404)
      .send({ code: 'GW_NOT_FOUND', message: 'There is nothing here. See /, /health, /metrics, /api/status.' }),
  );
  addRoutes(app, { admin, clock });
  return app;
}

/** Why the port could not be opened, in words for a person. */
function listenError(error: unknown, { address, port }: WebServerConfig): GatewayError {
  const where = `${address}:${port}`;
  switch (systemCode(error) ?? '') {
    case 'EADDRINUSE':
      return new GatewayError(
        'GW_PORT_IN_USE',
        `The web page cannot open ${where}: another program has it. Stop that one, or set web.port to another.`,
        { cause: error },
      );
    case 'EACCES':
      return new GatewayError(
        'GW_PORT_DENIED',
        `The web page may not open ${where}: ports below 1024 need a privilege. Set web.port to 1024 or above.`,
        { cause: error },
      );
    case 'EADDRNOTAVAIL':
      return new GatewayError(
        'GW_PORT_DENIED',
        `The web page cannot open ${where}: this machine has no such address (now). Check web.address.`,
        { cause: error },
      );
    default:
      return new GatewayError('GW_PORT_DENIED', `The web page cannot open ${where}: ${errorText(error)}.`, {
        cause: error,
      });
  }
}
