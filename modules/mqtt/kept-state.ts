// What the parts of the broker's store share: where they keep things, and how they read packets back.

import { isTopicName, type StateSpace } from '#sdk';
import { decodePacket, type KeptPacket } from './kept-packet.ts';

export interface KeptState {
  readonly state: StateSpace;
  /** Told what was refused, or could not be read. */
  readonly refused: (reason: string, fields?: Readonly<Record<string, unknown>>) => void;
}

/** The packet kept under a key; undefined, and told, when it cannot be used. */
export async function readPacket(
  { state, refused }: KeptState,
  key: string,
  value: Uint8Array,
): Promise<KeptPacket | undefined> {
  const packet = decodePacket(value);
  if (packet === undefined) {
    refused('unreadable_state', { key });
    return undefined;
  }
  if (isTopicName(packet.topic)) return packet;
  // Earlier releases took topics that are none: a client that is sent one ends its connection (MQTT 3.1.1, 1.5.3).
  refused('bad_topic', { topic: packet.topic });
  await state.write([{ key }]);
  return undefined;
}
