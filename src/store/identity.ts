// What a store says of itself: its format, and the epoch that the numbers of its messages belong to.

import { GatewayError } from '../core/errors.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { metaKey } from './keys.ts';
import { seal, unseal } from './sealed.ts';

/** Characters of an epoch: 60 million values, and a wrong guess costs a duplicate id at most. */
export const EPOCH_CHARS = 5;

/** This release writes format 1; a later one may write more and still be readable from 1. */
export const FORMAT = { writes: 1, readable_from: 1 } as const;

/** Undefined for a store that was never written. @throws GatewayError GW_STORE_FORMAT. */
export async function readFormat(level: LevelHandle, where: string): Promise<typeof FORMAT | undefined> {
  const format = unseal(await level.get(metaKey('format'))) as typeof FORMAT | undefined;
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

export async function writeIdentity(level: LevelHandle, epoch: string): Promise<void> {
  await level.write(
    [
      { key: metaKey('format'), value: seal(FORMAT) },
      { key: metaKey('identity'), value: seal({ epoch }) },
    ],
    { sync: true },
  );
}
