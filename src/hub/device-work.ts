// What is to be done for devices of adapters: one step after the other for each, and what must not stay undone again and again.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';

export interface DeviceWork {
  /** Does a step when those before it are over. What fails is told. */
  queue(deviceId: DeviceId, step: () => Promise<void>): void;
  /** As `queue`, and again after growing pauses for as long as it fails. The device's effort before it is given up. */
  insist(deviceId: DeviceId, step: () => Promise<void>): void;
  /** Tries what was insisted on no more. */
  giveUp(deviceId: DeviceId): void;
  /** Gives up every effort; resolves when the steps that were queued are over. */
  stop(): Promise<void>;
}

/** The pause doubles from the first to the last. */
const FIRST_PAUSE_MS = 1000;
const LAST_PAUSE_MS = 60_000;

/** @param onFailed must not throw. */
export function createDeviceWork(clock: Clock, onFailed: (deviceId: DeviceId, error: unknown) => void): DeviceWork {
  const last = new Map<DeviceId, Promise<boolean>>();
  const efforts = new Map<DeviceId, AbortController>();

  /** Resolves with whether it was done. */
  function attempt(deviceId: DeviceId, step: () => Promise<void>): Promise<boolean> {
    const done = (last.get(deviceId) ?? Promise.resolve()).then(step).then(
      () => true,
      (error: unknown) => {
        onFailed(deviceId, error);
        return false;
      },
    );
    last.set(deviceId, done);
    void done.then(() => {
      if (last.get(deviceId) === done) last.delete(deviceId);
    });
    return done;
  }

  /** @throws GatewayError GW_ABORTED. */
  async function pursue(deviceId: DeviceId, step: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const unlessGivenUp = (): Promise<void> => (signal.aborted ? Promise.resolve() : step());
    for (let pauseMs = FIRST_PAUSE_MS; !(await attempt(deviceId, unlessGivenUp)); pauseMs *= 2) {
      await clock.sleep(Math.min(pauseMs, LAST_PAUSE_MS), signal);
    }
  }

  function giveUp(deviceId: DeviceId): void {
    efforts.get(deviceId)?.abort();
    efforts.delete(deviceId);
  }

  return {
    queue: (deviceId, step) => void attempt(deviceId, step),
    insist(deviceId, step) {
      giveUp(deviceId);
      const effort = new AbortController();
      efforts.set(deviceId, effort);
      pursue(deviceId, step, effort.signal)
        // Given up, which is all that it rejects with.
        .catch(() => {})
        .finally(() => {
          if (efforts.get(deviceId) === effort) efforts.delete(deviceId);
        });
    },
    giveUp,
    async stop() {
      for (const effort of efforts.values()) effort.abort();
      await Promise.all(last.values());
    },
  };
}
