// How desired properties of adapters' devices ended, as reported properties: what the device confirmed by its value alone, anything
// else by the convention of IoT Plug and Play for writable properties: `{ value, ac, av, ad }`.

import type { PointInfo } from '../core/adapter.ts';
import type { CommandAnswer } from '../core/command.ts';
import type { PointValue } from '../core/reading.ts';
import type { Json, JsonObject } from './twin-record.ts';
import { isObject, isScalar } from './twin-rules.ts';

/** Of `ad`: nobody reads more of a reason. */
const REASON_CHARS = 512;
/** Names that are refused at once, and their length: what is desired by mistake must not crowd out what the device reports. */
const NAMES_MAX = 16;
const NAME_CHARS = 128;
/** It was written, and the device did not say what it holds now. */
const UNCONFIRMED = 202;

/** What became of a desired property that is refused before a device is asked. */
export type Outcome = Pick<CommandAnswer, 'status' | 'values' | 'quality' | 'code' | 'reason'>;

/** What of desired properties is to be written to the device's points, and what is refused before it is asked. */
export function writesOf(
  patch: JsonObject,
  points: readonly PointInfo[],
): { readonly values: Readonly<Record<string, PointValue>>; readonly refused: Readonly<Record<string, Outcome>> } {
  const values: Record<string, PointValue> = {};
  const refused: Record<string, Outcome> = {};
  for (const [name, value] of Object.entries(patch)) {
    const point = points.find((one) => one.name === name);
    if (point === undefined || value === null) continue;
    if (!point.writable) refused[name] = { status: 400, reason: 'The point cannot be written.' };
    else if (isScalar(value)) values[name] = value;
    else refused[name] = { status: 400, reason: 'A point takes a number, a boolean or a text.' };
  }
  return { values, refused };
}

/**
 * The patch of reported properties that tells how each desired one ended.
 * @param reported as it is before; the value that was reported last is kept beside a refusal.
 * @param version of the desired properties that were carried out.
 */
export function reportOf(
  outcomes: Readonly<Record<string, Outcome>>,
  reported: JsonObject,
  version: number,
): JsonObject {
  return Object.fromEntries(
    Object.entries(outcomes).map(([point, outcome]) => {
      const value = outcome.status === 200 ? outcome.values?.[point] : undefined;
      return [point, value ?? refusalOf(point, outcome, reported[point], version)];
    }),
  );
}

/**
 * Refusals of names in the patch that are no point of the device, as by a typing error. An object is none: it is a component of
 * IoT Plug and Play, or what back ends keep for themselves.
 * @param desired all of it, as it is now.
 */
export function refusedNames(
  patch: JsonObject,
  desired: JsonObject,
  points: readonly PointInfo[],
): Readonly<Record<string, Outcome>> {
  const known = new Set(points.map(({ name }) => name));
  const unknown = Object.keys(desired).filter(
    (name) => !known.has(name) && name.length <= NAME_CHARS && isScalar(desired[name]),
  );
  const refused = unknown.slice(0, NAMES_MAX).filter((name) => Object.hasOwn(patch, name));
  return Object.fromEntries(
    refused.map((name) => [name, { status: 400, reason: 'The device has no point of this name.' }]),
  );
}

/** The patch that takes back refusals of what is not desired any more. */
export function withdrawalOf(desired: JsonObject, reported: JsonObject): JsonObject {
  const stale = Object.entries(reported).filter(([name, value]) => isRefusal(value) && !Object.hasOwn(desired, name));
  return Object.fromEntries(stale.map(([name, value]) => [name, heldOf(value) ?? null]));
}

function refusalOf(point: string, outcome: Outcome, before: Json | undefined, version: number): JsonObject {
  const { status, quality, code, reason } = outcome;
  const value = heldOf(before);
  return {
    ...(value !== undefined && { value }),
    ac: status === 200 ? UNCONFIRMED : status,
    av: version,
    ad: (reason ?? code ?? quality?.[point] ?? '').slice(0, REASON_CHARS),
  };
}

/** The value that was reported last, with a refusal or without. */
function heldOf(before: Json | undefined): Json | undefined {
  return isRefusal(before) ? before['value'] : before;
}

function isRefusal(value: Json | undefined): value is JsonObject {
  return isObject(value) && 'ac' in value && 'av' in value;
}
