// Messages that the broker keeps for whoever subscribes later.

import { LIMITS } from '#sdk';
import { FilterTrie } from './filter-trie.ts';
import { encodePacket, type KeptPacket } from './kept-packet.ts';
import { readPacket, type KeptState } from './kept-state.ts';

/** The longest key of the state store is 512 bytes. */
const KEY_MAX_BYTES = 480;
const RETAINED = 'retained/';

export class RetainedMessages {
  readonly #kept: KeptState;
  readonly #retained = new Map<string, KeptPacket>();
  #retainedBytes = 0;

  constructor(kept: KeptState) {
    this.#kept = kept;
  }

  async load(): Promise<void> {
    for await (const [key, value] of this.#kept.state.entries(RETAINED)) {
      const packet = await readPacket(this.#kept, key, value);
      if (packet !== undefined) this.#put(packet);
    }
  }

  /** An empty payload removes what is retained (MQTT 3.1.1, 3.3.1.3). */
  async keep(packet: KeptPacket): Promise<void> {
    const key = RETAINED + packet.topic;
    if (packet.payload.length === 0) {
      if (!this.#drop(packet.topic)) return;
      await this.#kept.state.write([{ key }]);
      return;
    }
    const known = this.#retained.get(packet.topic);
    const fits =
      Buffer.byteLength(key) <= KEY_MAX_BYTES &&
      (known !== undefined || this.#retained.size < LIMITS.mqtt_retained_messages) &&
      this.#retainedBytes - (known?.payload.length ?? 0) + packet.payload.length <= LIMITS.mqtt_retained_bytes;
    if (!fits) {
      this.#kept.refused('retained_full', { topic: packet.topic });
      return;
    }
    this.#put(packet);
    await this.#kept.state.write([{ key, value: encodePacket(packet) }]);
  }

  *matching(filters: readonly string[]): Generator<KeptPacket> {
    const trie = new FilterTrie<true>();
    for (const filter of filters) trie.add(filter, true);
    for (const [topic, packet] of this.#retained) if (trie.match(topic).length > 0) yield packet;
  }

  all(): Iterable<KeptPacket> {
    return this.#retained.values();
  }

  /** What a client has left here. */
  *of(clientId: string): Generator<KeptPacket> {
    for (const packet of this.#retained.values()) if (packet.clientId === clientId) yield packet;
  }

  #put(packet: KeptPacket): void {
    this.#drop(packet.topic);
    this.#retained.set(packet.topic, packet);
    this.#retainedBytes += packet.payload.length;
  }

  #drop(topic: string): boolean {
    const known = this.#retained.get(topic);
    if (known === undefined) return false;
    this.#retained.delete(topic);
    this.#retainedBytes -= known.payload.length;
    return true;
  }
}
