// State in memory, for tests of whoever keeps some.

import type { StateSpace } from '../../src/core/state.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createMemoryStateStore } from '../../src/store/state/memory-state-store.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';

export function memoryStateStore(): Promise<StateStore> {
  return createMemoryStateStore({ clock: new SystemClock(), telemetry: { emit: () => {} } });
}

/** A space that can be handed on at once. */
export function memorySpace(): StateSpace {
  const space = memoryStateStore().then((store) => store.space('test'));
  return {
    get: async (key) => (await space).get(key),
    write: async (changes) => (await space).write(changes),
    async *entries(prefix, after, limit) {
      yield* (await space).entries(prefix, after, limit);
    },
  };
}
