// Twins of devices of a cloud behind the hub (transparent gateway): the cloud owns their desired properties and tags, the devices what
// they report. Here stands what both said last, so that a device finds its twin whether the cloud can be reached or not. What a local
// service writes goes to the cloud first.
//
// Invariants
// - What a device reported is kept with what the cloud has of it, in one write: nothing that it reported is lost, or told anew.
// - Desired properties have the version of the cloud, and no version but the cloud's.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import type { CloudIdentities } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { JsonObject } from '../core/json.ts';
import type { SessionTwins } from '../core/session-devices.ts';
import { isoTime } from '../core/time.ts';
import type { PeerTwin } from '../core/twin-link.ts';
import { iotHubErrorName } from '../iothub/errors.ts';
import { mergeMetadata, mergeSection, mergeValue, patchBetween } from '../iothub/twin-merge.ts';
import type { CloudSide, TwinRecord } from '../iothub/twin-record.ts';
import { createCloudTwinWrites, type ServiceTwin, type WriteCloudTwin } from './cloud-twin-writes.ts';
import type { HubStore } from './hub-store.ts';
import { isCloudDevice } from './identity-record.ts';
import { UNSENT } from './keys.ts';
import type { HubTwins, TwinChange } from './twins.ts';

export interface CloudTwinsOptions {
  /** The hub that stands in for the cloud. */
  readonly hubId: string;
  readonly storeOf: (hubId: string) => HubStore;
  readonly cloud: () => CloudIdentities | undefined;
  readonly twins: () => Pick<HubTwins, 'change' | 'record'>;
  readonly clock: Clock;
  /** A device has reported what the cloud does not have. Must not throw. */
  readonly onUnsent: (deviceId: string) => void;
  /** The store cannot say whose reports the cloud does not have; it is asked again. Must not throw. */
  readonly onUnread: (error: string) => void;
}

export interface CloudTwins extends SessionTwins {
  /** What a local service writes. */
  readonly write: WriteCloudTwin;
  /** Devices that have reported what the cloud does not have. Bounded as identities are. */
  unsentDevices(): Iterable<string>;
  hasUnsent(deviceId: string): boolean;
  /** After the sync of a write. */
  changed(change: TwinChange): void;
  deleted(hubId: string, deviceId: string): void;
  /** Finds what earlier runs left. */
  start(): void;
  stop(): void;
}

/** A twin, and what of it was written. */
type Changed = Pick<TwinChange, 'twin' | 'tags' | 'desired'>;

const AGAIN_MS = 5000;
const UNKNOWN: CloudSide = { version: 0 };

export function createCloudTwins(options: CloudTwinsOptions): CloudTwins {
  const { hubId, storeOf, cloud, twins, clock, onUnsent, onUnread } = options;
  const unsent = new Set<string>();
  const stopping = new AbortController();

  /** Writes what `change` makes of a device's twin; nothing where it is no device of the cloud, or changes nothing. */
  async function change(deviceId: DeviceId, changed: (twin: TwinRecord) => Changed | undefined): Promise<void> {
    try {
      await twins().change(hubId, { deviceId }, ({ identity, twin }) => {
        const next = isCloudDevice(identity) ? changed(twin) : undefined;
        return next && { operation: 'updateTwin', by: 'cloud', ...next };
      });
    } catch (error) {
      // It has been deleted here.
      if (iotHubErrorName(error) !== 'DeviceNotFound') throw error;
    }
  }

  function note({ deviceId }: IdentityRef, { cloud }: TwinRecord): void {
    if (cloud?.reported === undefined) unsent.delete(deviceId);
    else unsent.add(deviceId);
  }

  async function load(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        for await (const [key] of storeOf(hubId).entries(UNSENT)) {
          const deviceId = key.slice(UNSENT.length);
          unsent.add(deviceId);
          onUnsent(deviceId);
        }
        return;
      } catch (error) {
        onUnread(errorText(error));
        await clock.sleep(AGAIN_MS, stopping.signal).catch(() => {});
      }
    }
  }

  return {
    write: createCloudTwinWrites({
      cloud,
      record: (deviceId) => twins().record(hubId, { deviceId }),
      take: (deviceId, theirs, known) =>
        change(deviceId, (twin) => {
          // The cloud's own patch of a later write may have come first.
          const isOld = twin.desired.version !== known && theirs.version < twin.desired.version;
          const time = isoTime(clock.wallMs());
          const desired = isOld ? undefined : withDesired(twin, theirs.desired, theirs.version, time);
          return withTags(twin, theirs, desired);
        }),
      clock,
      signal: stopping.signal,
    }),
    unsentDevices: () => unsent,
    hasUnsent: (deviceId) => unsent.has(deviceId),
    changed({ hubId: hub, ref, by, twin }) {
      if (hub !== hubId || ref.moduleId !== undefined || twin.cloud === undefined) return;
      note(ref, twin);
      if (by === 'device' && unsent.has(ref.deviceId)) onUnsent(ref.deviceId);
    },
    deleted(hub, deviceId) {
      if (hub === hubId) unsent.delete(deviceId);
    },
    take: (deviceId, theirs) =>
      change(deviceId, (twin) => {
        const time = isoTime(clock.wallMs());
        const desired = withDesired(twin, theirs.desired, theirs.version, time);
        const next = withReported(desired?.twin ?? twin, theirs, time);
        return next === twin ? undefined : { ...desired, twin: next };
      }),
    async takeDesired(deviceId, patch, version) {
      let isThere = true;
      await change(deviceId, (twin) => {
        const { desired } = twin;
        if (version <= desired.version) return undefined;
        isThere = version === desired.version + 1;
        if (!isThere) return undefined;
        const section = mergeSection(desired, patch, isoTime(clock.wallMs()), true);
        return { twin: { ...counted(twin), desired: section }, desired: patch };
      });
      return isThere;
    },
    async unsent(deviceId) {
      if (!unsent.has(deviceId)) return undefined;
      let patch: JsonObject = {};
      await change(deviceId, (twin) => {
        const { cloud = UNKNOWN, reported } = twin;
        patch = patchBetween(cloud.reported ?? reported.value, reported.value);
        // It has reported what the cloud has already.
        return isEmpty(patch) ? { twin: { ...twin, cloud: { version: cloud.version } } } : undefined;
      });
      if (!isEmpty(patch)) return patch;
      unsent.delete(deviceId);
      return undefined;
    },
    sent: (deviceId, patch) =>
      change(deviceId, (twin) => {
        const { cloud = UNKNOWN, reported } = twin;
        if (cloud.reported === undefined) return undefined;
        const theirs = mergeValue(cloud.reported, patch);
        return { twin: { ...twin, cloud: cloudSide(cloud.version + 1, theirs, reported.value) } };
      }),
    start: () => void load(),
    stop: () => stopping.abort(),
  };
}

/** The whole of the desired properties, of which the device is told the difference; undefined: they are those that are here. */
function withDesired(twin: TwinRecord, value: JsonObject, version: number, time: string) {
  const { desired: before } = twin;
  const patch = patchBetween(before.value, value);
  if (version === before.version && isEmpty(patch)) return undefined;
  const metadata = mergeMetadata(value, before.metadata, patch, { time, version });
  return { twin: { ...counted(twin), desired: { value, metadata, version } }, desired: patch };
}

function withTags(twin: TwinRecord, { tags }: ServiceTwin, desired: Changed | undefined): Changed | undefined {
  const patch = patchBetween(twin.tags, tags);
  if (isEmpty(patch)) return desired;
  return { ...desired, tags: patch, twin: { ...(desired?.twin ?? counted(twin)), tags } };
}

/**
 * What the device reported here stands; what it, or somebody for it, reported to the cloud by another way counts where it is
 * newer than what was known of the cloud. An older version there is an answer that was late, or a twin made anew.
 */
function withReported(twin: TwinRecord, theirs: PeerTwin, time: string): TwinRecord {
  const { cloud = UNKNOWN, reported } = twin;
  const isNewer = theirs.reportedVersion >= cloud.version;
  const own = patchBetween(cloud.reported ?? reported.value, reported.value);
  const value = isNewer ? mergeValue(theirs.reported, own) : reported.value;
  const learnt = patchBetween(reported.value, value);
  const next = cloudSide(theirs.reportedVersion, theirs.reported, value);
  if (isEmpty(learnt)) return JSON.stringify(next) === JSON.stringify(twin.cloud) ? twin : { ...twin, cloud: next };
  const section = mergeSection(reported, learnt, time, false);
  return { ...twin, version: twin.version + 1, reported: section, cloud: next };
}

function cloudSide(version: number, theirs: JsonObject, ours: JsonObject): CloudSide {
  return isEmpty(patchBetween(theirs, ours)) ? { version } : { version, reported: theirs };
}

function counted(twin: TwinRecord): TwinRecord {
  return { ...twin, changes: twin.changes + 1, version: twin.version + 1 };
}

function isEmpty(patch: JsonObject): boolean {
  return Object.keys(patch).length === 0;
}
