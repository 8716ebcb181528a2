// What of a poll is worth a message: points with a deadband are reported when they leave it, when their quality changes,
// and at the latest after their heartbeat.

import type { DeviceInfo } from '../core/adapter.ts';
import type { PointValue, Reading, ReadingBatch } from '../core/reading.ts';
import { qualityText } from '../core/reading.ts';

interface PointRule {
  readonly deadband: number;
  readonly heartbeatMs: number;
}

interface LastReport {
  value: PointValue | undefined;
  quality: string;
  atMs: number;
}

interface DeviceRules {
  readonly rules: ReadonlyMap<string, PointRule>;
  readonly last: Map<string, LastReport>;
}

export interface Transform {
  /** Takes the rules of a device's points; forgets what was reported before. */
  setDevice(device: DeviceInfo): void;
  removeDevice(deviceId: string): void;
  /** The batch with what has to be reported; undefined when that is nothing. */
  apply(batch: ReadingBatch): ReadingBatch | undefined;
}

function withinDeadband(value: PointValue | undefined, last: PointValue | undefined, deadband: number): boolean {
  if (typeof value === 'number' && typeof last === 'number') return Math.abs(value - last) <= deadband;
  if (typeof value === 'bigint' && typeof last === 'bigint') {
    return Number(value > last ? value - last : last - value) <= deadband;
  }
  return value === last;
}

/** Bounded by the configured points (`LIMITS.points`). */
export function createTransform(): Transform {
  const devices = new Map<string, DeviceRules>();

  function isDue(device: DeviceRules, reading: Reading, atMs: number): boolean {
    const rule = device.rules.get(reading.point);
    if (rule === undefined) return true;
    const quality = qualityText(reading.quality);
    const last = device.last.get(reading.point);
    const due =
      last === undefined ||
      last.quality !== quality ||
      atMs - last.atMs >= rule.heartbeatMs ||
      !withinDeadband(reading.value, last.value, rule.deadband);
    if (due) device.last.set(reading.point, { value: reading.value, quality, atMs });
    return due;
  }

  return {
    setDevice({ deviceId, points }) {
      const rules = new Map<string, PointRule>();
      for (const { name, shape } of points) {
        if (shape?.deadband === undefined) continue;
        rules.set(name, { deadband: shape.deadband, heartbeatMs: shape.heartbeatMs ?? Number.POSITIVE_INFINITY });
      }
      if (rules.size === 0) devices.delete(deviceId);
      else devices.set(deviceId, { rules, last: new Map() });
    },
    removeDevice(deviceId) {
      devices.delete(deviceId);
    },
    apply(batch) {
      const device = devices.get(batch.deviceId);
      if (device === undefined) return batch;
      const readings = batch.readings.filter((reading) => isDue(device, reading, batch.time.monotonicMs));
      if (readings.length === 0) return undefined;
      return readings.length === batch.readings.length ? batch : { ...batch, readings };
    },
  };
}
