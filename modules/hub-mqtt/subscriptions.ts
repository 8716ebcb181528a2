// What a client subscribed, of the few filters that the service serves (contract/device-mqtt.md, section 5).

import { parseFilterTopic, type FilterTopic, type IdentityRef, type Interest } from '#sdk';
import { Refused } from './refused.ts';

/** The service's own bound for a device. */
const MAX_FILTERS = 5;

/** How it is kept for a session that comes back. */
export interface KeptSession {
  readonly subscriptions: readonly (readonly [filter: string, qos: number])[];
}

const INTERESTS: Readonly<Record<FilterTopic['kind'], Interest | undefined>> = {
  commands: 'commands',
  desired: 'desired',
  inputs: 'inputs',
  methods: 'methods',
  'twin-responses': undefined,
};

export class Subscriptions {
  readonly #ref: IdentityRef;
  readonly #byFilter = new Map<string, { readonly kind: FilterTopic['kind']; readonly qos: 0 | 1 }>();

  constructor(ref: IdentityRef) {
    this.#ref = ref;
  }

  /**
   * @returns the QoS that is granted: 2 becomes 1.
   * @throws Refused for a filter that the service does not serve: it ends the connection instead of answering 0x80.
   */
  add(filter: string, qos: number): 0 | 1 {
    const topic = parseFilterTopic(filter);
    if (topic === undefined || ('of' in topic && !this.#isOwn(topic.of))) throw new Refused('bad_filter');
    if (!this.#byFilter.has(filter) && this.#byFilter.size >= MAX_FILTERS) throw new Refused('too_many_filters');
    const granted = qos === 0 ? 0 : 1;
    this.#byFilter.set(filter, { kind: topic.kind, qos: granted });
    return granted;
  }

  remove(filter: string): void {
    this.#byFilter.delete(filter);
  }

  #isOwn({ deviceId, moduleId }: IdentityRef): boolean {
    return deviceId === this.#ref.deviceId && moduleId === this.#ref.moduleId;
  }

  /** Undefined: not subscribed. The highest one where several filters fit. */
  qosOf(kind: FilterTopic['kind']): 0 | 1 | undefined {
    let found: 0 | 1 | undefined;
    for (const subscription of this.#byFilter.values()) {
      if (subscription.kind === kind && found !== 1) found = subscription.qos;
    }
    return found;
  }

  get interests(): readonly Interest[] {
    const wanted = [...this.#byFilter.values()].flatMap(({ kind }) => INTERESTS[kind] ?? []);
    return [...new Set(wanted)];
  }

  get kept(): KeptSession {
    return { subscriptions: Array.from(this.#byFilter, ([filter, { qos }]) => [filter, qos] as const) };
  }

  /** Takes what was kept; what is no longer served is left out. */
  restore(kept: unknown): void {
    const { subscriptions } = (kept ?? {}) as { readonly subscriptions?: unknown };
    if (!Array.isArray(subscriptions)) return;
    for (const one of subscriptions as readonly unknown[]) {
      if (!Array.isArray(one)) continue;
      const [filter, qos] = one as readonly unknown[];
      try {
        if (typeof filter === 'string') this.add(filter, Number(qos));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
      }
    }
  }
}
