// The merge of twins: objects merge by member, everything else is replaced as a whole, null deletes (RFC 7396; contract/
// device-semantics.md, section 3). Metadata follow: what a write names, and all above it, carries its time and version.

import type { Json, JsonObject, Metadata, Section } from './twin-record.ts';
import { isObject, objectOf } from './twin-rules.ts';

/** Time, and for desired properties the version, of one write. */
export interface Stamp {
  readonly time: string;
  readonly version?: number;
}

/** Members that were there keep their places, new ones follow in the patch's order. */
export function mergeValue(target: Json | undefined, patch: JsonObject): JsonObject {
  const before = isObject(target) ? target : {};
  const members = new Map(Object.entries(before));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, isObject(value) ? mergeValue(members.get(name), value) : value);
  }
  return objectOf(members);
}

/** The patch that makes `after` of `before`; empty: they are the same. */
export function patchBetween(before: JsonObject, after: JsonObject): JsonObject {
  const patch: [string, Json][] = [];
  for (const [name, value] of Object.entries(after)) {
    const known = Object.hasOwn(before, name) ? before[name] : undefined;
    if (isObject(value) && isObject(known)) {
      const inner = patchBetween(known, value);
      if (Object.keys(inner).length > 0) patch.push([name, inner]);
    } else if (JSON.stringify(value) !== JSON.stringify(known)) {
      patch.push([name, value]);
    }
  }
  const gone = Object.keys(before).filter((name) => !Object.hasOwn(after, name));
  return objectOf([...patch, ...gone.map((name) => [name, null] as const)]);
}

/** The metadata of `value`, which came of merging `patch` into what `before` described. */
export function mergeMetadata(
  value: JsonObject,
  before: Metadata | undefined,
  patch: JsonObject,
  stamp: Stamp,
): Metadata {
  const members = Object.entries(value).map(([name, member]) => {
    const known = memberOf(before, name);
    const given = Object.hasOwn(patch, name) ? patch[name] : undefined;
    if (given === undefined) return [name, known ?? stampedTree(member, stamp)] as const;
    if (!isObject(member) || !isObject(given)) return [name, stampedTree(member, stamp)] as const;
    return [name, mergeMetadata(member, known, given, stamp)] as const;
  });
  return metadataOf(members, stamp);
}

/** Metadata of something written as a whole. */
export function stampedTree(value: Json, stamp: Stamp): Metadata {
  const members = isObject(value) ? Object.entries(value) : [];
  return metadataOf(
    members.map(([name, member]) => [name, stampedTree(member, stamp)] as const),
    stamp,
  );
}

function metadataOf(members: Iterable<readonly [string, Metadata]>, { time, version }: Stamp): Metadata {
  const metadata = Object.create(null) as Record<string, Metadata | string | number>;
  metadata['$lastUpdated'] = time;
  if (version !== undefined) metadata['$lastUpdatedVersion'] = version;
  for (const [name, member] of members) metadata[name] = member;
  return metadata as unknown as Metadata;
}

function memberOf(metadata: Metadata | undefined, name: string): Metadata | undefined {
  const member = metadata !== undefined && Object.hasOwn(metadata, name) ? metadata[name] : undefined;
  return typeof member === 'object' ? member : undefined;
}

/** @param withVersion desired properties tell in which version each was changed. */
export function mergeSection(section: Section, patch: JsonObject, time: string, withVersion: boolean): Section {
  const version = section.version + 1;
  const stamp = withVersion ? { time, version } : { time };
  const value = mergeValue(section.value, patch);
  return { value, metadata: mergeMetadata(value, section.metadata, patch, stamp), version };
}

export function replaceSection(section: Section, value: JsonObject, time: string, withVersion: boolean): Section {
  const version = section.version + 1;
  const whole = mergeValue({}, value);
  return { value: whole, metadata: stampedTree(whole, withVersion ? { time, version } : { time }), version };
}
