// The fields that `upstream` and every endpoint have, whatever their module.

import { z } from 'zod';
import { LIMITS } from '../core/limits.ts';
import { sealSchema } from './seal-schema.ts';

/** Fields of `upstream` and of every endpoint; the rest comes from its module. */
export const endpointCommonSchema = z
  .strictObject({
    type: z.string().meta({ title: 'Type', description: 'Which transport or endpoint: the name of its module.' }),
    enabled: z.boolean().default(true).meta({
      title: 'Enabled',
      description:
        '`false` stops sending; messages for it go on waiting in its queue, within the limits of the outbox.',
    }),
    order: z.enum(['live_first', 'strict']).default('live_first').meta({
      title: 'Order',
      description:
        '`live_first`: after an outage fresh messages go first and the history follows beside them. `strict`: always in the order of storing.',
    }),
    max_bytes: z.int().min(65_536).optional().meta({
      title: 'Largest queue',
      description:
        "Most bytes of messages that may wait for this endpoint alone; past it the oldest of this queue are dropped, never another's. Default: only the limits of the outbox.",
      unit: 'bytes',
    }),
    seal: sealSchema.optional(),
    max_bytes_per_sec: z.int().min(100).optional().meta({
      title: 'Rate of the history',
      description:
        'Most bytes a second of what waited longer than an outage; fresh messages go before it and at any rate. Default: as fast as the link takes it.',
      unit: 'bytes/s',
    }),
    monthly_budget_bytes: z.int().min(10_000).optional().meta({
      title: 'Monthly budget',
      description:
        'Most bytes in a month: bodies and properties of messages as they are sent, resends included, commands and their answers; not what protocols, TLS and TCP add. Past it only urgent messages and commands pass, and all else waits. Default: no budget.',
      unit: 'bytes',
    }),
    budget_reset_day: z.int().min(1).max(28).optional().meta({
      title: 'Reset day',
      description: 'Day of the month on which the budget begins anew, at 0:00 UTC. Default: 1.',
    }),
    urgent: z
      .string()
      .max(LIMITS.condition_chars)
      .optional()
      .meta({
        title: 'Urgent',
        description:
          'Condition, as of a route: what it is true for is sent although the budget is spent, and overtakes a history that has a rate. Default: nothing.',
        examples: ["level = 'alarm'"],
      }),
  })
  .superRefine(({ order, max_bytes_per_sec, monthly_budget_bytes, budget_reset_day, urgent }, context) => {
    const fault = (field: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [field], message });
    if (order === 'strict' && max_bytes_per_sec !== undefined) {
      fault('max_bytes_per_sec', 'has no effect with `order: strict`, which knows no history');
    }
    if (monthly_budget_bytes !== undefined) return;
    if (budget_reset_day !== undefined) fault('budget_reset_day', 'has no effect without `monthly_budget_bytes`');
    if (urgent !== undefined && max_bytes_per_sec === undefined) {
      fault('urgent', 'has no effect without `monthly_budget_bytes` or `max_bytes_per_sec`');
    }
  });
