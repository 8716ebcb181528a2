// What a local service writes of the twin of a device of the cloud: it is written there, and stands here once it does.
//
// An ETag is that of the twin here. It holds there as well while what it stands for, tags and desired properties, is the same there:
// then the cloud's own goes with the write.

import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { isDeviceId, type DeviceId } from '../core/device.ts';
import type { CloudIdentities, TwinRequest } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { IfMatch } from '../core/hub/identity.ts';
import type { TwinUpdate } from '../core/hub/twin.ts';
import type { JsonObject } from '../core/json.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError, iotHubErrorName } from '../iothub/errors.ts';
import { patchBetween } from '../iothub/twin-merge.ts';
import { twinEtag, type TwinRecord } from '../iothub/twin-record.ts';
import { checkedSection } from '../iothub/twin-rules.ts';
import { createTurns } from './turns.ts';

/** What a service has of a twin at the cloud. */
export interface ServiceTwin {
  readonly etag: string;
  readonly tags: JsonObject;
  readonly desired: JsonObject;
  /** Of the desired properties. */
  readonly version: number;
}

export interface CloudTwinWrite {
  readonly method: 'PATCH' | 'PUT';
  readonly update: TwinUpdate;
  /** An ETag of the twin here, or `*`. */
  readonly ifMatch: IfMatch;
}

export interface CloudTwinWritesOptions {
  readonly cloud: () => CloudIdentities | undefined;
  readonly record: (deviceId: DeviceId) => Promise<TwinRecord>;
  /** Takes over what the cloud has. @param known version of the desired properties here before the cloud was asked. */
  readonly take: (deviceId: DeviceId, twin: ServiceTwin, known: number) => Promise<void>;
  readonly clock: Clock;
  /** Ends all. */
  readonly signal: AbortSignal;
}

/**
 * Resolves when the cloud has the write, and the twin here as well.
 * @throws GatewayError GW_IOTHUB as the cloud refused it; ServiceUnavailable: the gateway may not, or the cloud does not answer.
 */
export type WriteCloudTwin = (deviceId: string, write: CloudTwinWrite) => Promise<void>;

/** Of a whole write, with the wait for those before it. */
const WRITE_MS = 15_000;

export function createCloudTwinWrites({ cloud, record, take, clock, signal }: CloudTwinWritesOptions): WriteCloudTwin {
  const turns = createTurns();
  let underWay = 0;

  /** The ETag that the twin has at the cloud, if it is there as it is here. */
  async function etagThere(deviceId: DeviceId, known: TwinRecord, ask: Ask, ifMatch: IfMatch): Promise<IfMatch> {
    if (ifMatch === undefined || ifMatch === '*') return ifMatch;
    checkMatch(known, ifMatch);
    const { version } = known.desired;
    const theirs = await ask({ method: 'GET' });
    if (theirs.version === version && isSame(known.tags, theirs.tags)) return theirs.etag;
    await take(deviceId, theirs, version);
    throw iotHubError(
      'PreconditionFailed',
      `Precondition failed: the twin of device ${deviceId} has changed at the cloud. Read it again, and write then.`,
    );
  }

  async function write(deviceId: DeviceId, ask: Ask, { method, update, ifMatch }: CloudTwinWrite): Promise<void> {
    const known = await record(deviceId);
    const etag = await etagThere(deviceId, known, ask, ifMatch);
    await take(deviceId, await ask({ method, update, ifMatch: etag }), known.desired.version);
  }

  return async (deviceId, asked) => {
    const source = cloud();
    if (source?.askTwin === undefined || !isDeviceId(deviceId)) throw notOurs(deviceId);
    if (underWay >= LIMITS.hub_cloud_twin_writes) {
      throw iotHubError(
        'ThrottlingException',
        `${underWay} writes of twins wait for the cloud already. Try again later.`,
      );
    }
    const patience = new AbortController();
    const cancel = clock.after(WRITE_MS, () => patience.abort());
    const ending = AbortSignal.any([signal, patience.signal]);
    const ask: Ask = async (request) => readTwin(await source.askTwin?.(deviceId, request, ending));
    underWay += 1;
    try {
      await turns.run(deviceId, async () => {
        ending.throwIfAborted();
        await write(deviceId, ask, asked);
      });
    } catch (error) {
      throw iotHubErrorName(error) === undefined ? noAnswer(deviceId, error) : error;
    } finally {
      underWay -= 1;
      cancel();
    }
  };
}

type Ask = (request: TwinRequest) => Promise<ServiceTwin>;

/** @throws GatewayError GW_IOTHUB PreconditionFailed. */
export function checkMatch(twin: TwinRecord, ifMatch: IfMatch): void {
  const etag = twinEtag(twin);
  if (ifMatch === undefined || ifMatch === '*' || ifMatch === etag) return;
  throw iotHubError(
    'PreconditionFailed',
    `Precondition failed: twin version did not match, existingVersion:${etag} newVersion:${ifMatch.slice(0, 64)}`,
  );
}

function notOurs(deviceId: string): Error {
  return iotHubError(
    'ServiceUnavailable',
    `The tags and desired properties of device ${deviceId} belong to the cloud behind this gateway, which holds no policy there that may write them: give it one, or write them in the cloud.`,
  );
}

function noAnswer(deviceId: string, error: unknown): Error {
  return iotHubError(
    'ServiceUnavailable',
    `The tags and desired properties of device ${deviceId} belong to the cloud behind this gateway, which does not answer as it should: ${errorText(error)} Try again later.`,
  );
}

const documentSchema = z.object({
  etag: z.string(),
  tags: z.unknown().optional(),
  properties: z.object({ desired: z.looseObject({ $version: z.int().min(0) }) }),
});

function readTwin(document: unknown): ServiceTwin {
  try {
    const { etag, tags, properties } = documentSchema.parse(document);
    const { desired } = properties;
    return {
      etag,
      tags: checkedSection('tags', tags ?? {}),
      desired: checkedSection('desired', desired),
      version: desired.$version,
    };
  } catch (error) {
    throw new Error('its answer is no twin.', { cause: error });
  }
}

function isSame(one: JsonObject, other: JsonObject): boolean {
  return Object.keys(patchBetween(one, other)).length === 0;
}
