// Bulk writes of the registry: each entry for itself, all of them sharing the syncs of the store (contract/service-03, section 4).

import type { BulkEntry, BulkFailure, IdentityRegistry, IfMatch } from '../core/hub/identity.ts';
import { iotHubError, iotHubErrorOf } from '../iothub/errors.ts';
import { QUOTAS } from '../iothub/quotas.ts';
import type { DeviceInput } from './identity-rules.ts';
import type { HubTwins } from './twins.ts';
import type { TwinRecord } from '../iothub/twin-record.ts';

interface Target {
  readonly registry: Pick<IdentityRegistry, 'putDevice' | 'putModule' | 'deleteDevice' | 'deleteModule'> & {
    createDevice(hubId: string, device: DeviceInput, twin?: TwinRecord): Promise<string>;
  };
  readonly twins: HubTwins;
  readonly hubId: string;
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid, DeviceDefinedMultipleTimes: then nothing was done. */
export async function bulkWrites(
  registry: Target['registry'],
  twins: HubTwins,
  hubId: string,
  entries: readonly BulkEntry[],
): Promise<readonly BulkFailure[]> {
  if (entries.length > QUOTAS.identities_per_bulk)
    throw iotHubError('ArgumentInvalid', `A bulk request has at most ${QUOTAS.identities_per_bulk} entries.`);
  const ids = new Set(entries.map(({ device, moduleId }) => `${device.deviceId}/${moduleId ?? ''}`));
  if (ids.size < entries.length) {
    throw iotHubError('DeviceDefinedMultipleTimes', 'A bulk request names each device once.');
  }
  const outcomes = await Promise.all(entries.map((entry) => attempt({ registry, twins, hubId }, entry)));
  return outcomes.filter((outcome) => outcome !== undefined);
}

async function attempt(target: Target, entry: BulkEntry): Promise<BulkFailure | undefined> {
  try {
    await apply(target, entry);
    return undefined;
  } catch (error) {
    const { name, message } = iotHubErrorOf(error);
    return {
      deviceId: entry.device.deviceId,
      ...(entry.moduleId !== undefined && { moduleId: entry.moduleId }),
      errorCode: name,
      errorStatus: message,
    };
  }
}

async function apply({ registry, twins, hubId }: Target, entry: BulkEntry): Promise<void> {
  const { device, moduleId, mode, tags, desired } = entry;
  const { deviceId } = device;
  const ref = moduleId === undefined ? { deviceId } : { deviceId, moduleId };
  switch (mode) {
    case 'create':
    case 'update':
    case 'updateIfMatchETag': {
      const ifMatch = mode === 'create' ? undefined : mode === 'update' ? '*' : demanded(entry.etag);
      if (moduleId !== undefined) {
        await registry.putModule(hubId, { ...device, deviceId, moduleId }, ifMatch);
        if (mode === 'create' && (tags !== undefined || desired !== undefined)) {
          await twins.patch(hubId, ref, { tags, desired }, '*');
        }
      } else if (mode === 'create' && (tags !== undefined || desired !== undefined)) {
        await registry.createDevice(hubId, device, twins.initial({ tags, desired }));
      } else await registry.putDevice(hubId, device, ifMatch);
      return;
    }
    case 'delete':
    case 'deleteIfMatchETag': {
      const ifMatch = mode === 'delete' ? '*' : demanded(entry.etag);
      if (moduleId === undefined) await registry.deleteDevice(hubId, deviceId, ifMatch);
      else await registry.deleteModule(hubId, { deviceId, moduleId }, ifMatch);
      return;
    }
    case 'updateTwin':
    case 'updateTwinIfMatchETag':
      await twins.patch(hubId, ref, { tags, desired }, mode === 'updateTwin' ? '*' : demanded(entry.twinEtag));
  }
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
function demanded(etag: string | undefined): IfMatch {
  if (etag !== undefined && etag !== '') return etag;
  throw iotHubError('ArgumentInvalid', 'The entry has no ETag to match.');
}
