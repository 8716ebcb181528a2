// Time as a service that parts are handed, so that tests own it.

import type { ClockQuality, Timestamp } from './time.ts';

export interface Clock {
  readonly bootId: string;
  /** Wall clock in ms since 1970-01-01 UTC. Never used for order, age within a boot or timers. */
  wallMs(): number;
  /** Monotonic ms since boot, with fractions. */
  monotonicMs(): number;
  quality(): ClockQuality;
  /** While the time service is asked for the first time: resolves, within seconds, once `quality()` goes by its answer. */
  settling?(): Promise<void> | undefined;
  /** All of it at one instant. */
  now(): Timestamp;
  /** Resolves after `ms`. @throws GatewayError GW_ABORTED when the signal aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back once after `ms`; returns a function that cancels. */
  after(ms: number, callback: () => void): () => void;
}
