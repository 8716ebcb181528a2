// Devices of a cloud behind the hub (transparent gateway): whoever proves with the key that the gateway has for them is let in
// without having been registered by hand. The key is kept with the identity, so that nothing depends on the cloud afterwards.

import { isDeviceId } from '../core/device.ts';
import type { CloudIdentities } from '../core/endpoint.ts';
import type { IdentityRef, SymmetricKey } from '../core/hub/identity.ts';
import { iotHubErrorName } from '../iothub/errors.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { HubStore } from './hub-store.ts';
import { identitySeal, keysOf, type DeviceRecord, type IdentityRecord } from './identity-record.ts';
import type { HubRegistry } from './identity-registry.ts';
import type { HubSessions } from './sessions.ts';

export interface CloudDevicesOptions {
  /** The hub that stands in for the cloud. */
  readonly hubId: string;
  /** Undefined while no upstream leads to one. */
  readonly cloud: () => CloudIdentities | undefined;
  readonly storeOf: (hubId: string) => HubStore;
  readonly identities: () => Pick<HubRegistry, 'createDevice' | 'putDevice'>;
  readonly sessions: Pick<HubSessions, 'list'>;
  readonly sealer: Sealer;
}

export interface CloudDevices {
  /** Whether tokens are made for the cloud by this name. @param host lower case. */
  isHostName(hubId: string, host: string): boolean;
  /**
   * The identity that a token names, with the key that counts now. One that is not there is made if the token is signed with
   * the key of such a device. @throws GatewayError as the store.
   */
  find(
    store: HubStore,
    ref: IdentityRef,
    isSignedBy: (keys: SymmetricKey) => boolean,
  ): Promise<IdentityRecord | undefined>;
  /** There is another upstream: sessions by keys that are no longer known end. @throws GatewayError as the store. */
  changed(): Promise<void>;
}

export function createCloudDevices(options: CloudDevicesOptions): CloudDevices {
  const { hubId, cloud, storeOf, identities, sessions, sealer } = options;

  function hasKey({ deviceId, auth }: DeviceRecord, key: string): boolean {
    if (auth.type !== 'sas') return false;
    try {
      return keysOf(auth, identitySeal(sealer, hubId, { deviceId })).primaryKey === key;
    } catch {
      // Sealed under another master key: written anew.
      return false;
    }
  }

  /** Brings the identity in step with the key that the gateway has now; without one nobody is let in as that device. */
  async function catchUp(source: CloudIdentities, record: DeviceRecord): Promise<void> {
    const { deviceId, auth } = record;
    let key: string | undefined;
    try {
      key = isDeviceId(deviceId) ? await source.keyOf(deviceId) : undefined;
    } catch {
      // It cannot be told now: what is kept holds.
      return;
    }
    if (key === undefined ? auth.type === 'none' : hasKey(record, key)) return;
    const authentication = key === undefined ? ({ type: 'none' } as const) : byKey(key);
    await identities().putDevice(hubId, { deviceId, authentication }, '*');
  }

  return {
    isHostName: (hub, host) => hub === hubId && cloud()?.hostName.toLowerCase() === host,
    async find(store, ref, isSignedBy) {
      const { deviceId, moduleId } = ref;
      const record = await store.identity(ref);
      const source = store.hubId === hubId && moduleId === undefined && isDeviceId(deviceId) ? cloud() : undefined;
      if (source === undefined || !isDeviceId(deviceId)) return record;
      if (record !== undefined) {
        if (record.moduleId !== undefined || record.isCloudDevice !== true) return record;
        await catchUp(source, record);
        return store.identity(ref);
      }
      const key = await source.keyOf(deviceId);
      if (key === undefined || !isSignedBy(byKey(key).symmetricKey)) return undefined;
      try {
        await identities().createDevice(hubId, { deviceId, isCloudDevice: true, authentication: byKey(key) });
      } catch (error) {
        // It came twice at once.
        if (iotHubErrorName(error) !== 'DeviceAlreadyExists') throw error;
      }
      return store.identity(ref);
    },
    async changed() {
      const source = cloud();
      if (source === undefined) return;
      for (const { ref } of sessions.list(hubId)) {
        if (ref === undefined || ref.moduleId !== undefined) continue;
        const record = await storeOf(hubId).identity(ref);
        if (record === undefined || record.moduleId !== undefined || record.isCloudDevice !== true) continue;
        await catchUp(source, record);
      }
    },
  };
}

/** Which of a device's two keys it is at the cloud is not known, and does not matter. */
function byKey(key: string): { readonly type: 'sas'; readonly symmetricKey: SymmetricKey } {
  return { type: 'sas', symmetricKey: { primaryKey: key, secondaryKey: key } };
}
