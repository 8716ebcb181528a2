// The state store on LevelDB.

import type { Clock } from '../../core/clock.ts';
import { LIMITS } from '../../core/limits.ts';
import type { Telemetry } from '../../observe/events.ts';
import type { LevelFactory } from '../../platform/level-handle.ts';
import { openLevel } from '../../platform/level.ts';
import { writeCleanMark } from '../clean-mark.ts';
import { DiskSpace } from '../space.ts';
import { openState } from './open-state.ts';
import { DEFAULT_STATE_LIMITS, startStateStore, type StateLimits, type StateStore } from './state-store.ts';

export interface StateStoreFiles {
  /** The LevelDB directory, `<data>/db/state`; created when it is not there. */
  readonly directory: string;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** Free bytes of the file system that holds `directory`. Default: statfs(2). */
  readonly freeBytes?: () => Promise<number>;
  /** Keys and bytes of one space. Default: LIMITS.state_space_…; more makes it a large store (open-state.ts). */
  readonly limits?: StateLimits;
  /** Opens LevelDB; tests put faults in between. */
  readonly level?: LevelFactory;
}

/** Opens, or creates, the state store. Never rejects: what does not open is shown in its health and tried again. */
export function openStateStore(options: StateStoreFiles): Promise<StateStore> {
  const { directory, clock, telemetry, level = openLevel, limits = DEFAULT_STATE_LIMITS } = options;
  const space = new DiskSpace({
    directory,
    ballastPath: `${directory}.ballast`,
    monotonicMs: () => clock.monotonicMs(),
    freeBytes: options.freeBytes,
  });
  const isLarge = limits.spaceKeys > LIMITS.state_space_keys || limits.spaceBytes > LIMITS.state_space_bytes;
  let wasOpen = false;
  return startStateStore({
    clock,
    telemetry,
    limits,
    keepsUse: isLarge,
    open: async (how) => {
      const isDiskFull = (): Promise<boolean> => space.isFull();
      const opened = await openState({ directory, clock, level, wasOpen, isDiskFull, isLarge }, how);
      wasOpen = true;
      return opened;
    },
    markClean: (commits) => writeCleanMark(directory, commits),
  });
}
