// What may be written to a point, whatever the device itself would take: a fragment of configuration that every adapter
// spreads into its points, and the rule that the dispatcher enforces.

import { z } from 'zod';

/** Bounds of the values that may be written, and how often. What is undefined does not bound. */
export interface WriteRules {
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  /** The only values that may be written; none is refused by `min` and `max` then. */
  readonly allowed?: readonly (number | boolean | string)[] | undefined;
  /** Shortest time between two writes of the point; one that comes sooner is refused, not delayed. */
  readonly minIntervalMs?: number | undefined;
}

const DAY_MS = 86_400_000;

/** For adapters whose `write:` holds more than rules; they check `min` against `max` themselves. */
export const writeRuleFields = {
  min: z.number().optional().meta({ title: 'Smallest value', description: 'A write below it is refused.' }),
  max: z.number().optional().meta({ title: 'Largest value', description: 'A write above it is refused.' }),
  allowed: z
    .array(z.union([z.number(), z.boolean(), z.string().max(256)]))
    .min(1)
    .max(64)
    .optional()
    .meta({
      title: 'Allowed values',
      description: 'A write of any other value is refused.',
      examples: [[0, 50, 100]],
    }),
  min_interval_ms: z.int().min(1).max(DAY_MS).optional().meta({
    title: 'Shortest interval',
    description: 'A write that comes sooner after the one before is refused, not delayed.',
  }),
};

const writeSchema = z
  .strictObject(writeRuleFields)
  .refine(({ min, max }) => min === undefined || max === undefined || min <= max, {
    error: '`min` is above `max`',
    path: ['min'],
  })
  .meta({ title: 'Write limits', description: 'What may be written to the point. Only with `writable: true`.' });

/** point: z.strictObject({ ...writeFields, writable, … }) */
export const writeFields = { write: writeSchema.optional() };

export function writeRulesOf(config: z.output<z.ZodObject<typeof writeFields>>): WriteRules | undefined {
  if (config.write === undefined) return undefined;
  const { min, max, allowed, min_interval_ms: minIntervalMs } = config.write;
  return { min, max, allowed, minIntervalMs };
}
