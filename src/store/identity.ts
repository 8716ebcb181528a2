// What a store says of itself: its format, and the epoch that the numbers of its messages belong to.

import type { LevelHandle } from '../platform/level-handle.ts';
import { requireReadable, type StoreFormat } from './format.ts';
import { metaKey } from './keys.ts';
import { seal, unseal } from './sealed.ts';

/** Characters of an epoch: 60 million values, and a wrong guess costs a duplicate id at most. */
export const EPOCH_CHARS = 5;

/**
 * Format 2 has chunks of version 2; this release reads both, one that knows format 1 only reads none of the new ones.
 * Format 3 adds streams: a release that knows format 2 delivers all that its queues want, and loses what streams keep.
 */
const FORMAT: StoreFormat = { writes: 3, readable_from: 2 };

/** Undefined for a store that was never written. @throws GatewayError GW_STORE_FORMAT. */
export async function readFormat(level: LevelHandle, where: string): Promise<StoreFormat | undefined> {
  const format = unseal(await level.get(metaKey('format'))) as StoreFormat | undefined;
  requireReadable(format, FORMAT, where);
  return format;
}

export async function readEpoch(level: LevelHandle): Promise<string | undefined> {
  const identity = unseal(await level.get(metaKey('identity'))) as { epoch: string } | undefined;
  return identity?.epoch;
}

/** Whether what this release writes would be more than the store says it holds. */
export function isEarlier(format: StoreFormat): boolean {
  return format.writes < FORMAT.writes;
}

export async function writeIdentity(level: LevelHandle, epoch: string): Promise<void> {
  await level.write(
    [
      { key: metaKey('format'), value: seal(FORMAT) },
      { key: metaKey('identity'), value: seal({ epoch }) },
    ],
    { sync: true },
  );
}
