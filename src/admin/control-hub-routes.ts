// The hub on the control socket: a route for each function of HubAdmin, named as it is, and the events as lines of JSON.

import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { EventView, HubAdmin } from '../core/hub/admin.ts';
import { answerLines } from './control-lines.ts';

/** A line of the answer to `monitorEvents`. */
export interface EventLine {
  readonly kind: 'event';
  readonly event: EventView;
}

/** Functions that are one request and one answer. */
export type HubCall = Exclude<keyof HubAdmin, 'monitorEvents'>;

const ref = { deviceId: z.string(), moduleId: z.string().optional() };
const key = z.string().optional();
const thumbprint = z.string().nullable().optional();
const identity = z.strictObject({
  ...ref,
  status: z.enum(['enabled', 'disabled']).optional(),
  statusReason: z.string().nullable().optional(),
  authentication: z
    .strictObject({
      type: z.enum(['sas', 'selfSigned', 'certificateAuthority']).optional(),
      symmetricKey: z.strictObject({ primaryKey: key, secondaryKey: key }).optional(),
      x509Thumbprint: z.strictObject({ primaryThumbprint: thumbprint, secondaryThumbprint: thumbprint }).optional(),
    })
    .optional(),
  capabilities: z.strictObject({ iotEdge: z.boolean() }).optional(),
  deviceScope: z.string().optional(),
});
const timeout = z.number().min(0).max(300).optional();
const text = z.string().optional();

const REQUESTS: Readonly<Record<HubCall, z.ZodType>> = {
  connectionString: z.discriminatedUnion('of', [
    z.strictObject({ of: z.literal('policy'), policy: z.string() }),
    z.strictObject({ of: z.literal('identity'), ...ref }),
    z.strictObject({ of: z.literal('events'), policy: z.string(), isPlaintext: z.boolean().optional() }),
  ]),
  identities: z.strictObject({ afterId: z.string().optional(), limit: z.int().min(1).max(1000) }),
  modules: z.strictObject({ deviceId: z.string() }),
  identity: z.strictObject(ref),
  createIdentity: identity,
  updateIdentity: identity,
  deleteIdentity: z.strictObject(ref),
  regenerateKeys: z.strictObject({ ...ref, which: z.enum(['primaryKey', 'secondaryKey', 'both']) }),
  twin: z.strictObject(ref),
  updateTwin: z.strictObject({ ...ref, tags: z.unknown().optional(), desired: z.unknown().optional() }),
  invokeMethod: z.strictObject({
    ...ref,
    name: z.string(),
    payload: z.unknown().optional(),
    responseTimeoutSecs: timeout,
    connectTimeoutSecs: timeout,
  }),
  sendCommand: z.strictObject({
    deviceId: z.string(),
    text: z.string(),
    properties: z.record(z.string(), z.string()).optional(),
    messageId: text,
    correlationId: text,
    contentType: text,
    contentEncoding: text,
    ack: z.enum(['none', 'positive', 'negative', 'full']).optional(),
    expiresInSecs: z.number().positive().optional(),
  }),
};
const eventsQuery = z.strictObject({ deviceId: z.string().optional(), from: z.enum(['earliest', 'latest']) });

export const HUB_CALLS = Object.keys(REQUESTS) as readonly HubCall[];

/** @throws GatewayError GW_USAGE that names every fault. */
function parse(schema: z.ZodType, input: unknown): unknown {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path, message }) => `${path.join('.') || 'request'}: ${message}`);
  throw new GatewayError('GW_USAGE', `The request has faults: ${faults.join('; ')}.`);
}

export function addHubRoutes(app: FastifyInstance, hub: HubAdmin, closing: AbortSignal): void {
  for (const name of HUB_CALLS) {
    const call = hub[name] as (request: unknown) => Promise<unknown>;
    app.post(`/v1/hub/${name}`, ({ body }) => call(parse(REQUESTS[name], body)));
  }
  app.post('/v1/hub/monitorEvents', async ({ body }, reply) => {
    const { deviceId, from } = parse(eventsQuery, body) as z.output<typeof eventsQuery>;
    const query = { from, ...(deviceId !== undefined && { deviceId }) };
    await answerLines(reply, closing, (signal, tell) =>
      hub.monitorEvents(query, { signal, report: (event) => tell({ kind: 'event', event } as EventLine) }),
    );
  });
}
