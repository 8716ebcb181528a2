// What is known of one identity's twin at the peer, as it is kept: what is desired, what of it is still to be carried out, and what
// is to be reported. Pure functions.
//
// A leaf device's twin holds its points: {"relay":true}. The gateway's own holds those of the leaf devices that have none:
// {"devices":{"meter-1":{"relay":true}}}.

import type { PeerTwin } from '../core/twin-link.ts';
import { mergeValue, patchBetween } from '../iothub/twin-merge.ts';
import type { Json, JsonObject } from '../iothub/twin-record.ts';
import { checkedSection, checkSize, isObject, objectOf } from '../iothub/twin-rules.ts';

/** Whose twin it is: a leaf device's, or the gateway's. */
export type TwinScope = { readonly leafId: string } | 'gateway';

export interface TwinState {
  /** Of the desired properties that were taken last; 0: none yet. */
  readonly version: number;
  readonly desired: JsonObject;
  /** What of it is not carried out, by leaf device and point: the round in which it became due. */
  readonly due: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** The last one that was given. */
  readonly round: number;
  /** What the twin is to report; null: what it is to report no more. */
  readonly reported: JsonObject;
}

/** Member of the gateway's twin. */
const DEVICES = 'devices';
const NOTHING: JsonObject = {};
const INTEGER_MAX = 2 ** 52 - 1;

/** @param round to begin with: of another range than in a record that was lost. */
export function newTwinState(round: number): TwinState {
  return { version: 0, desired: NOTHING, due: {}, round, reported: NOTHING };
}

/** The part of desired or reported properties that is about one leaf device. */
export function partOf(scope: TwinScope, leafId: string, section: JsonObject): JsonObject {
  if (scope !== 'gateway') return leafId === scope.leafId ? section : NOTHING;
  return memberOf(memberOf(section, DEVICES), leafId);
}

/** The whole twin as the peer tells it: what differs from what was known is due. */
export function takeTwin(state: TwinState, scope: TwinScope, twin: Omit<PeerTwin, 'reportedVersion'>): TwinState {
  const isFirst = state.version === 0;
  const names = new Map<string, string[]>();
  for (const leafId of new Set([...leavesOf(scope, state.desired), ...leavesOf(scope, twin.desired)])) {
    const [before, now] = [partOf(scope, leafId, state.desired), partOf(scope, leafId, twin.desired)];
    // What stands there as reported already was carried out by somebody who does not remember it.
    const known = isFirst ? partOf(scope, leafId, twin.reported) : before;
    const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
      (name) => JSON.stringify(known[name]) !== JSON.stringify(now[name]),
    );
    names.set(leafId, changed);
  }
  const { version, desired } = twin;
  return withDue({ ...state, version, desired, reported: pruned(state.reported, twin.reported) }, names);
}

/** A patch that follows what is known: what it names is due, whether it differs or not. */
export function takePatch(state: TwinState, scope: TwinScope, patch: JsonObject, version: number): TwinState {
  const desired = mergeValue(state.desired, patch);
  const names = new Map<string, string[]>();
  // With null for a whole device, or for all, what was desired of it is not desired any more.
  const isWhole = scope === 'gateway' && patch[DEVICES] === null;
  const given = scope === 'gateway' ? memberOf(patch, DEVICES) : patch;
  const leaves = scope === 'gateway' ? Object.keys(isWhole ? memberOf(state.desired, DEVICES) : given) : [scope.leafId];
  for (const leafId of leaves) {
    const isGone = isWhole || (scope === 'gateway' && given[leafId] === null);
    names.set(leafId, Object.keys(isGone ? partOf(scope, leafId, state.desired) : partOf(scope, leafId, patch)));
  }
  return withDue({ ...state, version, desired }, names);
}

/** What was due in those rounds is over. */
export function settle(state: TwinState, leafId: string, rounds: Readonly<Record<string, number>>): TwinState {
  const { [leafId]: mine = {}, ...others } = state.due;
  const left = Object.entries(mine).filter(([name, round]) => rounds[name] !== round);
  return { ...state, due: left.length === 0 ? others : { ...others, [leafId]: Object.fromEntries(left) } };
}

/** They are due anew: nothing was done, and nothing that is remembered of the round before counts. */
export function renew(state: TwinState, leafId: string, names: readonly string[]): TwinState {
  return withDue(state, new Map([[leafId, names]]));
}

/**
 * Adds to what a leaf device reports; null takes it back.
 * @throws GatewayError GW_IOTHUB ArgumentInvalid for what no twin takes, and for what it has no room for.
 */
export function withReport(state: TwinState, scope: TwinScope, leafId: string, patch: JsonObject): TwinState {
  const given = Object.entries(patch).map(([name, value]) => [name, exactly(value)] as const);
  const part = objectOf([...Object.entries(partOf(scope, leafId, state.reported)), ...given]);
  const devices = objectOf([...Object.entries(memberOf(state.reported, DEVICES)), [leafId, part]]);
  const reported = scope === 'gateway' ? objectOf([...Object.entries(state.reported), [DEVICES, devices]]) : part;
  checkedSection('reported', reported);
  checkSize('reported', mergeValue({}, reported));
  return { ...state, reported };
}

/** A twin's integers are of 53 bits (contract/device-semantics.md, section 3). */
function exactly(value: Json): Json {
  const isLong = typeof value === 'number' && Number.isInteger(value) && Math.abs(value) >= INTEGER_MAX;
  return isLong ? String(value) : value;
}

/** The patch that makes of what the peer has what is to be reported; what is not ours stays. Empty: nothing is to be told. */
export function reportPatch(scope: TwinScope, ours: JsonObject, theirs: JsonObject): JsonObject {
  return difference(ours, theirs, scope === 'gateway' ? 3 : 1);
}

/** Levels above the values of points hold what is not ours beside what is. */
function difference(ours: JsonObject, theirs: JsonObject, sharedLevels: number): JsonObject {
  if (sharedLevels <= 0) return patchBetween(theirs, ours);
  const patch: [string, Json][] = [];
  for (const [name, value] of Object.entries(ours)) {
    const known = theirs[name];
    if (isObject(value) && isObject(known)) {
      const inner = difference(value, known, sharedLevels - 1);
      if (Object.keys(inner).length > 0) patch.push([name, inner]);
    } else if (value === null ? known !== undefined : JSON.stringify(value) !== JSON.stringify(known)) {
      patch.push([name, value]);
    }
  }
  return objectOf(patch);
}

/** Without what is taken back and gone. */
function pruned(ours: JsonObject, theirs: JsonObject): JsonObject {
  const members = Object.entries(ours).filter(([name, value]) => value !== null || theirs[name] !== undefined);
  return objectOf(
    members.map(([name, value]) => [name, isObject(value) ? pruned(value, memberOf(theirs, name)) : value]),
  );
}

function withDue(state: TwinState, names: ReadonlyMap<string, readonly string[]>): TwinState {
  const round = state.round + 1;
  const due = new Map(Object.entries(state.due));
  for (const [leafId, points] of names) {
    if (points.length === 0) continue;
    due.set(
      leafId,
      Object.fromEntries([...Object.entries(due.get(leafId) ?? {}), ...points.map((name) => [name, round] as const)]),
    );
  }
  return { ...state, due: Object.fromEntries(due), round };
}

function leavesOf(scope: TwinScope, section: JsonObject): readonly string[] {
  return scope === 'gateway' ? Object.keys(memberOf(section, DEVICES)) : [scope.leafId];
}

function memberOf(object: JsonObject, name: string): JsonObject {
  const member = Object.hasOwn(object, name) ? object[name] : undefined;
  return isObject(member) ? member : NOTHING;
}
