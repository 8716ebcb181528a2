// The routes of the web server. All of them only read.

import type { FastifyInstance } from 'fastify';
import type { z } from 'zod';
import { GatewayError, type AdminApi, type Clock, type DeviceQuery } from '#sdk';
import { PAGE_HTML } from '../client/page.ts';
import { SCRIPT_JS } from '../client/script.ts';
import { STYLE_CSS } from '../client/style.ts';
import { auditQuerySchema, deviceQuerySchema, PATHS } from '../contract.ts';
import { serveLive } from './live.ts';

/** Prometheus text-based exposition format, version 0.0.4. */
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** @throws GatewayError GW_USAGE that names every fault. */
function parseQuery<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const result = schema.safeParse(input);
  if (!result.success) {
    const faults = result.error.issues.map(({ path, message }) => `${path.join('.') || 'query'}: ${message}`);
    throw new GatewayError('GW_USAGE', `The query has faults: ${faults.join('; ')}.`);
  }
  return result.data;
}

function deviceQuery(input: unknown): DeviceQuery {
  return Object.fromEntries(
    Object.entries(parseQuery(deviceQuerySchema, input)).filter(([, value]) => value !== undefined),
  );
}

export function addRoutes(app: FastifyInstance, { admin, clock }: { admin: AdminApi; clock: Clock }): void {
  app.get('/', (_request, reply) => reply.type('text/html; charset=utf-8').send(PAGE_HTML));
  app.get('/app.js', (_request, reply) => reply.type('text/javascript; charset=utf-8').send(SCRIPT_JS));
  app.get('/style.css', (_request, reply) => reply.type('text/css; charset=utf-8').send(STYLE_CSS));

  app.get(PATHS.health, (_request, reply) => {
    const health = admin.health();
    return reply.status(health.live && health.ready ? 200 : 503).send(health);
  });
  app.get(PATHS.metrics, async (_request, reply) => reply.type(METRICS_TYPE).send(await admin.metrics()));
  app.get(PATHS.status, () => admin.status());
  app.get(PATHS.devices, ({ query }) => admin.devices(deviceQuery(query)));
  app.get(PATHS.audit, ({ query }) => {
    const { limit, before } = parseQuery(auditQuerySchema, query);
    return admin.audit({ limit, ...(before !== undefined && { before }) });
  });
  app.get(PATHS.points, ({ query }) => {
    const { items, ...page } = admin.devices(deviceQuery(query));
    const rows = items.flatMap(({ deviceId, adapterId, points }) =>
      points.map((point) => ({ deviceId, adapterId, ...point })),
    );
    return { items: rows, ...page };
  });
  app.get(PATHS.live, ({ query, method }, reply) => {
    if (method === 'HEAD') return reply.type('text/event-stream').send();
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) reply.raw.setHeader(name, value);
    serveLive(reply.raw, { admin, clock, query: deviceQuery(query) });
    return reply.hijack();
  });
}
