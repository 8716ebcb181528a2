// What one hub keeps: its space of the state store, with a bounded cache of identities and counters that ride in the write
// that changes them. Every record is JSON.
//
// Invariants
// - Whoever changes a device, its modules, its twin or its commands does so in the device's turn.
// - Counters in memory are those of the writes that succeeded and of those under way.

import type { IdentityRef } from '../core/hub/identity.ts';
import { LIMITS } from '../core/limits.ts';
import type { StateChange, StateSpace } from '../core/state.ts';
import type { IdentityRecord } from './identity-record.ts';
import { COUNTERS_KEY, DEVICES, identityKey, modulesPrefix } from './keys.ts';
import { ListedRecords } from './listed-records.ts';
import { RecordCache } from './record-cache.ts';
import { createTurns } from './turns.ts';

export interface Counters {
  readonly devices: number;
  readonly enabledDevices: number;
  readonly modules: number;
}

/** One write: identities go through it so that the cache knows. Without a record the identity goes. */
export interface HubWrite {
  readonly identities?: readonly { readonly ref: IdentityRef; readonly record?: IdentityRecord }[];
  readonly changes?: readonly StateChange[];
  /** What it adds to the counters. */
  readonly counts?: Partial<Counters>;
}

export interface HubStore {
  readonly hubId: string;
  identity(ref: IdentityRef): Promise<IdentityRecord | undefined>;
  /** In the order of ids, behind `afterId`. One that has not changed since the last list is the same object again. */
  devices(afterId: string | undefined, limit: number): Promise<readonly IdentityRecord[]>;
  /** The same; bounded by the modules that a device may have. */
  modules(deviceId: string): Promise<readonly IdentityRecord[]>;
  json(key: string): Promise<unknown>;
  entries(prefix: string, after?: string): AsyncIterable<readonly [key: string, value: unknown]>;
  /** All or nothing; durable when it resolves. @throws GatewayError as `StateSpace.write`. */
  write(write: HubWrite): Promise<void>;
  counters(): Promise<Counters>;
  /** Runs `work` when what was begun before it for that device has ended. */
  turn<T>(deviceId: string, work: () => Promise<T>): Promise<T>;
  /** Identities in memory. */
  readonly cached: number;
}

const NONE: Counters = { devices: 0, enabledDevices: 0, modules: 0 };

export function createHubStore(hubId: string, space: StateSpace): HubStore {
  const cache = new RecordCache<IdentityRecord>(LIMITS.hub_cached_identities);
  const listed = new ListedRecords<IdentityRecord>(LIMITS.hub_listed_identities);
  const turns = createTurns();
  let counters: Promise<Counters> | undefined;
  let current = NONE;

  async function json(key: string): Promise<unknown> {
    const value = await space.get(key);
    return value === undefined ? undefined : parse(value);
  }

  function counted(): Promise<Counters> {
    counters ??= json(COUNTERS_KEY).then(
      (kept) => {
        current = { ...NONE, ...(kept as Partial<Counters> | undefined) };
        return current;
      },
      (error: unknown) => {
        counters = undefined;
        throw error;
      },
    );
    return counters;
  }

  function count(counts: Partial<Counters>, sign: 1 | -1): void {
    const add = (name: keyof Counters): number => current[name] + sign * (counts[name] ?? 0);
    current = { devices: add('devices'), enabledDevices: add('enabledDevices'), modules: add('modules') };
  }

  return {
    hubId,
    get cached() {
      return cache.size;
    },
    identity(ref) {
      const key = identityKey(ref);
      return cache.get(key, async () => (await json(key)) as IdentityRecord | undefined);
    },
    async devices(afterId, limit) {
      const found: IdentityRecord[] = [];
      const after = afterId === undefined ? undefined : `${DEVICES}${afterId}`;
      for await (const [key, value] of space.entries(DEVICES, after, limit)) found.push(listed.parse(key, value));
      return found;
    },
    async modules(deviceId) {
      const found: IdentityRecord[] = [];
      for await (const [key, value] of space.entries(modulesPrefix(deviceId))) found.push(listed.parse(key, value));
      return found;
    },
    json,
    async *entries(prefix, after) {
      for await (const [key, value] of space.entries(prefix, after)) yield [key, parse(value)];
    },
    async write({ identities = [], changes = [], counts }) {
      if (counts !== undefined) {
        await counted();
        count(counts, 1);
      }
      const own: StateChange[] = identities.map(({ ref, record }) => changeOf(identityKey(ref), record));
      if (counts !== undefined) own.push(changeOf(COUNTERS_KEY, current));
      for (const { ref } of identities) cache.replace(identityKey(ref), undefined);
      try {
        await space.write([...own, ...changes]);
      } catch (error) {
        if (counts !== undefined) {
          count(counts, -1);
          // A later write may have carried the counters of this one.
          space.write([changeOf(COUNTERS_KEY, current)]).catch(() => {});
        }
        throw error;
      }
      for (const { ref, record } of identities) cache.replace(identityKey(ref), record);
    },
    async counters() {
      await counted();
      return current;
    },
    turn: (deviceId, work) => turns.run(deviceId, work),
  };
}

/** A change of the store; without a value the key goes. */
export function changeOf(key: string, value: unknown): StateChange {
  return value === undefined ? { key } : { key, value: Buffer.from(JSON.stringify(value)) };
}

function parse(value: Uint8Array): unknown {
  return JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8'));
}
