// Twins: tags and desired properties belong to the service, reported properties to the device. Each write in the device's turn,
// durable before it is answered, and the device told after that.

import type { Clock } from '../core/clock.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { TwinDocument, Twins, TwinUpdate } from '../core/hub/twin.ts';
import { isoTime } from '../core/time.ts';
import { iotHubError } from '../iothub/errors.ts';
import { checkMatch, type CloudTwinWrite, type WriteCloudTwin } from './cloud-twin-writes.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import { isCloudDevice, timeText, type IdentityRecord, type Presence } from './identity-record.ts';
import { notFound } from './identity-rules.ts';
import { twinKey, unsentKey } from './keys.ts';
import { mergeSection, mergeValue, replaceSection } from '../iothub/twin-merge.ts';
import { newTwin, twinEtag, type JsonObject, type Section, type TwinRecord } from '../iothub/twin-record.ts';
import { checkedSection, checkSize, isObject } from '../iothub/twin-rules.ts';
import type { HubSessions } from './sessions.ts';

export interface TwinsOptions {
  readonly storeOf: (hubId: string) => HubStore;
  readonly sessions: HubSessions;
  readonly presence: (hubId: string, ref: IdentityRef) => Presence;
  /** Whether the tags and desired properties of an identity are a cloud's, behind the hub. */
  readonly isOfCloud: (hubId: string, identity: IdentityRecord) => boolean;
  /** Writes what such a twin has at that cloud, and has it here as well when it resolves. */
  readonly writeAtCloud: WriteCloudTwin;
  /** Resolves, soon in any case, when the twin of a device of that cloud is as the cloud has it. Never rejects. */
  readonly caughtUp: (deviceId: string) => Promise<void>;
  readonly clock: Clock;
  /** After the sync of any write. Must not throw. */
  readonly onChanged?: (change: TwinChange) => void;
}

export interface TwinChange {
  readonly hubId: string;
  readonly ref: IdentityRef;
  readonly operation: 'updateTwin' | 'replaceTwin';
  readonly by: 'service' | 'device' | 'cloud';
  /** What was written of each section. */
  readonly tags?: JsonObject;
  readonly desired?: JsonObject;
  readonly reported?: JsonObject;
  readonly twin: TwinRecord;
}

export interface HubTwins extends Twins {
  /** A new twin with these tags and desired properties. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
  initial(update: TwinUpdate): TwinRecord;
  record(hubId: string, ref: IdentityRef): Promise<TwinRecord>;
  /** Writes what `made` makes of a twin, and notifies the device of what is desired; undefined: nothing. */
  change(hubId: string, ref: IdentityRef, made: (found: FoundTwin) => MadeChange | undefined): Promise<void>;
}

export type MadeChange = Omit<TwinChange, 'hubId' | 'ref'>;

export interface FoundTwin {
  readonly identity: IdentityRecord;
  readonly twin: TwinRecord;
}

export function createTwins(options: TwinsOptions): HubTwins {
  const { storeOf, sessions, presence, isOfCloud, writeAtCloud, caughtUp, clock, onChanged } = options;

  async function find(store: HubStore, ref: IdentityRef): Promise<FoundTwin> {
    const identity = await store.identity(ref);
    if (identity === undefined) throw notFound(ref);
    // It is written with the identity; one that a salvage lost begins anew.
    return { identity, twin: ((await store.json(twinKey(ref))) as TwinRecord | undefined) ?? newTwin() };
  }

  /** Reads, changes and writes in the device's turn; what `change` throws leaves all as it was. */
  async function write(
    hubId: string,
    ref: IdentityRef,
    change: (found: FoundTwin) => MadeChange | undefined,
  ): Promise<FoundTwin> {
    const store = storeOf(hubId);
    return store.turn(ref.deviceId, async () => {
      const found = await find(store, ref);
      const changed = change(found);
      if (changed === undefined) return found;
      const changes = [changeOf(twinKey(ref), changed.twin)];
      const isUnsent = changed.twin.cloud?.reported !== undefined;
      if (isUnsent !== (found.twin.cloud?.reported !== undefined)) {
        changes.push(changeOf(unsentKey(ref), isUnsent ? true : undefined));
      }
      await store.write({ changes });
      if (changed.desired !== undefined) notify(hubId, ref, changed.desired, changed.twin.desired.version);
      onChanged?.({ hubId, ref, ...changed });
      return { identity: found.identity, twin: changed.twin };
    });
  }

  function notify(hubId: string, ref: IdentityRef, patch: JsonObject, version: number): void {
    const session = sessions.find(hubId, ref, 'desired');
    if (session === undefined) return;
    const { sessionId } = session;
    const bytes = Buffer.from(JSON.stringify(withVersion(patch, version)));
    sessions.send(sessionId, { kind: 'desired', sessionId, patch: bytes, version });
  }

  /** A write by a service; that of a cloud's part of a twin is the cloud's to do. */
  async function serve(
    hubId: string,
    ref: IdentityRef,
    asked: CloudTwinWrite,
    change: (twin: TwinRecord) => MadeChange,
  ): Promise<TwinDocument> {
    const known = await find(storeOf(hubId), ref);
    if (isOfCloud(hubId, known.identity)) {
      await writeAtCloud(ref.deviceId, asked);
      return documentOf(hubId, ref, await find(storeOf(hubId), ref));
    }
    const found = await write(hubId, ref, ({ twin }) => {
      checkMatch(twin, asked.ifMatch);
      return change(twin);
    });
    return documentOf(hubId, ref, found);
  }

  /** What the service may write. */
  function sectionsOf({ tags, desired }: TwinUpdate): { readonly tags?: JsonObject; readonly desired?: JsonObject } {
    return {
      ...(tags !== undefined && { tags: checkedSection('tags', tags) }),
      ...(desired !== undefined && { desired: checkedSection('desired', desired) }),
    };
  }

  function next(before: TwinRecord, tags: JsonObject, desired: Section): TwinRecord {
    checkSize('tags', tags);
    checkSize('desired', desired.value);
    return { ...before, changes: before.changes + 1, version: before.version + 1, tags, desired };
  }

  const documentOf = (hubId: string, ref: IdentityRef, { identity, twin }: FoundTwin): TwinDocument =>
    documentFrom(identity, twin, presence(hubId, ref));

  return {
    async own(hubId, ref) {
      let found = await find(storeOf(hubId), ref);
      if (isOfCloud(hubId, found.identity)) {
        await caughtUp(ref.deviceId);
        found = await find(storeOf(hubId), ref);
      }
      const { desired, reported } = found.twin;
      return Buffer.from(
        JSON.stringify({
          desired: withVersion(desired.value, desired.version),
          reported: withVersion(reported.value, reported.version),
        }),
      );
    },
    async report(hubId, ref, patch, baseVersion) {
      const reported = checkedSection('reported', parse(patch));
      const { twin } = await write(hubId, ref, ({ identity, twin: before }) => {
        const { version } = before.reported;
        if (baseVersion !== undefined && baseVersion !== version) {
          throw iotHubError(
            'PreconditionFailed',
            `Precondition failed: reported properties are at version ${version}, not ${baseVersion}.`,
          );
        }
        const section = mergeSection(before.reported, reported, isoTime(clock.wallMs()), false);
        checkSize('reported', section.value);
        // What the cloud has stays known.
        const cloud = { reported: before.reported.value, version: 0, ...before.cloud };
        const kept = isCloudDevice(identity) ? { ...before, cloud } : before;
        const twin = { ...kept, version: before.version + 1, reported: section };
        return { operation: 'updateTwin', by: 'device', reported, twin };
      });
      return twin.reported.version;
    },
    async get(hubId, ref) {
      return documentOf(hubId, ref, await find(storeOf(hubId), ref));
    },
    async patch(hubId, ref, given, ifMatch) {
      const update = sectionsOf(given);
      return serve(hubId, ref, { method: 'PATCH', update, ifMatch }, (before) => {
        const { tags, desired } = update;
        const twin = next(
          before,
          tags === undefined ? before.tags : mergeValue(before.tags, tags),
          desired === undefined ? before.desired : mergeSection(before.desired, desired, isoTime(clock.wallMs()), true),
        );
        return { operation: 'updateTwin', by: 'service', ...update, twin };
      });
    },
    async replace(hubId, ref, given, ifMatch) {
      // What is left out becomes empty (contract/service-04, section 1).
      const sections = sectionsOf(given);
      const tags = mergeValue({}, sections.tags ?? {});
      const desired = mergeValue({}, sections.desired ?? {});
      return serve(hubId, ref, { method: 'PUT', update: { tags, desired }, ifMatch }, (before) => {
        const section = replaceSection(before.desired, desired, isoTime(clock.wallMs()), true);
        return { operation: 'replaceTwin', by: 'service', tags, desired, twin: next(before, tags, section) };
      });
    },
    initial(update) {
      const { tags = {}, desired } = sectionsOf(update);
      const twin = newTwin();
      const section =
        desired === undefined
          ? twin.desired
          : { ...mergeSection({ ...twin.desired, version: 0 }, desired, isoTime(clock.wallMs()), true) };
      const whole = { ...twin, tags: mergeValue({}, tags), desired: section };
      checkSize('tags', whole.tags);
      checkSize('desired', whole.desired.value);
      return whole;
    },
    async change(hubId, ref, made) {
      await write(hubId, ref, made);
    },
    async record(hubId, ref) {
      return (await find(storeOf(hubId), ref)).twin;
    },
  };
}

/** Bytes that are no text would be stored as other ones. */
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(UTF_8.decode(bytes));
  } catch {
    throw iotHubError('IotHubFormatError', 'The patch is not JSON in UTF-8.');
  }
}

function withVersion(value: JsonObject, version: number): JsonObject {
  return { ...value, $version: version };
}

/** The service's view (contract/service-04, section 2). */
function documentFrom(identity: IdentityRecord, twin: TwinRecord, presence: Presence): TwinDocument {
  const { deviceId, moduleId, auth } = identity;
  const section = ({ value, metadata, version }: Section): Record<string, unknown> => ({
    ...value,
    $metadata: metadata,
    $version: version,
  });
  const device = moduleId === undefined ? identity : undefined;
  return {
    deviceId,
    ...(moduleId !== undefined && { moduleId }),
    modelId: identity.modelId ?? '',
    etag: twinEtag(twin),
    deviceEtag: identity.etag,
    status: device?.status ?? 'enabled',
    ...(device !== undefined && { statusReason: device.statusReason }),
    statusUpdateTime: timeText(device?.statusChangedMs),
    connectionState: presence.isConnected ? 'Connected' : 'Disconnected',
    lastActivityTime: timeText(presence.activityMs ?? identity.activityMs),
    cloudToDeviceMessageCount: device?.commandCount ?? 0,
    authenticationType: auth.type,
    x509Thumbprint: auth.thumbprints ?? { primaryThumbprint: null, secondaryThumbprint: null },
    ...(device !== undefined && {
      capabilities: { iotEdge: device.iotEdge },
      ...(device.deviceScope !== undefined && { deviceScope: device.deviceScope }),
      parentScopes: device.parentScopes,
    }),
    version: twin.version,
    tags: isObject(twin.tags) ? twin.tags : {},
    properties: { desired: section(twin.desired), reported: section(twin.reported) },
  };
}
