// The identity registry: devices and modules, each write in its device's turn and with the twin in the same commit
// (contract/service-03-registry.md).

import type { Clock } from '../core/clock.ts';
import type {
  DeviceIdentityInput,
  IdentityRef,
  IdentityRegistry,
  IfMatch,
  ModuleIdentityInput,
  SymmetricKey,
} from '../core/hub/identity.ts';
import { LIMITS } from '../core/limits.ts';
import type { StateChange } from '../core/state.ts';
import { iotHubError } from '../iothub/errors.ts';
import type { Random } from '../platform/random.ts';
import { bulkWrites } from './bulk.ts';
import { changeOf, type HubStore, type HubWrite } from './hub-store.ts';
import { createIdentityList, type IdentityListOptions } from './identity-list.ts';
import {
  deviceView,
  isCloudDevice,
  keysOf,
  moduleView,
  nextAuthentication,
  refOf,
  type DeviceRecord,
  type IdentityRecord,
  type ModuleRecord,
  identitySeal,
} from './identity-record.ts';
import {
  checkId,
  checkNotSystemModule,
  checkPrecondition,
  checkStatusReason,
  type DeviceInput,
  deviceOfScope,
  EDGE_MODULES,
  notFound,
  parentsOf,
} from './identity-rules.ts';
import { commandsPrefix, expiryKey, sessionKey, twinKey, unsentKey } from './keys.ts';
import { newTwin, type TwinRecord } from '../iothub/twin-record.ts';
import type { HubTwins } from './twins.ts';

export interface IdentityRegistryOptions extends IdentityListOptions {
  readonly storeOf: (hubId: string) => HubStore;
  readonly twins: HubTwins;
  readonly connectedDevices: (hubId: string) => number;
  /** After the sync: an identity is another or gone. Resolves when its sessions were told. */
  readonly onChanged: (change: IdentityChange) => Promise<void>;
  /** Base64 of 32 random bytes. */
  readonly newKey: () => string;
  readonly clock: Clock;
  readonly random: Random;
}

export interface IdentityChange {
  readonly hubId: string;
  readonly ref: IdentityRef;
  readonly kind: 'created' | 'updated' | 'deleted';
}

export interface HubRegistry extends IdentityRegistry {
  /** Resolves with its generation. @param twin what the new device's twin begins with. */
  createDevice(hubId: string, device: DeviceInput, twin?: TwinRecord): Promise<string>;
}

/** From the year 1 to 1970: generation ids look like ticks of .NET. */
const TICKS_EPOCH_MS = 62_135_596_800_000;
const TICKS_PER_MS = 10_000;

export function createIdentityRegistry(options: IdentityRegistryOptions): HubRegistry {
  const { storeOf, twins, presence, connectedDevices, onChanged, sealer, newKey, clock, random } = options;
  const list = createIdentityList(options);
  const sealOf = (hubId: string, ref: IdentityRef) => identitySeal(sealer, hubId, ref);
  const drawing = ({ hubId }: HubStore, ref: IdentityRef) => ({ sealer: sealOf(hubId, ref), newKey });

  const newEtag = (): string => Buffer.from(random.id(9)).toString('base64');
  const newGenerationId = (): string => {
    const ticks = BigInt(Math.trunc(clock.wallMs()) + TICKS_EPOCH_MS) * BigInt(TICKS_PER_MS);
    return String(ticks + BigInt(Math.floor(random.fraction() * TICKS_PER_MS)));
  };

  async function knownDevice(store: HubStore, deviceId: string): Promise<DeviceRecord> {
    const record = await store.identity({ deviceId });
    if (record === undefined || record.moduleId !== undefined) throw notFound({ deviceId });
    return record;
  }

  async function knownModule(store: HubStore, ref: Required<IdentityRef>): Promise<ModuleRecord> {
    const record = await store.identity(ref);
    if (record?.moduleId !== undefined) return record;
    await knownDevice(store, ref.deviceId);
    throw notFound(ref);
  }

  function newModule(
    store: HubStore,
    { deviceId, moduleId }: Required<IdentityRef>,
    input: Partial<ModuleIdentityInput>,
  ): ModuleRecord {
    return {
      deviceId,
      moduleId,
      generationId: newGenerationId(),
      etag: newEtag(),
      auth: nextAuthentication(input.authentication, undefined, drawing(store, { deviceId, moduleId })),
      managedBy: input.managedBy ?? null,
    };
  }

  /** @throws GatewayError GW_IOTHUB InvalidDeviceScope. */
  async function scopesOf(
    store: HubStore,
    input: DeviceIdentityInput,
    own: string | undefined,
    known?: DeviceRecord,
  ): Promise<Pick<DeviceRecord, 'deviceScope' | 'parentScopes'>> {
    const parents = parentsOf(input, own !== undefined, known);
    if (parents.length > 1) throw iotHubError('InvalidDeviceScope', 'A device has at most one parent.');
    // The parent that it has may have been deleted: it keeps it until it is told another.
    for (const scope of parents.filter((one) => known?.parentScopes.includes(one) !== true)) {
      const parent = await store.identity({ deviceId: deviceOfScope(scope) });
      const isScope = parent?.moduleId === undefined && parent?.iotEdge === true && parent.deviceScope === scope;
      if (!isScope || parent.deviceId === input.deviceId) {
        throw iotHubError(
          'InvalidDeviceScope',
          `"${scope.slice(0, 200)}" is not the scope of a registered edge device.`,
        );
      }
    }
    const scope = own ?? parents[0];
    return { ...(scope !== undefined && { deviceScope: scope }), parentScopes: parents };
  }

  async function newDevice(store: HubStore, input: DeviceInput): Promise<DeviceRecord> {
    const generationId = newGenerationId();
    const iotEdge = input.capabilities?.iotEdge === true;
    const own = iotEdge ? `ms-azure-iot-edge://${input.deviceId}-${generationId}` : undefined;
    return {
      deviceId: input.deviceId,
      generationId,
      etag: newEtag(),
      auth: nextAuthentication(input.authentication, undefined, drawing(store, { deviceId: input.deviceId })),
      status: input.status ?? 'enabled',
      statusReason: input.statusReason ?? null,
      iotEdge,
      ...(await scopesOf(store, input, own)),
      ...(input.isGatewayDevice === true && { isGatewayDevice: true }),
      ...(input.isCloudDevice === true && { isCloudDevice: true }),
      commandCount: 0,
      commandsSent: 0,
    };
  }

  async function nextDevice(store: HubStore, known: DeviceRecord, input: DeviceInput): Promise<DeviceRecord> {
    const status = input.status ?? known.status;
    const iotEdge = input.capabilities?.iotEdge ?? known.iotEdge;
    const own = iotEdge ? `ms-azure-iot-edge://${known.deviceId}-${known.generationId}` : undefined;
    const { deviceScope: _, ...rest } = known;
    return {
      ...rest,
      etag: newEtag(),
      auth: nextAuthentication(input.authentication, known.auth, drawing(store, { deviceId: known.deviceId })),
      status,
      // Why it was disabled is no reason for its being enabled.
      statusReason:
        input.statusReason === undefined && status === known.status ? known.statusReason : (input.statusReason ?? null),
      ...(status !== known.status && { statusChangedMs: clock.wallMs() }),
      iotEdge,
      ...(await scopesOf(store, input, own, known)),
    };
  }

  async function checkRoom(store: HubStore): Promise<void> {
    const { devices, modules } = await store.counters();
    if (devices + modules < LIMITS.hub_identities) return;
    throw iotHubError('TooManyDevices', `${LIMITS.hub_identities} identities are registered; that is the most.`);
  }

  /** Creates or updates in the device's turn; returns what stands there now. */
  async function writeDevice(
    hubId: string,
    input: DeviceInput,
    ifMatch: IfMatch,
    twin: TwinRecord = newTwin(),
  ): Promise<DeviceRecord> {
    const { deviceId } = input;
    checkId(deviceId, 'device');
    checkStatusReason(input);
    const store = storeOf(hubId);
    const record = await store.turn(deviceId, async () => {
      const known = await store.identity({ deviceId });
      checkPrecondition(known, { deviceId }, ifMatch);
      if (known === undefined) await checkRoom(store);
      const next =
        known === undefined || known.moduleId !== undefined
          ? await newDevice(store, input)
          : await nextDevice(store, known, input);
      await store.write(await writeOf(store, next, known as DeviceRecord | undefined, twin));
      return next;
    });
    await onChanged({ hubId, ref: { deviceId }, kind: ifMatch === undefined ? 'created' : 'updated' });
    return record;
  }

  async function writeOf(
    store: HubStore,
    next: DeviceRecord,
    known: DeviceRecord | undefined,
    twin: TwinRecord,
  ): Promise<HubWrite> {
    const { deviceId } = next;
    const identities: { ref: IdentityRef; record: IdentityRecord }[] = [{ ref: { deviceId }, record: next }];
    const changes: StateChange[] = known === undefined ? [changeOf(twinKey({ deviceId }), twin)] : [];
    if (next.iotEdge && known?.iotEdge !== true) {
      for (const moduleId of EDGE_MODULES) {
        // Those of a device that was an edge device before are still there.
        if (known !== undefined && (await store.identity({ deviceId, moduleId })) !== undefined) continue;
        const input = { managedBy: 'iotEdge', authentication: { type: 'none' } } as const;
        identities.push({ ref: { deviceId, moduleId }, record: newModule(store, { deviceId, moduleId }, input) });
        changes.push(changeOf(twinKey({ deviceId, moduleId }), newTwin()));
      }
    }
    const enabled = (record: DeviceRecord | undefined): number => (record?.status === 'enabled' ? 1 : 0);
    const counts = {
      devices: known === undefined ? 1 : 0,
      enabledDevices: enabled(next) - enabled(known),
      modules: identities.length - 1,
    };
    const isCounted = counts.devices !== 0 || counts.enabledDevices !== 0 || counts.modules !== 0;
    return { identities, changes, ...(isCounted && { counts }) };
  }

  /** Everything of a device or of a module. */
  async function deletionOf(store: HubStore, record: IdentityRecord): Promise<HubWrite> {
    const { deviceId } = record;
    const family: IdentityRecord[] = [record];
    const changes: StateChange[] = [];
    if (record.moduleId === undefined) {
      family.push(...(await store.modules(deviceId)));
      for await (const [key, value] of store.entries(commandsPrefix(deviceId))) {
        const { expiresAtMs, number } = value as { readonly expiresAtMs: number; readonly number: number };
        changes.push({ key }, { key: expiryKey(expiresAtMs, deviceId, number) });
      }
    }
    const refs = family.map(refOf);
    changes.push(...refs.flatMap((ref) => [{ key: twinKey(ref) }, { key: sessionKey(ref) }]));
    if (isCloudDevice(record)) changes.push({ key: unsentKey({ deviceId }) });
    const modules = refs.filter(({ moduleId }) => moduleId !== undefined).length;
    const isEnabled = record.moduleId === undefined && record.status === 'enabled';
    const counts = { devices: modules - refs.length, enabledDevices: isEnabled ? -1 : 0, modules: -modules };
    return { identities: refs.map((ref) => ({ ref })), changes, counts };
  }

  async function remove(hubId: string, ref: IdentityRef, ifMatch: IfMatch): Promise<void> {
    const store = storeOf(hubId);
    await store.turn(ref.deviceId, async () => {
      const known = await store.identity(ref);
      if (known === undefined) throw notFound(ref);
      checkPrecondition(known, ref, ifMatch ?? '*');
      await store.write(await deletionOf(store, known));
    });
    await onChanged({ hubId, ref, kind: 'deleted' });
  }

  async function putModule(hubId: string, input: ModuleIdentityInput, ifMatch: IfMatch): Promise<ModuleRecord> {
    const { deviceId, moduleId } = input;
    const ref = { deviceId, moduleId };
    checkId(moduleId, 'module');
    checkNotSystemModule(moduleId);
    const store = storeOf(hubId);
    const record = await store.turn(deviceId, async () => {
      await knownDevice(store, deviceId);
      const known = (await store.identity(ref)) as ModuleRecord | undefined;
      checkPrecondition(known, ref, ifMatch);
      if (known !== undefined) {
        const auth = nextAuthentication(input.authentication, known.auth, drawing(store, ref));
        const managedBy = input.managedBy === undefined ? known.managedBy : input.managedBy;
        const next = { ...known, etag: newEtag(), auth, managedBy };
        await store.write({ identities: [{ ref, record: next }] });
        return next;
      }
      await checkRoom(store);
      if ((await store.modules(deviceId)).length >= LIMITS.hub_device_modules) {
        throw iotHubError('TooManyModulesOnDevice', `A device has at most ${LIMITS.hub_device_modules} modules.`);
      }
      const next = newModule(store, ref, input);
      await store.write({
        identities: [{ ref, record: next }],
        changes: [changeOf(twinKey(ref), newTwin())],
        counts: { modules: 1 },
      });
      return next;
    });
    await onChanged({ hubId, ref, kind: ifMatch === undefined ? 'created' : 'updated' });
    return record;
  }

  async function regenerate(
    hubId: string,
    ref: IdentityRef,
    which: 'primaryKey' | 'secondaryKey' | 'both',
  ): Promise<SymmetricKey> {
    const store = storeOf(hubId);
    const keys = await store.turn(ref.deviceId, async () => {
      const known = await store.identity(ref);
      if (known === undefined) throw notFound(ref);
      if (known.auth.type !== 'sas') {
        throw iotHubError('InvalidOperation', `The identity authenticates by ${known.auth.type}; it has no keys.`);
      }
      const symmetricKey = {
        ...(which !== 'secondaryKey' && { primaryKey: newKey() }),
        ...(which !== 'primaryKey' && { secondaryKey: newKey() }),
      };
      const auth = nextAuthentication({ symmetricKey }, known.auth, drawing(store, ref));
      await store.write({ identities: [{ ref, record: { ...known, etag: newEtag(), auth } }] });
      return keysOf(auth, sealOf(hubId, ref));
    });
    await onChanged({ hubId, ref, kind: 'updated' });
    return keys;
  }

  const viewOf = (hubId: string, record: DeviceRecord) =>
    deviceView(record, presence(hubId, refOf(record)), sealOf(hubId, refOf(record)));
  const moduleViewOf = (hubId: string, record: ModuleRecord) =>
    moduleView(record, presence(hubId, refOf(record)), sealOf(hubId, refOf(record)));

  const registry: HubRegistry = {
    device: async (hubId, deviceId) => viewOf(hubId, await knownDevice(storeOf(hubId), deviceId)),
    module: async (hubId, ref) => moduleViewOf(hubId, await knownModule(storeOf(hubId), ref)),
    async devices(hubId, { afterId, limit }) {
      const records = await storeOf(hubId).devices(afterId, Math.min(Math.max(1, limit), 1000));
      return records.map((record) => list.device(hubId, record as DeviceRecord));
    },
    async modules(hubId, deviceId) {
      const store = storeOf(hubId);
      await knownDevice(store, deviceId);
      return (await store.modules(deviceId)).map((record) => list.module(hubId, record as ModuleRecord));
    },
    putDevice: async (hubId, device, ifMatch) => viewOf(hubId, await writeDevice(hubId, device, ifMatch)),
    putModule: async (hubId, module, ifMatch) => moduleViewOf(hubId, await putModule(hubId, module, ifMatch)),
    deleteDevice: (hubId, deviceId, ifMatch) => remove(hubId, { deviceId }, ifMatch),
    async deleteModule(hubId, ref, ifMatch) {
      checkNotSystemModule(ref.moduleId);
      await remove(hubId, ref, ifMatch);
    },
    regenerateKeys: regenerate,
    bulk: (hubId, entries) => bulkWrites(registry, twins, hubId, entries),
    async statistics(hubId) {
      const { devices, enabledDevices } = await storeOf(hubId).counters();
      return {
        totalDeviceCount: devices,
        enabledDeviceCount: enabledDevices,
        disabledDeviceCount: devices - enabledDevices,
        connectedDeviceCount: connectedDevices(hubId),
      };
    },
    async createDevice(hubId, device, twin) {
      return (await writeDevice(hubId, device, undefined, twin)).generationId;
    },
  };
  return registry;
}
