// Memory of the process beyond what V8 does by itself.

import { performance } from 'node:perf_hooks';
import type { Clock } from '../core/clock.ts';

/** Time after the start, when the first polls are over, and between two looks while the process is busy. */
const LOOK_MS = 5000;
/**
 * Share of that time that the event loop may have worked. Collecting holds up everything, for 50 ms at rest and 160 ms with 500
 * polled devices, and who has work needs the memory.
 */
const QUIET_SHARE = 0.1;

/**
 * Collects everything that can be collected and gives pages back to the system. Starting takes about 20 MB that V8 keeps
 * for a load that a small site never has: it lets go of them only when asked. The launcher starts Node with
 * `--expose-gc`; without it this does nothing.
 */
function giveBackMemory(): void {
  const collect = globalThis.gc as
    ((options: { type: string; execution: string; flavor: string }) => unknown) | undefined;
  collect?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** Gives memory back once, as soon as the process has little to do. Returns what cancels that. */
export function giveBackMemoryWhenQuiet(clock: Clock): () => void {
  let before = performance.eventLoopUtilization();
  const look = (): void => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization <= QUIET_SHARE) giveBackMemory();
    else cancel = clock.after(LOOK_MS, look);
  };
  let cancel = clock.after(LOOK_MS, look);
  return () => cancel();
}
