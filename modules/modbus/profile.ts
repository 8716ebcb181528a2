// What a device profile of this adapter may say: the points of a type of device, and the quirks by which it is read.

import { z } from 'zod';
import { type ConfigFault, POINT_NAME_PATTERN, POINT_NAME_RULE } from '#sdk';
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
