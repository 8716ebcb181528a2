// The configuration of shaping, as every adapter has it: fragments that a module spreads into its own schemas, so that a
// deadband is written the same way for Modbus, serial lines and MQTT.
//
//   adapter:  z.strictObject({ ...adapterShapeFields, devices })
//   device:   z.strictObject({ ...deviceShapeFields, points })
//   point:    z.strictObject({ ...pointShapeFields, ...scaleFields, address })      scaleFields unless decoding scales

import { z } from 'zod';
import { LIMITS } from './limits.ts';
import { MESSAGE_MAX_BYTES } from './message.ts';
import { BODY_FORMATS, WINDOW_FUNCTIONS } from './shape.ts';
import { limitSchema } from './write-rules.ts';

/** Names of points. */
export const POINT_NAME_PATTERN = /^(?!__proto__$)[\p{L}\p{N}_][\p{L}\p{N}_.:%()-]{0,127}$/u;
export const POINT_NAME_RULE = 'must be 1 to 128 letters, digits or _ . : % ( ) - and begin with a letter, digit or _';

const DAY_SECS = 86_400;
const DAY_MS = DAY_SECS * 1000;

const windowSchema = z
  .strictObject({
    mode: z.enum(['tumbling', 'moving']).default('tumbling').meta({
      title: 'Mode',
      description:
        '`tumbling`: one value a window, then the next window begins. `moving`: with each sample one value over the samples before it.',
    }),
    duration_secs: z.number().min(0.01).max(DAY_SECS).optional().meta({
      title: 'Duration',
      description: 'The window ends after so long …',
    }),
    samples: z
      .int()
      .min(1)
      .max(1_000_000)
      .optional()
      .meta({
        title: 'Samples',
        description: `… or after so many good samples, whichever comes first. Moving windows hold at most ${LIMITS.window_samples}.`,
      }),
    functions: z
      .array(z.enum(WINDOW_FUNCTIONS))
      .min(1)
      .max(WINDOW_FUNCTIONS.length)
      .default(['mean'])
      .meta({
        title: 'Functions',
        description: 'With more than one, each value is a point of its own: `NAME_mean`, `NAME_max`, …',
        examples: [['mean'], ['min', 'max']],
      }),
  })
  .meta({
    title: 'Window',
    description:
      'Reports one value for a stretch of time or samples instead of each one. Its samples are in memory until it ends: a crash loses them.',
  });

const clampSchema = z
  .strictObject({
    min: limitSchema.optional().meta({ title: 'Smallest value' }),
    max: limitSchema.optional().meta({ title: 'Largest value' }),
  })
  .meta({
    title: 'Clamp',
    description:
      'Numbers beyond are set to the nearest bound; the quality stays as it is. Integers beyond 2^53-1 stand in quotes.',
  });

/** What may be said of one point and, as a default, of all points of a device or an adapter. */
const reportFields = {
  clamp: clampSchema.optional(),
  window: windowSchema.optional(),
  report: z.enum(['always', 'on_change']).optional().meta({
    title: 'Report',
    description:
      '`always`: every reading. `on_change`: when value or quality changes, and at the heartbeat. Default: `always`, or `on_change` where a deadband is given.',
  }),
  deadband: z.number().min(0).optional().meta({
    title: 'Deadband',
    description: "Report only changes beyond this much, in the point's unit. Default: every reading.",
  }),
  deadband_percent: z.number().min(0).max(1000).optional().meta({
    title: 'Deadband in percent',
    description: 'Report only changes beyond this much of the value last reported. With `deadband`: beyond both.',
    unit: '%',
  }),
  heartbeat_secs: z.int().min(1).max(DAY_SECS).optional().meta({
    title: 'Heartbeat',
    description: 'Longest silence of a point that is reported on change.',
  }),
  min_interval_ms: z.int().min(1).max(DAY_MS).optional().meta({
    title: 'Shortest interval',
    description:
      'At most one report in so long. The newest of the values in between is reported at its end, with its own time; until then it is in memory, and lost in a crash.',
  }),
};

export const pointShapeFields = {
  ...reportFields,
  rename: z.string().regex(POINT_NAME_PATTERN, { error: POINT_NAME_RULE }).optional().meta({
    title: 'Name in messages',
    description: 'Default: the name of the point, which commands, expressions and the web page go on using.',
  }),
};

/** For adapters whose decoding does not scale. */
export const scaleFields = {
  scale: z
    .number()
    .refine((scale) => scale !== 0, { error: 'must not be 0' })
    .optional()
    .meta({ title: 'Scale', description: 'Value = raw value × scale + offset.' }),
  offset: z.number().optional().meta({ title: 'Offset', description: 'Added after scaling.' }),
  decimals: z.int().min(0).max(15).optional().meta({
    title: 'Decimals',
    description: 'Round the value to so many decimals.',
  }),
};

export const unitField = z
  .string()
  .min(1)
  .max(32)
  .optional()
  .meta({ title: 'Unit', examples: ['V', 'kWh'] });

const packSchema = z
  .strictObject({
    max_bytes: z.int().min(256).max(MESSAGE_MAX_BYTES).default(4096).meta({
      title: 'Largest body',
      description: 'A poll that does not fit begins the next message. Azure IoT Hub bills blocks of 4096 bytes.',
    }),
    max_secs: z.number().min(0.1).max(3600).default(60).meta({
      title: 'Longest wait',
      description:
        'The message leaves when its oldest poll is so old. Polls that wait here are not stored yet: a crash or a power cut loses at most so much. Never packed is what its sender waits for (MQTT with QoS 1 or 2 is stored before the PUBACK), what passes through undecoded, and what comes with a time of its own.',
    }),
  })
  .meta({ title: 'Packing', description: 'Gathers several polls of a device into one message, each with its time.' });

export const messagesSchema = z
  .strictObject({
    format: z.enum(BODY_FORMATS).optional().meta({
      title: 'Format',
      description:
        '`json`; `senml`: RFC 8428 as JSON (application/senml+json); `cbor`: the fields of `json` in CBOR (application/cbor). Default: `json`.',
    }),
    pack: z
      .union([z.literal('off'), packSchema])
      .optional()
      .meta({ title: 'Packing', description: '`off`, or a size and a time. Default: one message a poll.' }),
  })
  .meta({
    title: 'Messages',
    description:
      "How polled values become messages. A device's own settings come first, then its adapter's, then the gateway's.",
  });

const pointDefaultsSchema = z
  .strictObject(reportFields)
  .meta({ title: 'Defaults of points', description: 'For the points that do not say it themselves.' });

const computedSchema = z
  .strictObject({
    expression: z
      .string()
      .min(1)
      .max(LIMITS.expression_chars)
      .meta({
        title: 'Expression',
        description:
          'Over other points of the device by their names; names that are not plain words as `point("a-b")`. + - * / % ** comparisons && || ! ?: and abs, min, max, round, floor, ceil, sqrt, pow, exp, log, log10, sin, cos, tan, atan2, clamp, sign, bit, number, contains.',
        examples: ['voltage * current / 1000', 'abs(p1) > 5 ? p1 : 0'],
      }),
    unit: unitField,
    decimals: scaleFields.decimals,
    ...pointShapeFields,
  })
  .meta({ title: 'Computed point' });

export const adapterShapeFields = {
  messages: messagesSchema.optional(),
  point_defaults: pointDefaultsSchema.optional(),
};

export const deviceShapeFields = {
  ...adapterShapeFields,
  computed: z
    .record(z.string().regex(POINT_NAME_PATTERN, { error: POINT_NAME_RULE }), computedSchema)
    .optional()
    .meta({
      title: 'Computed points',
      description: 'Values made from other points of the device, by a name of your choice.',
    }),
};

/** What `pointShapeFields` and `scaleFields` parse to. */
export type PointShapeConfig = z.output<z.ZodObject<typeof pointShapeFields>> &
  Partial<z.output<z.ZodObject<typeof scaleFields>>>;
export type MessagesConfig = z.output<typeof messagesSchema>;
export type ComputedConfig = z.output<typeof computedSchema>;
export type AdapterShapeConfig = z.output<z.ZodObject<typeof adapterShapeFields>>;
export type DeviceShapeConfig = z.output<z.ZodObject<typeof deviceShapeFields>>;
