// What one connection is subscribed to: the filters that it was granted and has not given up since.

import { LIMITS } from '#sdk';
import { FilterTrie } from './filter-trie.ts';

export class Subscriptions {
  readonly #filters = new Map<string, 0 | 1>();
  readonly #acknowledged = new FilterTrie<true>();

  has(filter: string): boolean {
    return this.#filters.has(filter);
  }

  /** The QoS that a message on the topic is delivered with at most (MQTT 3.1.1, 3.8.4-6). */
  qosOf(topic: string): 0 | 1 {
    return this.#acknowledged.match(topic).length > 0 ? 1 : 0;
  }

  /** The reason when it is refused, as a stable word. Counted at once: a SUBSCRIBE has as many filters as it likes. */
  add(filter: string, qos: 0 | 1): 'reserved_topic' | 'too_many_subscriptions' | undefined {
    if (filter.startsWith('$')) return 'reserved_topic';
    if (!this.#filters.has(filter) && this.#filters.size >= LIMITS.mqtt_subscriptions_per_client)
      return 'too_many_subscriptions';
    this.remove([filter]);
    this.#filters.set(filter, qos);
    if (qos === 1) this.#acknowledged.add(filter, true);
    return undefined;
  }

  remove(filters: readonly string[]): void {
    for (const filter of filters) {
      if (this.#filters.get(filter) === 1) this.#acknowledged.remove(filter, () => true);
      this.#filters.delete(filter);
    }
  }
}
