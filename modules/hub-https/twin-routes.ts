// Twins over HTTPS, and the one query that lists them (contract/service-04-twins-query.md, sections 1 and 3).

import { z } from 'zod';
import {
  iotHubError,
  iotHubErrorName,
  isRegistryId,
  QUOTAS,
  type Hub,
  type IdentityRef,
  type TwinDocument,
  type TwinUpdate,
} from '#sdk';
import { etagOf, readJson } from './json-body.ts';
import type { Call, Routes } from './routes.ts';

/** Tags and desired properties at their largest, and the marks and metadata of a document that comes back whole. */
const TWIN_BYTES = 256 * 1024;
const QUERY_BYTES = 64 * 1024;
const QUERY_CHARS = 8192;
const PAGE_TWINS = 100;

const updateSchema = z.object(
  {
    tags: z.unknown().optional(),
    properties: z.object({ desired: z.unknown().optional() }, { error: 'must be an object' }).nullish(),
  },
  { error: 'must be an object' },
);

export function addTwinRoutes(routes: Routes, hub: Hub): void {
  const { twins } = hub;
  for (const url of ['/twins/:deviceId', '/twins/:deviceId/modules/:moduleId']) {
    routes({
      method: 'GET',
      url,
      who: 'ServiceConnect',
      run: async ({ hubId, ref, reply }) => answer(reply, await twins.get(hubId, ref)),
    });
    for (const [method, write] of [
      ['PATCH', 'patch'],
      ['PUT', 'replace'],
    ] as const) {
      routes({
        method,
        url,
        who: 'ServiceConnect',
        bodyBytes: TWIN_BYTES,
        run: async ({ hubId, ref, body, header, reply }) =>
          answer(reply, await twins[write](hubId, ref, updateOf(body), etagOf(header('if-match')))),
      });
    }
  }
  routes({
    method: 'POST',
    url: '/devices/query',
    who: 'ServiceConnect',
    bodyBytes: QUERY_BYTES,
    run: (call) => query(hub, call),
  });
}

function answer(reply: Call['reply'], twin: TwinDocument): TwinDocument {
  const { etag } = twin;
  if (typeof etag === 'string') reply.raw.setHeader('ETag', `"${etag}"`);
  return twin;
}

/** `properties.reported` and all else that a document holds is not the service's to write. */
function updateOf(body: Uint8Array): TwinUpdate {
  const { tags, properties } = readJson(updateSchema, body);
  const desired = properties?.desired;
  return { ...(tags !== undefined && { tags }), ...(desired !== undefined && { desired: withoutMarks(desired) }) };
}

/** A document that was read and comes back changed brings `$metadata` and `$version` along. */
function withoutMarks(desired: unknown): unknown {
  if (typeof desired !== 'object' || desired === null || Array.isArray(desired)) return desired;
  return Object.fromEntries(Object.entries(desired).filter(([name]) => name !== '$metadata' && name !== '$version'));
}

const querySchema = z.object(
  {
    query: z.string({ error: 'must be a text' }).max(QUERY_CHARS, { error: `has more than ${QUERY_CHARS} characters` }),
  },
  { error: 'must be an object' },
);

/** All devices, in pages. The language of queries is not there yet, and says so. */
async function query(hub: Hub, { hubId, body, header, reply }: Call): Promise<readonly TwinDocument[]> {
  const { query: text } = readJson(querySchema, body);
  if (!/^\s*select\s+\*\s+from\s+devices\s*;?\s*$/i.test(text)) {
    throw iotHubError(
      'ArgumentInvalid',
      'This hub answers "SELECT * FROM devices" only; conditions are not supported.',
    );
  }
  const limit = pageOf(header('x-ms-max-item-count'));
  const afterId = idOf(header('x-ms-continuation'));
  const found = await hub.identities.devices(hubId, { limit: limit + 1, ...(afterId !== undefined && { afterId }) });
  const page = found.slice(0, limit);
  reply.header('x-ms-item-type', 'Twin');
  const last = page.at(-1);
  if (found.length > page.length && last !== undefined) {
    reply.header('x-ms-continuation', continuationAfter(last.deviceId));
  }
  const twins = await Promise.all(page.map(({ deviceId }) => twinOf(hub, hubId, { deviceId })));
  return twins.filter((twin) => twin !== undefined);
}

/** Tells what was given for a page from any other text. */
const AFTER = 'after ';

function continuationAfter(deviceId: string): string {
  return Buffer.from(`${AFTER}${deviceId}`, 'utf8').toString('base64url');
}

/** The device after which a page goes on. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
function idOf(continuation: string | undefined): string | undefined {
  if (continuation === undefined) return undefined;
  const id = Buffer.from(continuation, 'base64url').toString('utf8').slice(AFTER.length);
  if (isRegistryId(id) && continuation === continuationAfter(id)) return id;
  throw iotHubError('ArgumentInvalid', 'x-ms-continuation is not what an earlier page of this query gave.');
}

/** Undefined where the device was deleted meanwhile. */
async function twinOf(hub: Hub, hubId: string, ref: IdentityRef): Promise<TwinDocument | undefined> {
  try {
    return await hub.twins.get(hubId, ref);
  } catch (error) {
    if (iotHubErrorName(error) === 'DeviceNotFound') return undefined;
    throw error;
  }
}

/**
 * The registry gives at most one less than a page of it, so that the next one is known of: more than that is taken as that many.
 * @throws GatewayError GW_IOTHUB ArgumentInvalid.
 */
function pageOf(text: string | undefined): number {
  if (text === undefined || text === '') return PAGE_TWINS;
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count >= 1) return Math.min(count, QUOTAS.devices_per_page - 1);
  throw iotHubError('ArgumentInvalid', 'x-ms-max-item-count is a whole number from 1.');
}
