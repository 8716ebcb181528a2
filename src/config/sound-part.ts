// What of a value its schema accepts, so that rules across fields can be checked although some fields have faults: a
// person is to see every fault at once.

import type { z } from 'zod';
import { isRecord } from './describe.ts';
import type { ConfigPath } from './fault.ts';

export interface SoundPart {
  readonly data: unknown;
  /** What was left out; rules that concern the same map as one of these cannot be trusted. */
  readonly removed: readonly ConfigPath[];
}

/** Faults are mended by leaving out, a level at a time; more levels than this no schema has. */
const ROUNDS = 16;

/** Undefined when nothing sound is left. */
export function soundPart(schema: z.ZodType, value: unknown): SoundPart | undefined {
  const rest: unknown = structuredClone(value);
  const removed: ConfigPath[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const result = schema.safeParse(rest);
    if (result.success) return { data: result.data, removed };
    for (const issue of result.error.issues) {
      const path = issue.path.filter((part) => typeof part !== 'symbol');
      const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
      for (const target of keys.length > 0 ? keys.map((key) => [...path, key]) : [path]) {
        const left = leaveOut(rest, target);
        if (left === undefined) return undefined;
        removed.push(left);
      }
    }
  }
  return undefined;
}

/** True when a fault of a rule may be no more than an effect of what was left out beside it. */
export function isDoubtful(path: ConfigPath, removed: readonly ConfigPath[]): boolean {
  return removed.some(
    (gone) =>
      // Of what was left out nothing is known, not even whether it is empty.
      gone.every((part, index) => path[index] === part) ||
      // The fields of the entry itself stand for themselves; within a device or point they belong together.
      (gone.length > 1 &&
        path.length <= gone.length &&
        gone.slice(0, -1).every((part, index) => index >= path.length || path[index] === part)),
  );
}

/** Removes what stands at a path, or what holds it when it is missing or in a list. Returns the path removed. */
function leaveOut(root: unknown, path: ConfigPath): ConfigPath | undefined {
  for (let length = path.length; length > 0; length -= 1) {
    const holder = path
      .slice(0, length - 1)
      .reduce<unknown>((value, part) => (isRecord(value) ? value[part] : undefined), root);
    const key = path[length - 1] ?? '';
    if (!isRecord(holder) || !Object.hasOwn(holder, key)) continue;
    delete holder[key];
    return path.slice(0, length);
  }
  return undefined;
}
