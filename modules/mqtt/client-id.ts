// The client id of `connect` where the configuration has none.

import { createHash } from 'node:crypto';
import type { AdapterContext } from '#sdk';

/** A server need take 23 bytes only (MQTT 3.1.1, 3.1.3-5), but those at sites take more; nobody's tables take any length. */
const CLIENT_ID_CHARS = 64;
/** Enough that two long ids are not the same. */
const HASH_CHARS = 16;

/**
 * The same at each start, because the broker keeps the session under it, and another one for each gateway on that broker,
 * because it lets one client of a name stand only. Past 64 characters a hash of the whole is at the end.
 */
export function defaultClientId({ gatewayId, adapterId }: Pick<AdapterContext, 'gatewayId' | 'adapterId'>): string {
  const whole = `fieldpost-${gatewayId}.${adapterId}`;
  if (whole.length <= CLIENT_ID_CHARS) return whole;
  const hash = createHash('sha256').update(whole).digest('hex').slice(0, HASH_CHARS);
  return `${whole.slice(0, CLIENT_ID_CHARS - HASH_CHARS - 1)}-${hash}`;
}
