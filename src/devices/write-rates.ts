// How often points may be written (`min_interval_ms`), durably: a limit that is to spare a motor outlives a restart.

import { z } from 'zod';
import type { PointInfo } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { GatewayError } from '../core/errors.ts';
import type { StateSpace } from '../core/state.ts';
import { elapsedMs, type Timestamp } from '../core/time.ts';

export interface WriteRates {
  /** @throws GatewayError GW_THROTTLED when one of the points was written too short a time ago. */
  check(deviceId: DeviceId, points: readonly PointInfo[]): Promise<void>;
  /** Before a point is written. Durable when it resolves, where the store takes it. */
  note(deviceId: DeviceId, point: PointInfo): Promise<void>;
}

const timestampSchema = z.object({
  bootId: z.string(),
  monotonicMs: z.number(),
  wallMs: z.number(),
  clock: z.enum(['synced', 'rtc', 'restored', 'unknown']),
});

export function createWriteRates({ space, clock }: { space: StateSpace; clock: Clock }): WriteRates {
  /** Of points with a limit, as many as are configured; those of devices that went stay. */
  const lastWrites = new Map<string, Timestamp>();

  async function lastWrite(key: string): Promise<Timestamp | undefined> {
    const known = lastWrites.get(key);
    if (known !== undefined) return known;
    // A store that is out of order keeps nobody from a device.
    const value = await space.get(key).catch(() => undefined);
    const parsed = timestampSchema.safeParse(value && JSON.parse(Buffer.from(value).toString('utf8')));
    if (!parsed.success) return undefined;
    lastWrites.set(key, parsed.data);
    return parsed.data;
  }

  return {
    async check(deviceId, points) {
      for (const { name, writeRules } of points) {
        const everyMs = writeRules?.minIntervalMs;
        if (everyMs === undefined) continue;
        const last = await lastWrite(`${deviceId}/${name}`);
        const leftMs = last === undefined ? 0 : everyMs - elapsedMs(last, clock.now());
        if (leftMs <= 0) continue;
        throw new GatewayError(
          'GW_THROTTLED',
          `Point "${name}" of "${deviceId}" may be written every ${everyMs} ms; ${Math.ceil(leftMs)} ms are left.`,
        );
      }
    },
    async note(deviceId, { name, writeRules }) {
      if (writeRules?.minIntervalMs === undefined) return;
      const key = `${deviceId}/${name}`;
      const now = clock.now();
      lastWrites.set(key, now);
      await space.write([{ key, value: Buffer.from(JSON.stringify(now)) }]).catch(() => {});
    },
  };
}
