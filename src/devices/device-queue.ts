// Commands wait for their device, one line a device, so that a device that does not answer delays nobody else's.

import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';

interface Line {
  waiting: number;
  last: Promise<unknown>;
}

export interface DeviceQueue {
  /** Runs `work` when those before it have ended. @throws GatewayError GW_THROTTLED when too many wait; else as `work`. */
  run<T>(deviceId: string, work: () => Promise<T>): Promise<T>;
  /** Commands that wait or are under way. */
  readonly waiting: number;
}

export function createDeviceQueue(): DeviceQueue {
  const lines = new Map<string, Line>();
  let total = 0;
  return {
    get waiting() {
      return total;
    },
    async run(deviceId, work) {
      const line = lines.get(deviceId) ?? { waiting: 0, last: Promise.resolve() };
      if (line.waiting >= LIMITS.device_waiting_commands || total >= LIMITS.waiting_commands) {
        throw new GatewayError(
          'GW_THROTTLED',
          `${line.waiting} commands already wait for "${deviceId}", ${total} in all. Send more slowly.`,
        );
      }
      lines.set(deviceId, line);
      line.waiting += 1;
      total += 1;
      const done = line.last.then(work);
      line.last = done.catch(() => {});
      try {
        return await done;
      } finally {
        line.waiting -= 1;
        total -= 1;
        if (line.waiting === 0) lines.delete(deviceId);
      }
    },
  };
}
