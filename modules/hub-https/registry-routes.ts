// The identity registry over HTTPS (contract/service-03-registry.md).

import { z } from 'zod';
import {
  IOT_HUB_ERRORS,
  iotHubError,
  iotHubErrorOf,
  isRegistryId,
  QUOTAS,
  type BulkFailure,
  type Hub,
  type IdentityRef,
} from '#sdk';
import {
  bulkEntries,
  createListJson,
  deviceInput,
  deviceJson,
  IDENTITY_SCHEMAS,
  moduleInput,
  moduleJson,
} from './identity-json.ts';
import { etagOf, jsonBytes, readJson } from './json-body.ts';
import type { Call, Routes } from './routes.ts';

const IDENTITY_BYTES = 64 * 1024;
/** 100 identities with twins. */
const BULK_BYTES = 4 * 1024 * 1024;

export function addRegistryRoutes(routes: Routes, hub: Hub): void {
  addDevices(routes, hub);
  addModules(routes, hub);
  routes({
    method: 'GET',
    url: '/statistics/devices',
    who: 'RegistryRead',
    async run({ hubId }) {
      const { totalDeviceCount, enabledDeviceCount, disabledDeviceCount } = await hub.identities.statistics(hubId);
      return { totalDeviceCount, enabledDeviceCount, disabledDeviceCount };
    },
  });
  routes({
    method: 'GET',
    url: '/statistics/service',
    who: 'RegistryRead',
    async run({ hubId }) {
      const { connectedDeviceCount } = await hub.identities.statistics(hubId);
      return { connectedDeviceCount };
    },
  });
}

function addDevices(routes: Routes, { identities, commands }: Hub): void {
  const listJson = createListJson(deviceJson);
  routes({
    method: 'GET',
    url: '/devices',
    who: 'RegistryRead',
    run: async ({ hubId, query, reply }) =>
      jsonBytes(reply, listJson(await identities.devices(hubId, { limit: topOf(query('top')) }))),
  });
  routes({
    method: 'POST',
    url: '/devices',
    who: 'RegistryWrite',
    bodyBytes: BULK_BYTES,
    async run({ hubId, body, reply }) {
      const failures = await identities.bulk(hubId, bulkEntries(readJson(IDENTITY_SCHEMAS.bulk, body)));
      if (failures.length > 0) reply.status(400);
      return { isSuccessful: failures.length === 0, errors: failures.map(bulkFailure), warnings: [] };
    },
  });
  routes({
    method: 'POST',
    url: '/devices/keys/regenerate',
    who: 'RegistryWrite',
    bodyBytes: IDENTITY_BYTES,
    run: (call) => regenerate(identities, call),
  });
  const device = '/devices/:deviceId';
  routes({
    method: 'GET',
    url: device,
    who: 'RegistryRead',
    run: async ({ hubId, ref, reply }) => withEtag(reply, deviceJson(await identities.device(hubId, ref.deviceId))),
  });
  routes({
    method: 'PUT',
    url: device,
    who: 'RegistryWrite',
    bodyBytes: IDENTITY_BYTES,
    async run({ hubId, ref, body, header, reply }) {
      const input = deviceInput(ref.deviceId, readJson(IDENTITY_SCHEMAS.device, body));
      return withEtag(reply, deviceJson(await identities.putDevice(hubId, input, etagOf(header('if-match')))));
    },
  });
  routes({
    method: 'DELETE',
    url: device,
    who: 'RegistryWrite',
    run: ({ hubId, ref, header }) => identities.deleteDevice(hubId, ref.deviceId, etagOf(header('if-match'))),
  });
  routes({
    method: 'DELETE',
    url: `${device}/commands`,
    who: 'RegistryWrite',
    async run({ hubId, ref: { deviceId } }) {
      // An unknown device is an error, not an empty queue.
      await identities.device(hubId, deviceId);
      return { totalMessagesPurged: await commands.purge(hubId, deviceId), deviceId, moduleId: null };
    },
  });
}

function addModules(routes: Routes, { identities }: Hub): void {
  const listJson = createListJson(moduleJson);
  const modules = '/devices/:deviceId/modules';
  const module = `${modules}/:moduleId`;
  routes({
    method: 'GET',
    url: modules,
    who: 'RegistryRead',
    run: async ({ hubId, ref, reply }) => jsonBytes(reply, listJson(await identities.modules(hubId, ref.deviceId))),
  });
  routes({
    method: 'GET',
    url: module,
    who: 'RegistryRead',
    run: async ({ hubId, ref, reply }) => withEtag(reply, moduleJson(await identities.module(hubId, moduleRef(ref)))),
  });
  routes({
    method: 'PUT',
    url: module,
    who: 'RegistryWrite',
    bodyBytes: IDENTITY_BYTES,
    async run({ hubId, ref, body, header, reply }) {
      const input = moduleInput(moduleRef(ref), readJson(IDENTITY_SCHEMAS.module, body));
      return withEtag(reply, moduleJson(await identities.putModule(hubId, input, etagOf(header('if-match')))));
    },
  });
  routes({
    method: 'DELETE',
    url: module,
    who: 'RegistryWrite',
    run: ({ hubId, ref, header }) => identities.deleteModule(hubId, moduleRef(ref), etagOf(header('if-match'))),
  });
}

/** C# takes the ETag of the header before the one of the body. */
function withEtag<Json extends object>(reply: Call['reply'], json: Json & { readonly etag?: unknown }): Json {
  if (typeof json.etag === 'string') reply.raw.setHeader('ETag', `"${json.etag}"`);
  return json;
}

function moduleRef({ deviceId, moduleId = '' }: IdentityRef): Required<IdentityRef> {
  return { deviceId, moduleId };
}

/** @throws GatewayError GW_IOTHUB DeviceInvalidResultCount. */
function topOf(text: string | undefined): number {
  if (text === undefined || text === '') return QUOTAS.devices_per_page;
  const top = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (top >= 1 && top <= QUOTAS.devices_per_page) return top;
  throw iotHubError('DeviceInvalidResultCount', `top is 1 to ${QUOTAS.devices_per_page}.`);
}

function bulkFailure({ deviceId, moduleId, errorCode, errorStatus }: BulkFailure): object {
  return { deviceId, errorCode, errorStatus, moduleId: moduleId ?? '', operation: '' };
}

const regenerateSchema = z.object({
  policyKey: z.enum(['primaryKey', 'secondaryKey', 'both'], { error: 'must be primaryKey, secondaryKey or both' }),
  devices: z
    .array(z.object({ id: z.string(), moduleId: z.string().nullish() }), { error: 'must be a list' })
    .min(1, { error: 'names no device' })
    .max(QUOTAS.identities_per_bulk, { error: `has more than ${QUOTAS.identities_per_bulk} entries` }),
});

/** Each identity for itself: 200, 207 where some failed, 400 where all did. */
async function regenerate(identities: Hub['identities'], { hubId, body, reply }: Call): Promise<object> {
  const { policyKey, devices } = readJson(regenerateSchema, body);
  const rotatedKeys: object[] = [];
  const errors: object[] = [];
  for (const { id, moduleId } of devices) {
    const ref = moduleId ? { deviceId: id, moduleId } : { deviceId: id };
    const named = { id, moduleId: moduleId ?? null };
    try {
      if (!isRegistryId(id)) throw iotHubError('ArgumentInvalid', 'That is not an id of a device.');
      rotatedKeys.push({ ...named, ...(await identities.regenerateKeys(hubId, ref, policyKey)) });
    } catch (error) {
      const { name, message } = iotHubErrorOf(error);
      errors.push({ ...named, errorCode: name, errorStatus: message, code: IOT_HUB_ERRORS[name] });
    }
  }
  if (errors.length > 0) reply.status(rotatedKeys.length > 0 ? 207 : 400);
  return { policyKey, rotatedKeys, errors };
}
