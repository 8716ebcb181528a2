// Configuration of one point: where its value stands, how it is read, what is reported of it.

import { z } from 'zod';
import { isGatewayError, limitSchema, pointShapeFields, unitField, writeFields } from '#sdk';
import { parseRegister } from './address.ts';
import { BYTE_ORDER_PATTERN } from './byte-order.ts';
import { READ_REGISTERS_MAX } from './pdu.ts';

const DAY_MS = 86_400_000;

export const POINT_TYPES = [
  'bool',
  'int8',
  'uint8',
  'int16',
  'uint16',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'float16',
  'float32',
  'float64',
  'bcd16',
  'bcd32',
  'string',
] as const;
export type PointType = (typeof POINT_TYPES)[number];

export const pollIntervalSchema = z.int().min(10).max(DAY_MS);

const byteOrderSchema = z.string().regex(BYTE_ORDER_PATTERN, {
  error: 'must be ABCD, CDAB, BADC, DCBA, or the letters ABCDEFGH in the order of the bytes on the wire',
});

const registerSchema = z.union([z.string(), z.int()]).superRefine((text, context) => {
  try {
    parseRegister(text);
  } catch (error) {
    if (!isGatewayError(error)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
  }
});

export const pointSchema = z
  .strictObject({
    register: registerSchema.meta({
      title: 'Register',
      description:
        'Table and zero-based protocol address (`input:0`, `holding:0x156`, `coil:3`, `discrete:3`), or the classic one-based number with its table as first digit (`40001` is `holding:0`; coils in quotes, "00001").',
      examples: ['input:0', 'holding:0x156', 40001],
    }),
    sunspec_models: z
      .array(z.int().min(1).max(65_534))
      .min(1)
      .max(8)
      .optional()
      .meta({
        title: 'SunSpec models',
        description:
          '`register` and `scale_register` are counted from the start of the first of these models that the device has (its id is register 0), wherever that lies. A value that the device has not is `bad:not_available`.',
        examples: [[103]],
      }),
    type: z.enum(POINT_TYPES).optional().meta({
      title: 'Type',
      description: 'Default: `bool` for coils, discrete inputs and where `bit` is given, else `uint16`.',
    }),
    byte_order: byteOrderSchema.optional().meta({
      title: 'Byte order',
      description:
        "Order of the value's bytes on the wire, A being the most significant: ABCD, CDAB (words swapped), BADC (bytes of each word swapped), DCBA (both), or eight letters for 64 bits. Default: the device's.",
    }),
    length_registers: z.int().min(1).max(READ_REGISTERS_MAX).optional().meta({
      title: 'Length',
      description: 'Registers of a string.',
      unit: 'registers',
    }),
    encoding: z.enum(['utf8', 'ascii', 'latin1']).optional().meta({
      title: 'Encoding',
      description: 'Characters of a string; default `utf8`. Trailing NULs and blanks are cut off.',
    }),
    byte: z.enum(['low', 'high']).optional().meta({
      title: 'Byte',
      description:
        'Of int8 and uint8: the byte of the register, default `low`. Of a string: the byte of each register that holds a character; default: both, the high one first.',
    }),
    bit: z.int().min(0).max(15).optional().meta({
      title: 'Bit',
      description: 'One bit of a register, 0 being the least significant.',
    }),
    scale: z.number().optional().meta({ title: 'Scale', description: 'Value = raw value × scale + offset.' }),
    scale_register: registerSchema.optional().meta({
      title: 'Scale register',
      description:
        'Where the power of ten stands that the raw value is multiplied with, -10 to 10 (SunSpec `sunssf`). It is read in one request with the value.',
    }),
    offset: z.number().optional().meta({ title: 'Offset', description: 'Added after scaling.' }),
    decimals: z.int().min(0).max(15).optional().meta({
      title: 'Decimals',
      description: 'Round the value to so many decimals. Default: integers have those of `scale` and `offset`.',
    }),
    unit: unitField,
    enum: z
      .record(z.string().regex(/^-?\d{1,15}$/, { error: 'must be an integer' }), z.string().min(1).max(256))
      .optional()
      .meta({
        title: 'Names of values',
        description:
          'Text for each raw integer. A value without a name is reported as its number in text, quality `uncertain:unknown_enum`.',
      }),
    sentinels: z
      .array(z.union([z.number(), z.string().min(1).max(256)]))
      .min(1)
      .max(32)
      .optional()
      .meta({
        title: 'Sentinels',
        description:
          'Raw values by which the device says that there is no value: quality `bad:sentinel`. Bit patterns of signed types may be given as unsigned; integers beyond 2^53 in quotes.',
        examples: [[0x8000], ['0xFFFFFFFFFFFFFFFF']],
      }),
    min: limitSchema.optional().meta({
      title: 'Smallest value',
      description:
        'Below it the quality is `bad:out_of_range`, and a write is refused. After scaling. Integers beyond 2^53-1 stand in quotes.',
    }),
    max: limitSchema.optional().meta({
      title: 'Largest value',
      description:
        'Above it the quality is `bad:out_of_range`, and a write is refused. After scaling. Integers beyond 2^53-1 stand in quotes.',
    }),
    writable: z
      .boolean()
      .default(false)
      .meta({ title: 'Writable', description: 'Whether commands may write it. Coils and holding registers only.' }),
    ...writeFields,
    write_verification: z.enum(['read_back', 'read_write', 'none']).default('read_back').meta({
      title: 'Write verification',
      description:
        '`read_back`: after a write the point is read and compared. `read_write`: the same in one exchange (function 23) for whole holding registers, where the device knows it. `none`: for points that read otherwise.',
    }),
    ...pointShapeFields,
    poll_interval_ms: pollIntervalSchema.optional().meta({
      title: 'Poll interval',
      description: "Start to start of two reads of this point. Default: the device's.",
    }),
  })
  .meta({ title: 'Point', description: 'One named value.' });

export type PointConfig = z.output<typeof pointSchema>;
