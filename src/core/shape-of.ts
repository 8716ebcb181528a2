// From the configuration of shaping to what travels with a device: a module calls `shapedDevice` for its DeviceInfo.

import type { DeviceInfo, PointInfo } from './adapter.ts';
import type { DeviceId } from './device.ts';
import type {
  AdapterShapeConfig,
  ComputedConfig,
  DeviceShapeConfig,
  MessagesConfig,
  PointShapeConfig,
} from './shape-fields.ts';
import type { MessageShape, PointShape } from './shape.ts';
import { exactNumberOf } from './write-rules.ts';

export interface ShapedDeviceOptions {
  readonly deviceId: DeviceId;
  /** The points that the adapter reads, without `shape`. */
  readonly points: readonly PointInfo[];
  /** The configuration of a point by its name; a point without any has the defaults. */
  readonly pointConfig: (name: string) => PointShapeConfig | undefined;
  readonly device: DeviceShapeConfig;
  readonly adapter: AdapterShapeConfig;
}

/** The device as the pipeline wants it: settings of points over those of the device over those of the adapter, and computed points. */
export function shapedDevice({ deviceId, points, pointConfig, device, adapter }: ShapedDeviceOptions): DeviceInfo {
  const defaults = { ...adapter.point_defaults, ...device.point_defaults };
  const computed = Object.entries(device.computed ?? {}).map(([name, config]): PointInfo => ({
    name,
    address: `= ${config.expression}`,
    writable: false,
    ...(config.unit === undefined ? {} : { unit: config.unit }),
    shape: pointShape({ ...defaults, ...config }),
  }));
  return {
    deviceId,
    points: [
      ...points.map((info) => ({ ...info, shape: pointShape({ ...defaults, ...pointConfig(info.name) }) })),
      ...computed,
    ],
    shape: {
      messages: { ...messageShape(adapter.messages), ...messageShape(device.messages) },
      pointDefaults: pointShape(defaults),
    },
  };
}

export function pointShape(config: PointShapeConfig & Partial<Pick<ComputedConfig, 'expression'>>): PointShape {
  const { clamp, window } = config;
  return {
    scale: config.scale,
    offset: config.offset,
    decimals: config.decimals,
    clamp: clamp && { min: exactNumberOf(clamp.min), max: exactNumberOf(clamp.max) },
    expression: config.expression,
    window:
      window === undefined
        ? undefined
        : {
            mode: window.mode,
            durationMs: secs(window.duration_secs),
            samples: window.samples,
            functions: [...new Set(window.functions)],
          },
    report: config.report,
    deadband: config.deadband,
    deadbandPercent: config.deadband_percent,
    heartbeatMs: secs(config.heartbeat_secs),
    minIntervalMs: config.min_interval_ms,
    rename: config.rename,
  };
}

/** Only what is set, so that it can be laid over defaults. */
export function messageShape(config: MessagesConfig | undefined): MessageShape {
  const { format, pack } = config ?? {};
  return {
    ...(format === undefined ? {} : { format }),
    ...(pack === undefined
      ? {}
      : { pack: pack === 'off' ? pack : { maxBytes: pack.max_bytes, maxMs: pack.max_secs * 1000 } }),
  };
}

function secs(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value * 1000;
}
