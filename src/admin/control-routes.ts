// The routes of the control socket. Requests are checked by schema; answers are the views of core/admin.ts.

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { AdminApi } from '../core/admin.ts';
import { GatewayError } from '../core/errors.ts';
import { errorBody, type ErrorBody } from '../core/http-status.ts';
import { LIMITS } from '../core/limits.ts';
import type { ScanEvent } from '../core/scan.ts';
import { PAGE_MESSAGES_MAX } from './buffer-admin.ts';

/** One line of the answer to a scan. */
export type ScanLine = ScanEvent | { readonly kind: 'end' } | ({ readonly kind: 'error' } & ErrorBody);

const numberText = z.string().regex(/^\d+$/).transform(Number);
const pageLimit = numberText.pipe(z.int().min(1).max(PAGE_MESSAGES_MAX)).optional();

const devicesQuery = z.strictObject({
  deviceId: z.string().optional(),
  adapterId: z.string().optional(),
  state: z.enum(['unknown', 'good', 'degraded', 'offline']).optional(),
  after: z.string().optional(),
  limit: pageLimit,
  withPoints: z.stringbool().optional(),
});
const messagesQuery = z.strictObject({
  queue: z.string().optional(),
  fromOffset: numberText.pipe(z.int()).optional(),
  limit: pageLimit,
});
const quarantineQuery = z.strictObject({ afterId: z.string().optional(), limit: pageLimit });
const auditQuery = z.strictObject({ before: numberText.pipe(z.int()).optional(), limit: pageLimit });
const idsBody = z.strictObject({ ids: z.array(z.string()).max(PAGE_MESSAGES_MAX) });
const purgeBody = z.strictObject({ queue: z.string() });
const actor = z.string().min(1).max(128);
const writeBody = z.strictObject({
  deviceId: z.string(),
  point: z.string(),
  value: z.union([z.number(), z.boolean(), z.string()]),
  integer: z.boolean().optional(),
  actor,
});
const scanBody = z.strictObject({ type: z.string(), options: z.record(z.string(), z.unknown()) });
const deviceBody = z.strictObject({ deviceId: z.string() });
const textBody = z.strictObject({ text: z.string() });
const proposeBody = z.strictObject({
  text: z.string(),
  base: z.int().min(0),
  actor,
  trialSecs: z.int().min(1).max(86_400).optional(),
  file: z.string().max(4096).optional(),
});
const generationBody = z.strictObject({ generation: z.int().min(0), actor });
const generationParams = z.strictObject({ generation: numberText.pipe(z.int()) });

const DEFAULT_PAGE = 100;

/** @throws GatewayError GW_USAGE that names every fault. */
function parse<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path, message }) => `${path.join('.') || 'request'}: ${message}`);
  throw new GatewayError('GW_USAGE', `The request has faults: ${faults.join('; ')}.`);
}

/** Leaves out what is undefined, which optional properties may not be given. */
function defined<Fields extends object>(fields: Fields): { [Name in keyof Fields]: Exclude<Fields[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

export function addControlRoutes(app: FastifyInstance, admin: AdminApi): void {
  app.get('/v1/status', () => admin.status());
  app.get('/v1/health', () => admin.health());
  app.get('/v1/metrics', () => admin.metrics());
  app.get('/v1/devices', ({ query }) => admin.devices(defined(parse(devicesQuery, query))));
  app.post('/v1/write', ({ body }) => {
    const { actor, ...request } = parse(writeBody, body);
    return admin.write(defined(request), actor);
  });
  app.post('/v1/identify', ({ body }) => admin.identify(parse(deviceBody, body).deviceId));
  app.get('/v1/audit', ({ query }) => {
    const { limit = DEFAULT_PAGE, ...rest } = parse(auditQuery, query);
    return admin.audit({ ...defined(rest), limit });
  });
  addScanRoute(app, admin);
  addBufferRoutes(app, admin);
  addConfigRoutes(app, admin);
}

/** Answers with a line of JSON for each event; the last is `{"kind":"end"}` or the error. Who hangs up ends the scan, and so does the server. */
function addScanRoute(app: FastifyInstance, admin: AdminApi): void {
  const closing = new AbortController();
  app.addHook('preClose', () => Promise.resolve(closing.abort()));
  app.post('/v1/scan', async ({ body }, reply) => {
    const request = parse(scanBody, body);
    const hungUp = new AbortController();
    reply.hijack();
    reply.raw.on('close', () => hungUp.abort());
    const tell = (line: ScanLine): void => {
      if (!reply.raw.destroyed) reply.raw.write(`${JSON.stringify(line)}\n`);
    };
    reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    reply.raw.flushHeaders();
    try {
      await admin.scan(request, { signal: AbortSignal.any([hungUp.signal, closing.signal]), report: tell });
      tell({ kind: 'end' });
    } catch (error) {
      tell({ kind: 'error', ...errorBody(error) });
    }
    reply.raw.end();
  });
}

function addBufferRoutes(app: FastifyInstance, { buffer }: AdminApi): void {
  app.get('/v1/buffer', () => buffer.stats());
  app.get('/v1/buffer/messages', ({ query }) => {
    const { limit = DEFAULT_PAGE, ...rest } = parse(messagesQuery, query);
    return buffer.messages({ ...defined(rest), limit });
  });
  app.get('/v1/buffer/quarantine', ({ query }) => {
    const { limit = DEFAULT_PAGE, ...rest } = parse(quarantineQuery, query);
    return buffer.quarantined({ ...defined(rest), limit });
  });
  app.post('/v1/buffer/requeue', async ({ body }) => ({ count: await buffer.requeue(parse(idsBody, body).ids) }));
  app.post('/v1/buffer/discard', async ({ body }) => ({ count: await buffer.discard(parse(idsBody, body).ids) }));
  app.post('/v1/buffer/purge', async ({ body }) => ({ count: await buffer.purge(parse(purgeBody, body).queue) }));
}

function addConfigRoutes(app: FastifyInstance, { config }: AdminApi): void {
  const large = { bodyLimit: 2 * LIMITS.config_bytes };
  app.get('/v1/config', () => config.view());
  app.get('/v1/config/generations', () => config.generations());
  app.get('/v1/config/generations/:generation', async ({ params }) => ({
    text: await config.read(parse(generationParams, params).generation),
  }));
  app.post('/v1/config/check', large, ({ body }) => config.check(parse(textBody, body).text));
  app.post('/v1/config/propose', large, ({ body }) => config.propose(defined(parse(proposeBody, body))));
  app.post('/v1/config/confirm', async ({ body }) => {
    const { generation, actor } = parse(generationBody, body);
    await config.confirm(generation, actor);
    return {};
  });
  app.post('/v1/config/revert', async ({ body }) => {
    const { generation, actor } = parse(generationBody, body);
    await config.revert(generation, actor);
    return {};
  });
}
