// How late the event loop is: the time between when a timer was due and when it ran.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock } from '../core/clock.ts';

export interface EventLoopLag {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface EventLoopMeter {
  /** Over the present window and the one before; a window ends at the first look after 10 s. */
  lag(): EventLoopLag;
  stop(): void;
}

/** Sampling wakes the processor, so not finer than what a person or a watchdog needs. */
const RESOLUTION_MS = 20;
const WINDOW_MS = 10_000;
const NANOSECONDS_PER_MS = 1e6;

export function startEventLoopMeter(clock: Clock): EventLoopMeter {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let before: EventLoopLag = { p50Ms: 0, p99Ms: 0, maxMs: 0 };
  let windowStartMs = clock.monotonicMs();

  // The histogram holds the distance between two samples, so the interval itself is no lag.
  const late = (nanoseconds: number): number => Math.max(0, nanoseconds / NANOSECONDS_PER_MS - RESOLUTION_MS);

  return {
    lag() {
      const current: EventLoopLag = {
        p50Ms: late(histogram.percentile(50)),
        p99Ms: late(histogram.percentile(99)),
        maxMs: late(histogram.max),
      };
      const worst = {
        p50Ms: Math.max(before.p50Ms, current.p50Ms),
        p99Ms: Math.max(before.p99Ms, current.p99Ms),
        maxMs: Math.max(before.maxMs, current.maxMs),
      };
      if (clock.monotonicMs() - windowStartMs >= WINDOW_MS) {
        before = current;
        windowStartMs = clock.monotonicMs();
        histogram.reset();
      }
      return worst;
    },
    stop() {
      histogram.disable();
    },
  };
}
