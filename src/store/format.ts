// The format of a store: a release opens what an older one wrote, and refuses what it could not read whole.

import { GatewayError } from '../core/errors.ts';

export interface StoreFormat {
  /** The newest format that may be in it. */
  readonly writes: number;
  /** A release that writes less than this cannot read it. */
  readonly readable_from: number;
}

/** @param own what this release writes. @throws GatewayError GW_STORE_FORMAT. */
export function requireReadable(format: StoreFormat | undefined, own: StoreFormat, where: string): void {
  if (format === undefined || format.readable_from <= own.writes) return;
  throw new GatewayError(
    'GW_STORE_FORMAT',
    `${where} was written by a newer Fieldpost (format ${format.writes}, readable from ${format.readable_from}; this one reads ${own.writes}). Install that release again, or move the directory away to begin with an empty one.`,
    { details: { ...format } },
  );
}
