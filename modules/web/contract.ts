// What the web server answers, for its server, its clients and its tests. The shapes are the admin port's views; the
// schemas say what a client may rely on.

import { z } from 'zod';

export const PATHS = {
  audit: '/api/audit',
  health: '/health',
  metrics: '/metrics',
  status: '/api/status',
  devices: '/api/devices',
  points: '/api/points',
  live: '/api/live',
} as const;

/** Names of the server-sent events of PATHS.live (HTML Living Standard, section 9.2). */
export const LIVE_EVENTS = {
  /** A GatewayStatus, at once and every 2 s. */
  status: 'status',
  /** The DeviceViews that changed; at first all that are watched. */
  devices: 'devices',
  /** Ids of devices that are gone. */
  removed: 'removed',
} as const;

const deviceState = z.enum(['unknown', 'good', 'degraded', 'offline']);

export const healthSchema = z.object({
  live: z.boolean(),
  ready: z.boolean(),
  degraded: z.boolean(),
  reasons: z.array(z.object({ part: z.string(), status: z.string(), reason: z.string().optional() })),
});

export const pointSchema = z.object({
  point: z.string(),
  value: z.union([z.number(), z.boolean(), z.string()]).optional(),
  quality: z.string().regex(/^(good|unknown|(uncertain|bad):.+)$/),
  unit: z.string().optional(),
  address: z.string(),
  writable: z.boolean(),
  time: z.iso.datetime().optional(),
  ageMs: z.number().min(0).optional(),
  goodAgeMs: z.number().min(0).optional(),
});

export const deviceSchema = z.object({
  deviceId: z.string(),
  adapterId: z.string(),
  state: deviceState,
  reason: z.string().optional(),
  stateAgeMs: z.number().min(0).optional(),
  points: z.array(pointSchema),
});

export const devicePageSchema = z.object({ items: z.array(deviceSchema), next: z.string().optional() });

/** One row of PATHS.points: a point with its device. */
export const pointRowSchema = pointSchema.extend({ deviceId: z.string(), adapterId: z.string() });
export const pointPageSchema = z.object({ items: z.array(pointRowSchema), next: z.string().optional() });

export const statusSchema = z.object({
  gatewayId: z.string(),
  version: z.string(),
  startedAt: z.iso.datetime(),
  uptimeSecs: z.number(),
  time: z.iso.datetime(),
  clock: z.enum(['synced', 'rtc', 'restored', 'unknown']),
  health: healthSchema,
  adapters: z.array(
    z.object({
      adapterId: z.string(),
      type: z.string(),
      health: z.object({ status: z.string() }),
      devices: z.record(deviceState, z.number()),
    }),
  ),
  endpoints: z.array(
    z.object({
      name: z.string(),
      type: z.string(),
      target: z.string(),
      state: z.string(),
      connected: z.boolean(),
      reason: z.string().optional(),
      hint: z.string().optional(),
    }),
  ),
  outbox: z.object({
    messages: z.number(),
    bytes: z.number(),
    full: z.boolean(),
    queues: z.array(z.object({ name: z.string() })),
  }),
  config: z.object({ generation: z.number(), state: z.string(), degraded: z.boolean(), faults: z.array(z.string()) }),
  process: z.object({ pid: z.number(), rssBytes: z.number(), eventLoopLagMs: z.number() }),
  host: z.object({}),
  events: z.array(z.object({ time: z.iso.datetime(), name: z.string(), level: z.string(), text: z.string() })),
});

/** Which devices, of PATHS.devices, PATHS.points and PATHS.live. */
export const deviceQuerySchema = z.strictObject({
  deviceId: z.string().optional(),
  adapterId: z.string().optional(),
  state: deviceState.optional(),
  /** Device id after which the page begins: `next` of the page before. */
  after: z.string().optional(),
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(1000))
    .optional(),
});

const numberText = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

/** A page of PATHS.audit, the newest first. */
export const auditQuerySchema = z.strictObject({
  /** The number of the last record of the page before. */
  before: numberText.optional(),
  limit: numberText.pipe(z.int().min(1).max(1000)).default(100),
});
