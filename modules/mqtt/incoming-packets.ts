// Messages of QoS 2 between their PUBLISH and their PUBREL (MQTT 3.1.1, 4.3.3): what comes again is answered, and not taken a
// second time. Kept in memory: after a restart a duplicate is possible.

import { LIMITS } from '#sdk';

/** Of one client; a client commonly has a few dozen under way. */
const CLIENT_MAX = 100;

export class IncomingPackets {
  /** By client, packet identifiers and whether what they name is stored. */
  readonly #clients = new Map<string, Map<number, boolean>>();

  /** `new`: to be stored. `known`: it is stored already. `too_many`: the client does not release what it has sent. */
  begin(clientId: string, messageId: number): 'new' | 'known' | 'too_many' {
    const ids = this.#clients.get(clientId) ?? this.#add(clientId);
    // One that is being stored still, for a connection that broke, may fail yet: twice is better than never.
    if (ids.get(messageId) === true) return 'known';
    if (ids.size >= CLIENT_MAX) return 'too_many';
    ids.set(messageId, false);
    return 'new';
  }

  stored(clientId: string, messageId: number): void {
    this.#clients.get(clientId)?.set(messageId, true);
  }

  has(clientId: string, messageId: number): boolean {
    return this.#clients.get(clientId)?.has(messageId) === true;
  }

  /** Released, or not stored. */
  end(clientId: string, messageId: number): void {
    this.#clients.get(clientId)?.delete(messageId);
  }

  /** The client's session has ended. */
  forget(clientId: string): void {
    this.#clients.delete(clientId);
  }

  #add(clientId: string): Map<number, boolean> {
    // Those of clients that stay away are the most by far.
    if (this.#clients.size >= LIMITS.mqtt_connections) this.#clients.clear();
    const ids = new Map<number, boolean>();
    this.#clients.set(clientId, ids);
    return ids;
  }
}
