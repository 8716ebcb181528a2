// Faults of shaping that a schema cannot express. A module calls it for each device in its own check.

import { computedOrder } from './computed-order.ts';
import type { ConfigFault } from './module.ts';
import { windowOutputs } from './shape.ts';
import { LIMITS } from './limits.ts';
import type { AdapterShapeConfig, DeviceShapeConfig, PointShapeConfig } from './shape-fields.ts';
import { isCrossed } from './write-rules.ts';

export interface ShapeCheckOptions {
  readonly device: DeviceShapeConfig;
  readonly adapter: AdapterShapeConfig;
  /** The points of the device by name. */
  readonly points: Readonly<Record<string, PointShapeConfig>>;
  /** It may show further points at run time: expressions may name any. */
  readonly hasOpenPoints?: boolean;
}

type Section = readonly [string, Readonly<Record<string, PointShapeConfig>>];

/** Paths are below the device: `['points', NAME, …]`, `['computed', NAME, …]`. */
export function checkDeviceShape(options: ShapeCheckOptions): readonly ConfigFault[] {
  const { device, adapter, points, hasOpenPoints = false } = options;
  const faults: ConfigFault[] = [];
  const defaults = { ...adapter.point_defaults, ...device.point_defaults };
  const sections: readonly Section[] = [
    ['points', points],
    ['computed', device.computed ?? {}],
  ];
  for (const [section, entries] of sections) {
    for (const [name, own] of Object.entries(entries)) {
      const report = (below: readonly string[], message: string): void => {
        faults.push({ path: [section, name, ...below], message });
      };
      checkPoint({ ...defaults, ...own }, own, report);
    }
  }
  for (const name of Object.keys(device.computed ?? {})) {
    if (Object.hasOwn(points, name)) {
      faults.push({ path: ['computed', name], message: 'there is a point of this name already.' });
    }
  }
  const expressions = new Map(
    Object.entries(device.computed ?? {}).map(([name, { expression }]) => [name, expression]),
  );
  for (const { name, message } of computedOrder(expressions, (input) => hasOpenPoints || Object.hasOwn(points, input))
    .faults) {
    faults.push({ path: ['computed', name, 'expression'], message });
  }
  faults.push(...checkNames(sections, defaults));
  return faults;
}

/** Two points of one name in a message would hide each other. */
function checkNames(sections: readonly Section[], defaults: PointShapeConfig): ConfigFault[] {
  const owners = new Map<string, string>();
  const faults: ConfigFault[] = [];
  for (const [section, entries] of sections) {
    for (const [name, own] of Object.entries(entries)) {
      const { rename = name, window } = { ...defaults, ...own };
      for (const called of windowOutputs(rename, [...new Set(window?.functions)])) {
        const owner = owners.get(called);
        if (owner === undefined) owners.set(called, name);
        else
          faults.push({ path: [section, name], message: `is called "${called}" in messages, as ${owner} is already.` });
      }
    }
  }
  return faults;
}

function checkPoint(
  point: PointShapeConfig,
  own: PointShapeConfig,
  report: (below: readonly string[], message: string) => void,
): void {
  const onChange = point.deadband !== undefined || point.deadband_percent !== undefined || point.report === 'on_change';
  if (own.heartbeat_secs !== undefined && !onChange) {
    report(['heartbeat_secs'], 'only with deadband or `report: on_change`: without one every reading is reported.');
  }
  const { clamp, window } = point;
  if (clamp !== undefined && isCrossed(clamp)) {
    report(['clamp', 'min'], `must not be above max (${clamp.max}).`);
  }
  if (window === undefined) return;
  if (window.duration_secs === undefined && window.samples === undefined) {
    report(['window'], 'give duration_secs, samples or both.');
  }
  if (window.mode === 'moving' && (window.samples ?? 0) > LIMITS.window_samples) {
    report(['window', 'samples'], `a moving window holds at most ${LIMITS.window_samples} samples.`);
  }
}
