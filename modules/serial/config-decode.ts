// Configuration of decoding: how the frames of a device become values.

import { z } from 'zod';
import { PATTERN_MAX_CHARS, POINT_NAME_PATTERN, POINT_NAME_RULE } from '#sdk';
import { NMEA_SENTENCE_NAMES } from './nmea-sentences.ts';

export const pointNameSchema = z.string().regex(POINT_NAME_PATTERN, { error: POINT_NAME_RULE });

const VALUE_TYPES = ['number', 'integer', 'hex', 'boolean', 'string'] as const;
export type ValueType = (typeof VALUE_TYPES)[number];

const typesSchema = z.record(z.string(), z.enum(VALUE_TYPES)).optional().meta({
  title: 'Types',
  description:
    'What the texts are, by name of the point: `number`, `integer`, `hex`, `boolean` (1, true, on, yes), `string`. Default: `string`; in JSON as it stands there.',
});

const textFields = {
  types: typesSchema,
  decimal_separator: z.enum(['.', ',']).default('.').meta({ title: 'Decimal separator' }),
  encoding: z.enum(['utf8', 'latin1']).default('latin1').meta({ title: 'Encoding', description: 'Of the text.' }),
};

const regexDecode = z
  .strictObject({
    kind: z.literal('regex'),
    pattern: z
      .string()
      .min(1)
      .max(PATTERN_MAX_CHARS)
      .meta({
        title: 'Pattern',
        description:
          'With a named group for each point. RE2 syntax: everything but back references and look-around, matched in linear time.',
        examples: ['^W (?<weight>[-0-9.]+) kg$'],
      }),
    ...textFields,
  })
  .meta({ title: 'Regular expression' });

const delimitedDecode = z
  .strictObject({
    kind: z.literal('delimited'),
    separator: z.string().min(1).max(8).default(',').meta({
      title: 'Separator',
      description: 'A blank stands for any number of them.',
    }),
    fields: z
      .array(pointNameSchema.nullable())
      .min(1)
      .max(256)
      .meta({
        title: 'Fields',
        description: 'The name of each field in order; `null` for those that are of no interest.',
        examples: [['temperature', null, 'humidity']],
      }),
    exact: z.boolean().default(false).meta({
      title: 'Exact',
      description: 'Frames with another number of fields are faults.',
    }),
    ...textFields,
  })
  .meta({ title: 'Delimited fields' });

const jsonDecode = z
  .strictObject({
    kind: z.literal('json'),
    values: z
      .record(
        pointNameSchema,
        z
          .string()
          .max(512)
          .regex(/^(?:\/(?:[^~/]|~[01])*)*$/, { error: 'must be a JSON pointer (RFC 6901) such as /temp/0' }),
      )
      .meta({
        title: 'Values',
        description: 'JSON pointers (RFC 6901) by name of the point.',
        examples: [{ temperature: '/temp' }],
      }),
    types: typesSchema,
  })
  .meta({ title: 'JSON' });

const nmeaDecode = z
  .strictObject({
    kind: z.literal('nmea'),
    sentences: z
      .array(z.enum(NMEA_SENTENCE_NAMES))
      .max(32)
      .default([])
      .meta({
        title: 'Sentences',
        description: 'Those whose values become points, from any talker: GGA gives latitude, longitude, altitude, ….',
        examples: [['GGA', 'RMC']],
      }),
    fields: z
      .record(
        pointNameSchema,
        z.strictObject({
          sentence: z
            .string()
            .regex(/^(?:P[A-Z0-9]{2,8}|[A-Z0-9]{3}|[A-Z0-9]{5})$/, {
              error: 'must be a sentence such as XDR, WIXDR or PGRME',
            })
            .meta({ title: 'Sentence', description: 'With or without its talker.' }),
          field: z.int().min(1).max(80).meta({ title: 'Field', description: 'Its number; 1 is the first value.' }),
          type: z.enum(['number', 'integer', 'string']).default('number').meta({ title: 'Type' }),
        }),
      )
      .optional()
      .meta({ title: 'Fields', description: 'Points from any field of any sentence.' }),
  })
  .meta({ title: 'NMEA 0183' });

const LAYOUT_TYPES = [
  'bool',
  'bits',
  'int8',
  'uint8',
  'int16',
  'uint16',
  'int24',
  'uint24',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'float32',
  'float64',
  'bcd',
  'text',
] as const;

const layoutFieldSchema = z.strictObject({
  offset: z.int().min(-16_384).max(16_383).meta({
    title: 'Offset',
    description:
      'First byte, counted from the beginning of what goes to decoding (`fixed_length` and `length_field`: the whole frame with its marks); below zero from its end.',
    unit: 'bytes',
  }),
  type: z
    .enum(LAYOUT_TYPES)
    .meta({ title: 'Type', description: '`bool`: true unless 0, or one `bit`; `bits`: some bits.' }),
  order: z.enum(['big', 'little', 'word_swapped']).default('big').meta({
    title: 'Byte order',
    description: '`word_swapped`: least significant 16 bits first (CDAB).',
  }),
  bit: z
    .int()
    .min(0)
    .max(63)
    .optional()
    .meta({ title: 'Bit', description: 'The lowest one; 0 is the least significant.' }),
  bits: z.int().min(1).max(64).optional().meta({ title: 'Bits', description: 'How many, for `bits`. Default 1.' }),
  length_bytes: z.int().min(1).max(256).optional().meta({
    title: 'Length',
    description: 'Of `text` and `bcd`. Default 1.',
    unit: 'bytes',
  }),
  scale: z
    .number()
    .refine((scale) => scale !== 0, { error: 'must not be 0' })
    .optional()
    .meta({ title: 'Scale', description: 'Value = raw value × scale + the offset of the point, if any.' }),
});

export type LayoutField = z.output<typeof layoutFieldSchema>;

const layoutDecode = z
  .strictObject({
    kind: z.literal('layout'),
    fields: z
      .record(pointNameSchema, layoutFieldSchema)
      .meta({ title: 'Fields', description: 'By name of the point.' }),
  })
  .meta({ title: 'Bytes and bits' });

export const decodeSchema = z
  .discriminatedUnion('kind', [regexDecode, delimitedDecode, jsonDecode, nmeaDecode, layoutDecode])
  .meta({ title: 'Decoding', description: 'How a frame becomes values.' });

export type DecodeConfig = z.output<typeof decodeSchema>;
