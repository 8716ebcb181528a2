// The head itself: requests from the door go to the router, and a stop lets those under way end.

import fastify, { type FastifyInstance } from 'fastify';
import { hubDoors, type HeadContext, type ProtocolHead } from '#sdk';
import { addDeviceRoutes } from './device-routes.ts';
import { addErrorAnswers, createErrorAnswers } from './error-answers.ts';
import { addMethodRoutes } from './method-routes.ts';
import { addRegistryRoutes } from './registry-routes.ts';
import { createRoutes } from './routes.ts';
import { addTwinRoutes } from './twin-routes.ts';

/** Percent-encoded, an id of 128 characters has up to three times as many. */
const PARAM_CHARS = 384;

export function createHttpsHead(context: HeadContext): ProtocolHead {
  const doors = hubDoors(context.doors);
  const stopping = new AbortController();
  const app = buildApp(context, stopping.signal);
  let underWay = 0;
  let onIdle: (() => void) | undefined;
  let isRunning = false;

  return {
    async start() {
      await app.ready();
      await doors.serveHttp((request, response) => {
        underWay += 1;
        response.once('close', () => {
          underWay -= 1;
          if (underWay === 0) onIdle?.();
        });
        if (stopping.signal.aborted) response.shouldKeepAlive = false;
        app.routing(request, response);
      });
      isRunning = true;
    },
    async stop(signal) {
      isRunning = false;
      stopping.abort();
      if (underWay > 0 && !signal.aborted) {
        await new Promise<void>((resolve) => {
          onIdle = resolve;
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
      }
    },
    // Nothing is pushed over HTTPS: devices ask.
    deliver: () => {},
    health: () => (isRunning ? doors.healthOf('https') : { status: 'starting' }),
  };
}

function buildApp(context: HeadContext, stopping: AbortSignal): FastifyInstance {
  const { hub } = context;
  const answerError = createErrorAnswers(context);
  const app = fastify({
    logger: false,
    // The service has no HEAD, and a GET of a command locks it.
    exposeHeadRoutes: false,
    // The sockets, and with them the times allowed for headers and bodies, belong to the door.
    routerOptions: {
      maxParamLength: PARAM_CHARS,
      // `/messages/devicebound` is written in several ways.
      caseSensitive: false,
      ignoreTrailingSlash: true,
    },
    // For addresses that cannot be read; no hook runs then.
    frameworkErrors: (error, request, reply) => void answerError(request, reply, error),
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  addErrorAnswers(app, answerError);
  const routes = createRoutes(app, hub);
  addDeviceRoutes(routes, hub);
  addRegistryRoutes(routes, hub);
  addTwinRoutes(routes, hub);
  addMethodRoutes(routes, hub, stopping);
  return app;
}
