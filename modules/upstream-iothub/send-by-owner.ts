// One batch over several connections.

import type { DeliveryResult, StoredMessage } from '#sdk';

/** Sends each owner's messages by themselves and puts the results in the order of the batch. */
export async function sendByOwner<Owner extends string>(
  batch: readonly StoredMessage[],
  ownerOf: (stored: StoredMessage) => Owner,
  send: (owner: Owner, part: readonly StoredMessage[]) => Promise<readonly DeliveryResult[]>,
): Promise<readonly DeliveryResult[]> {
  const parts = Map.groupBy(batch.keys(), (place) => ownerOf(batch[place] as StoredMessage));
  const [only] = parts.keys();
  if (only !== undefined && parts.size === 1) return send(only, batch);
  const results: DeliveryResult[] = [];
  const sends = Array.from(parts, async ([owner, places]) => {
    const part = await send(
      owner,
      places.map((place) => batch[place] as StoredMessage),
    );
    for (const [index, place] of places.entries()) results[place] = part[index] as DeliveryResult;
  });
  await Promise.all(sends);
  return results;
}
