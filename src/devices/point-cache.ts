// The last reading of every point, for people and for change detection. Bounded by LIMITS.points; live subscribers are
// told which devices changed and fetch what they show.

import type { DeviceInfo, PointInfo } from '../core/adapter.ts';
import type { DeviceId } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import type { PointValue, Quality, ReadingBatch } from '../core/reading.ts';
import type { Timestamp } from '../core/time.ts';

export interface PointState {
  readonly info: PointInfo;
  readonly value: PointValue | undefined;
  /** Undefined until the first reading. */
  readonly quality: Quality | undefined;
  readonly time: Timestamp | undefined;
  /** When the quality was last good. */
  readonly lastGood: Timestamp | undefined;
}

interface MutablePoint {
  info: PointInfo;
  value: PointValue | undefined;
  quality: Quality | undefined;
  time: Timestamp | undefined;
  lastGood: Timestamp | undefined;
}

export interface PointCache {
  setDevice(device: DeviceInfo): void;
  removeDevice(deviceId: DeviceId): void;
  update(batch: ReadingBatch): void;
  points(deviceId: DeviceId): readonly PointState[];
  point(deviceId: DeviceId, name: string): PointState | undefined;
  /** Calls back with each batch after it was taken in; returns a function that ends it. */
  subscribe(listener: (batch: ReadingBatch) => void): () => void;
  readonly size: number;
}

export function createPointCache(): PointCache {
  const devices = new Map<DeviceId, Map<string, MutablePoint>>();
  const listeners = new Set<(batch: ReadingBatch) => void>();
  let size = 0;

  function add(points: Map<string, MutablePoint>, info: PointInfo): MutablePoint | undefined {
    if (size >= LIMITS.points) return undefined;
    const point: MutablePoint = { info, value: undefined, quality: undefined, time: undefined, lastGood: undefined };
    points.set(info.name, point);
    size += 1;
    return point;
  }

  return {
    setDevice({ deviceId, points }) {
      const before = devices.get(deviceId);
      const after = new Map<string, MutablePoint>();
      size -= before?.size ?? 0;
      for (const info of points) {
        const known = before?.get(info.name);
        const point = add(after, info);
        // A point that keeps its address keeps its last value over a change of configuration.
        if (point !== undefined && known !== undefined && known.info.address === info.address) {
          Object.assign(point, known, { info });
        }
      }
      devices.set(deviceId, after);
    },
    removeDevice(deviceId) {
      size -= devices.get(deviceId)?.size ?? 0;
      devices.delete(deviceId);
    },
    update(batch) {
      const points = devices.get(batch.deviceId);
      if (points === undefined) return;
      for (const reading of batch.readings) {
        const point =
          points.get(reading.point) ??
          add(points, {
            name: reading.point,
            address: '',
            writable: false,
            ...(reading.unit === undefined ? {} : { unit: reading.unit }),
          });
        if (point === undefined) continue;
        point.quality = reading.quality;
        point.time = batch.time;
        if (reading.quality.level === 'bad') continue;
        point.value = reading.value;
        if (reading.quality.level === 'good') point.lastGood = batch.time;
      }
      for (const listener of listeners) listener(batch);
    },
    points: (deviceId) => [...(devices.get(deviceId)?.values() ?? [])],
    point: (deviceId, name) => devices.get(deviceId)?.get(name),
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    get size() {
      return size;
    },
  };
}
