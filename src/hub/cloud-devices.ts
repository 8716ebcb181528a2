// Devices of a cloud behind the hub (transparent gateway): whoever proves with the key that the gateway has for them is let in
// without having been registered by hand. The key is kept with the identity, so that nothing depends on the cloud afterwards.

import { isDeviceId } from '../core/device.ts';
import type { CloudIdentities, DeviceKeys } from '../core/endpoint.ts';
import type { IdentityRef, SymmetricKey } from '../core/hub/identity.ts';
import { iotHubErrorName } from '../iothub/errors.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { HubStore } from './hub-store.ts';
import { identitySeal, isCloudDevice, keysOf, type DeviceRecord, type IdentityRecord } from './identity-record.ts';
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

type IsSignedBy = (keys: SymmetricKey) => boolean;

export interface CloudDevices {
  /** Whether tokens are made for the cloud by this name. @param host lower case. */
  isHostName(hubId: string, host: string): boolean;
  /**
   * The identity that a token names, with the key that counts now. One that is not there is made if the token is signed with
   * the key of such a device. @throws GatewayError as the store.
   */
  find(store: HubStore, ref: IdentityRef, isSignedBy: IsSignedBy): Promise<IdentityRecord | undefined>;
  /** There is another upstream: sessions by keys that are no longer known end. @throws GatewayError as the store. */
  changed(): Promise<void>;
}

export function createCloudDevices(options: CloudDevicesOptions): CloudDevices {
  const { hubId, cloud, storeOf, identities, sessions, sealer } = options;

  function knownKeys({ deviceId, auth }: DeviceRecord): SymmetricKey | undefined {
    if (auth.type !== 'sas') return undefined;
    try {
      return keysOf(auth, identitySeal(sealer, hubId, { deviceId }));
    } catch {
      // Sealed under another master key: written anew.
      return undefined;
    }
  }

  /**
   * Brings the identity in step with the keys that the gateway has now; without one nobody is let in as that device, unless the
   * cloud can be asked.
   */
  async function catchUp(source: CloudIdentities, record: DeviceRecord): Promise<void> {
    const { deviceId, auth } = record;
    let keys: DeviceKeys | undefined;
    try {
      keys = isDeviceId(deviceId) ? await source.keysOf(deviceId) : undefined;
    } catch {
      // It cannot be told now: what is kept holds.
      return;
    }
    if (keys === undefined) {
      if (auth.type === 'none' || source.askKeysOf !== undefined) return;
      await identities().putDevice(hubId, { deviceId, authentication: { type: 'none' } }, '*');
    } else await give(record, keys);
  }

  async function give(record: DeviceRecord, keys: DeviceKeys): Promise<void> {
    const authentication = byKeys(keys);
    const { primaryKey, secondaryKey } = authentication.symmetricKey;
    const known = knownKeys(record);
    if (known?.primaryKey === primaryKey && known.secondaryKey === secondaryKey) return;
    await identities().putDevice(hubId, { deviceId: record.deviceId, authentication }, '*');
  }

  /** A token is signed with none of the keys that are known: perhaps the device has others at the cloud by now. */
  async function askAnew(source: CloudIdentities, record: DeviceRecord, isSignedBy: IsSignedBy): Promise<void> {
    const known = knownKeys(record);
    const { deviceId } = record;
    if (source.askKeysOf === undefined || !isDeviceId(deviceId) || (known && isSignedBy(known))) return;
    // One that cannot be asked has nothing against what is known.
    const keys = await source.askKeysOf(deviceId).catch(() => undefined);
    if (keys !== undefined && isSignedBy(byKeys(keys).symmetricKey)) await give(record, keys);
  }

  async function deviceOf(store: HubStore, deviceId: string): Promise<DeviceRecord | undefined> {
    const record = await store.identity({ deviceId });
    return record?.moduleId === undefined ? record : undefined;
  }

  return {
    isHostName: (hub, host) => hub === hubId && cloud()?.hostName.toLowerCase() === host,
    async find(store, ref, isSignedBy) {
      const { deviceId, moduleId } = ref;
      const source = store.hubId === hubId && moduleId === undefined ? cloud() : undefined;
      if (source === undefined || !isDeviceId(deviceId)) return store.identity(ref);
      const record = await deviceOf(store, deviceId);
      if (record !== undefined) {
        if (!isCloudDevice(record)) return record;
        await catchUp(source, record);
        const now = await deviceOf(store, deviceId);
        if (now !== undefined) await askAnew(source, now, isSignedBy);
        return deviceOf(store, deviceId);
      }
      const keys = (await source.keysOf(deviceId)) ?? (await source.askKeysOf?.(deviceId));
      if (keys === undefined || !isSignedBy(byKeys(keys).symmetricKey)) return undefined;
      try {
        await identities().createDevice(hubId, { deviceId, isCloudDevice: true, authentication: byKeys(keys) });
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
        const record = await deviceOf(storeOf(hubId), ref.deviceId);
        if (record !== undefined && isCloudDevice(record)) await catchUp(source, record);
      }
    },
  };
}

/** Which of a device's two keys it is does not matter where one is known. */
function byKeys([primaryKey, secondaryKey = primaryKey]: DeviceKeys) {
  return { type: 'sas', symmetricKey: { primaryKey, secondaryKey } } as const;
}
