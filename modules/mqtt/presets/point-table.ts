// The points that a device has shown so far, with what is known of each.

import { LIMITS, type PointInfo } from '#sdk';

/** Whether the name that a device gave a point may be kept. */
export function isPointName(name: string): boolean {
  return name.length <= LIMITS.mqtt_point_name_chars;
}

export class PointTable {
  readonly #devices = new Map<string, Map<string, PointInfo>>();

  /** All points of the device when something new is among these, else undefined. */
  learn(device: string, points: readonly PointInfo[]): readonly PointInfo[] | undefined {
    let known = this.#devices.get(device);
    if (known === undefined) {
      if (this.#devices.size >= LIMITS.devices) return undefined;
      known = new Map();
      this.#devices.set(device, known);
    }
    let news = false;
    for (const point of points) {
      if (!isPointName(point.name)) continue;
      const before = known.get(point.name);
      if (before === undefined && known.size >= LIMITS.mqtt_device_points) continue;
      if (before !== undefined && isSame(before, point)) continue;
      known.set(point.name, point);
      news = true;
    }
    return news ? [...known.values()] : undefined;
  }

  get(device: string, point: string): PointInfo | undefined {
    return this.#devices.get(device)?.get(point);
  }
}

function isSame(a: PointInfo, b: PointInfo): boolean {
  const isToldAlike = a.address === b.address && a.unit === b.unit && a.writable === b.writable;
  return isToldAlike && (a.values === b.values || JSON.stringify(a.values) === JSON.stringify(b.values));
}
