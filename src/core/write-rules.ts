// What may be written to a point, whatever the device itself would take: a fragment of configuration that every adapter
// spreads into its points, and the rule that the dispatcher enforces.

import { z } from 'zod';

/** A bigint where a number would not be exact. JavaScript compares the two without rounding. */
export type Limit = number | bigint;

/** Bounds of the values that may be written, and how often. What is undefined does not bound. */
export interface WriteRules {
  readonly min?: Limit | undefined;
  readonly max?: Limit | undefined;
  /** The only values that may be written, within `min` and `max`. */
  readonly allowed?: readonly (number | boolean | string)[] | undefined;
  /** Shortest time between two writes of the point; one that comes sooner is refused, not delayed. */
  readonly minIntervalMs?: number | undefined;
}

const DAY_MS = 86_400_000;
const INTEGER_TEXT = /^-?\d{1,20}$/;
/** Beyond it there are no integers of 64 bits, and whoever writes 1e30 means about that. */
const INTEGER_MAX = 2 ** 64;

/** As YAML read it, a long integer has been rounded. */
const exactNumber = z
  .number()
  .refine((value) => !Number.isInteger(value) || Number.isSafeInteger(value) || Math.abs(value) > INTEGER_MAX, {
    error: 'must stand in quotes, because a number beyond 2^53-1 is rounded',
  });

/** A bound that is exact; `exactNumberOf` gives it. */
export const limitSchema = z.union([exactNumber, z.string().regex(INTEGER_TEXT, { error: 'must be a number' })], {
  error: 'must be a number; an integer beyond 2^53-1 stands in quotes',
});

/** For adapters whose `write:` holds more than rules; they check `min` against `max` themselves. */
export const writeRuleFields = {
  min: limitSchema.optional().meta({
    title: 'Smallest value',
    description: 'A write below it is refused. Integers beyond 2^53-1 stand in quotes.',
  }),
  max: limitSchema.optional().meta({
    title: 'Largest value',
    description: 'A write above it is refused. Integers beyond 2^53-1 stand in quotes.',
  }),
  allowed: z
    .array(z.union([exactNumber, z.boolean(), z.string().max(256)]))
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
  .refine((config) => !isCrossed(config), { error: '`min` is above `max`', path: ['min'] })
  .meta({ title: 'Write limits', description: 'What may be written to the point. Only with `writable: true`.' });

/** point: z.strictObject({ ...writeFields, writable, … }) */
export const writeFields = { write: writeSchema.optional() };

export function writeRulesOf(config: z.output<z.ZodObject<typeof writeFields>>): WriteRules | undefined {
  if (config.write === undefined) return undefined;
  const { min, max, allowed, min_interval_ms: minIntervalMs } = config.write;
  return { min: exactNumberOf(min), max: exactNumberOf(max), allowed, minIntervalMs };
}

interface Crossable {
  readonly min?: number | string | undefined;
  readonly max?: number | string | undefined;
}

/** Whether the smallest value is above the largest. */
export function isCrossed({ min, max }: Crossable): boolean {
  const [least, most] = [exactNumberOf(min), exactNumberOf(max)];
  return least !== undefined && most !== undefined && least > most;
}

/**
 * A number, or an integer of any length as it is or as text; undefined for everything else. Equal ones are `===`: an integer is
 * a bigint just when it is beyond 2^53-1.
 */
export function exactNumberOf(value: unknown): Limit | undefined {
  if (typeof value === 'number') return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  return typeof value === 'string' && INTEGER_TEXT.test(value) ? exactNumberOf(BigInt(value)) : undefined;
}
