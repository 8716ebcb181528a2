// The state store without a disk: the same code over ordered bytes in memory. For tests, and for what may be lost.

import type { Clock } from '../../core/clock.ts';
import type { Telemetry } from '../../observe/events.ts';
import { MemoryLevel } from '../memory-level.ts';
import { begin, scan } from './open-state.ts';
import { startStateStore, type StateStore } from './state-store.ts';

export function createMemoryStateStore(options: {
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}): Promise<StateStore> {
  const level = new MemoryLevel();
  return startStateStore({
    ...options,
    open: async () => ({ ...(await begin(level, await scan(level))), salvage: undefined }),
    markClean: () => Promise.resolve(),
  });
}
