// The routes of the control socket. Requests are checked by schema; answers are the views of core/admin.ts.

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { AdminApi } from '../core/admin.ts';
import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { PAGE_MESSAGES_MAX } from './buffer-admin.ts';
import { addHubRoutes } from './control-hub-routes.ts';
import { answerLines } from './control-lines.ts';

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
  const closing = new AbortController();
  app.addHook('preClose', () => Promise.resolve(closing.abort()));
  addScanRoute(app, admin, closing.signal);
  addHubRoutes(app, admin.hub, closing.signal);
  addBufferRoutes(app, admin);
  addConfigRoutes(app, admin);
}

function addScanRoute(app: FastifyInstance, admin: AdminApi, closing: AbortSignal): void {
  app.post('/v1/scan', async ({ body }, reply) => {
    const request = parse(scanBody, body);
    // A scan tells little and may not be held up.
    await answerLines(reply, closing, (signal, tell) =>
      admin.scan(request, { signal, report: (event) => void tell(event) }),
    );
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
