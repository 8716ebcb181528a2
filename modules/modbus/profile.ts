// What a device profile of this adapter may say: the points of a type of device, and the quirks by which it is read.

import { z } from 'zod';
import { type ConfigFault, POINT_NAME_PATTERN, POINT_NAME_RULE, type ScanProfile } from '#sdk';
import { checkModbusConfig } from './check-config.ts';
import { deviceSchema, modbusConfig } from './config.ts';
import { pointSchema } from './config-point.ts';

/** What belongs to the one device and not to its type. */
const OF_THE_DEVICE = {
  unit_id: true,
  host: true,
  port: true,
  profile: true,
  points: true,
  simulate: true,
  capture: true,
  replay: true,
} as const;

export const profileSchema = z.strictObject({
  title: z.string().min(1).max(128),
  /** The document that the map of registers is from. */
  source: z.string().min(1).max(512),
  /** What a device of this type says of itself (function 43/14), by `vendor_name`, `product_code`, …: a part of it. */
  identification: z.record(z.string().regex(/^[a-z_]+\d*$/), z.string().min(1)).optional(),
  /** Quirks: fields of a device. */
  device: deviceSchema.omit(OF_THE_DEVICE).partial().optional(),
  points: z.record(z.string().regex(POINT_NAME_PATTERN, { error: POINT_NAME_RULE }), pointSchema),
});

/** Faults that the schema cannot express, found by making a device of the profile. */
export function checkProfile(values: unknown): readonly ConfigFault[] {
  const { device = {}, points } = values as { device?: object; points: object };
  const config = modbusConfig.parse({
    transport: { kind: 'tcp', host: 'localhost' },
    devices: { any: { ...device, points } },
  });
  // `devices.any.points.…` is `points.…` here; other fields of the device stand under `device`.
  return checkModbusConfig(config).map(({ path: [, , ...path], message }) => ({
    path: path[0] === 'points' ? path : ['device', ...path],
    message,
  }));
}

/**
 * The profile whose identification a device fits, the one that asks for most first; undefined when none asks for what
 * the device says.
 */
export function profileFor(
  identification: Readonly<Record<string, string>>,
  profiles: readonly ScanProfile[],
): string | undefined {
  const fitting = profiles.flatMap(({ name, values }) => {
    const wanted = Object.entries((values['identification'] ?? {}) as Readonly<Record<string, string>>);
    const fits = wanted.every(([field, text]) => identification[field]?.toLowerCase().includes(text.toLowerCase()));
    return wanted.length > 0 && fits ? [{ name, count: wanted.length }] : [];
  });
  return fitting.sort((a, b) => b.count - a.count)[0]?.name;
}

/** The profile whose every point lies in a model that the device has; undefined without one. */
export function sunspecProfileFor(models: readonly number[], profiles: readonly ScanProfile[]): string | undefined {
  const fits = (point: unknown): boolean => {
    const wanted = (point as { sunspec_models?: readonly number[] }).sunspec_models ?? [];
    return wanted.some((id) => models.includes(id));
  };
  return profiles.find(({ values }) => {
    const points = Object.values(values['points'] ?? {});
    return points.length > 0 && points.every(fits);
  })?.name;
}
