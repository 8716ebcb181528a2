// How desired properties of adapters' devices ended, as reported properties: what the device confirmed by its value alone, anything
// else by the convention of IoT Plug and Play for writable properties: `{ value, ac, av, ad }`.

import type { CommandAnswer } from '../core/command.ts';
import type { Json, JsonObject } from './twin-record.ts';
import { isObject } from './twin-rules.ts';

/** Of `ad`: nobody reads more of a reason. */
const REASON_CHARS = 512;
/** It was written, and the device did not say what it holds now. */
const UNCONFIRMED = 202;

/** What became of a desired property that is refused before a device is asked. */
export type Outcome = Pick<CommandAnswer, 'status' | 'values' | 'quality' | 'code' | 'reason'>;

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
