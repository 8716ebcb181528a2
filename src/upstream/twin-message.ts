// Twins as JSON from a peer, and as they are kept.

import { z } from 'zod';
import { GatewayError } from '../core/errors.ts';
import type { PeerTwin } from '../core/twin-link.ts';
import type { Json, JsonObject } from '../iothub/twin-record.ts';
import { checkedSection, isObject } from '../iothub/twin-rules.ts';
import type { TwinState } from './twin-state.ts';

/** Desired and reported properties have 32 KB each, without what JSON adds to them. */
const TWIN_BYTES = 512 * 1024;

/** @throws GatewayError GW_PROTOCOL; GW_IOTHUB ArgumentInvalid for what no twin may hold. */
export function readTwin(body: Uint8Array): PeerTwin {
  const twin = objectOf(body);
  const { desired, reported } = twin;
  const version = versionOf(desired);
  if (version === undefined) {
    throw new GatewayError('GW_PROTOCOL', 'The twin has no version of its desired properties.');
  }
  return {
    version,
    desired: checkedSection('desired', desired),
    reported: checkedSection('reported', reported ?? {}),
    reportedVersion: versionOf(reported) ?? 0,
  };
}

function versionOf(section: Json | undefined): number | undefined {
  const version = isObject(section) ? section['$version'] : undefined;
  return typeof version === 'number' && Number.isSafeInteger(version) && version >= 0 ? version : undefined;
}

/** A patch of desired properties, without its version. @throws GatewayError as `readTwin`. */
export function readPatch(body: Uint8Array): JsonObject {
  return checkedSection('desired', objectOf(body));
}

function objectOf(body: Uint8Array): JsonObject {
  if (body.byteLength > TWIN_BYTES) {
    throw new GatewayError('GW_PROTOCOL', `The twin has ${body.byteLength} bytes; ${TWIN_BYTES} is the most.`);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (error) {
    throw new GatewayError('GW_PROTOCOL', 'The twin is not JSON.', { cause: error });
  }
  if (!isObject(value)) throw new GatewayError('GW_PROTOCOL', 'The twin is no object.');
  return value;
}

const stateSchema = z.object({
  version: z.number(),
  desired: z.custom<JsonObject>(isObject),
  due: z.record(z.string(), z.record(z.string(), z.number())),
  round: z.number(),
  reported: z.custom<JsonObject>(isObject),
});

/** Undefined for what another release wrote. */
export function readTwinState(value: Uint8Array): TwinState | undefined {
  return stateSchema.safeParse(JSON.parse(Buffer.from(value).toString('utf8'))).data;
}
