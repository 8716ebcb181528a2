// What a store says of itself: its format, and the epoch that the numbers of its messages belong to.

import { GatewayError } from '../core/errors.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { metaKey } from './keys.ts';
import { seal, unseal } from './sealed.ts';

/** Characters of an epoch: 60 million values, and a wrong guess costs a duplicate id at most. */
export const EPOCH_CHARS = 5;

export interface StoreFormat {
  /** The newest format that may be in it. */
  readonly writes: number;
  /** A release that writes less than this cannot read it. */
  readonly readable_from: number;
}

/**
 * Format 2 has chunks of version 2; this release reads both, one that knows format 1 only reads none of the new ones.
 * Format 3 adds streams: a release that knows format 2 delivers all that its queues want, and loses what streams keep.
 */
const FORMAT: StoreFormat = { writes: 3, readable_from: 2 };

/** Undefined for a store that was never written. @throws GatewayError GW_STORE_FORMAT. */
export async function readFormat(level: LevelHandle, where: string): Promise<StoreFormat | undefined> {
  const format = unseal(await level.get(metaKey('format'))) as StoreFormat | undefined;
  if (format !== undefined && format.readable_from > FORMAT.writes) {
    throw new GatewayError(
      'GW_STORE_FORMAT',
      `${where} was written by a newer Fieldpost (format ${format.writes}, readable from ${format.readable_from}; this one reads ${FORMAT.writes}). Install that release again, or move the directory away to begin with an empty one.`,
      { details: { ...format } },
    );
  }
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
