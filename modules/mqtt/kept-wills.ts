// Wills of connected clients: those that a crash leaves are published at the next start.

import { encodePacket, type KeptPacket } from './kept-packet.ts';
import { readPacket, type KeptState } from './kept-state.ts';

const WILL = 'will/';

export class KeptWills {
  readonly #kept: KeptState;
  readonly #wills = new Map<string, KeptPacket>();

  constructor(kept: KeptState) {
    this.#kept = kept;
  }

  async load(): Promise<void> {
    for await (const [key, value] of this.#kept.state.entries(WILL)) {
      const packet = await readPacket(this.#kept, key, value);
      if (packet !== undefined) this.#wills.set(decodeURIComponent(key.slice(WILL.length)), packet);
    }
  }

  async put(clientId: string, packet: KeptPacket): Promise<void> {
    this.#wills.set(clientId, packet);
    await this.#kept.state.write([{ key: WILL + encodeURIComponent(clientId), value: encodePacket(packet) }]);
  }

  get(clientId: string): KeptPacket | undefined {
    return this.#wills.get(clientId);
  }

  async delete(clientId: string): Promise<KeptPacket | undefined> {
    const will = this.#wills.get(clientId);
    if (will === undefined) return undefined;
    this.#wills.delete(clientId);
    await this.#kept.state.write([{ key: WILL + encodeURIComponent(clientId) }]);
    return will;
  }

  /** Those of clients that the last run left connected. */
  all(): readonly (readonly [clientId: string, packet: KeptPacket])[] {
    return [...this.#wills];
  }
}
