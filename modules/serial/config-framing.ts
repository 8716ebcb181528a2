// Configuration of framing and checksums.

import { z } from 'zod';
import { LIMITS } from '#sdk';
import { HEX_PATTERN, isLatin1 } from './bytes.ts';
import { CHECKSUM_KINDS } from './checksum.ts';

/** Text or hexadecimal bytes of at most `maxChars`. */
export function bytesSchema(maxChars: number) {
  return z.union([
    z
      .string()
      .min(1)
      .max(maxChars)
      .refine(isLatin1, { error: 'must be characters of one byte; write other bytes as { hex: "0D 0A" }' }),
    z.strictObject({
      hex: z
        .string()
        .max(maxChars * 3)
        .regex(HEX_PATTERN, { error: 'must be bytes in hexadecimal, two digits each, such as "02 0D"' })
        .meta({ title: 'Hexadecimal', examples: ['0D 0A'] }),
    }),
  ]);
}

const MARK_CHARS = 64;
const markSchema = bytesSchema(MARK_CHARS);
const startSchema = markSchema.optional().meta({
  title: 'Start',
  description: 'Bytes that every frame begins with; what comes before is thrown away.',
});

const commonFields = {
  max_frame_bytes: z.int().min(1).max(LIMITS.serial_frame_bytes).default(1024).meta({
    title: 'Longest frame',
    description: 'A frame that goes on beyond is thrown away and counted, and the next one is found.',
    unit: 'bytes',
  }),
  partial_timeout_ms: z.int().min(5).max(60_000).default(1000).meta({
    title: 'Silence in a frame',
    description: 'A frame that was begun is given up after so much silence.',
  }),
};

const orderSchema = z.enum(['big', 'little']);

const delimiterFraming = z
  .strictObject({
    kind: z.literal('delimiter'),
    delimiter: markSchema.meta({ title: 'Delimiter', description: 'Ends a frame.', examples: ['\r\n'] }),
    ...commonFields,
  })
  .meta({ title: 'Delimiter' });

const readlineFraming = z
  .strictObject({ kind: z.literal('readline'), ...commonFields })
  .meta({ title: 'Lines', description: 'Lines that end with CR, LF or both; empty ones are left out.' });

const fixedLengthFraming = z
  .strictObject({
    kind: z.literal('fixed_length'),
    length_bytes: z.int().min(1).max(LIMITS.serial_frame_bytes).meta({
      title: 'Length',
      description: 'Of the whole frame, `start` and checksum included.',
      unit: 'bytes',
    }),
    start: startSchema,
    partial_timeout_ms: commonFields.partial_timeout_ms,
  })
  .meta({ title: 'Fixed length' });

const lengthFieldFraming = z
  .strictObject({
    kind: z.literal('length_field'),
    start: startSchema,
    length_offset: z.int().min(0).max(255).default(0).meta({
      title: 'Place of the length',
      description: 'Bytes before it, `start` included.',
      unit: 'bytes',
    }),
    length_bytes: z
      .union([z.literal(1), z.literal(2), z.literal(4)])
      .default(1)
      .meta({ title: 'Size of the length', unit: 'bytes' }),
    order: orderSchema.default('big').meta({ title: 'Byte order of the length' }),
    extra_bytes: z.int().min(-255).max(255).default(0).meta({
      title: 'Not counted',
      description: 'Bytes of the frame that the length does not count: header, checksum, ….',
      unit: 'bytes',
    }),
    ...commonFields,
  })
  .meta({ title: 'Length field' });

const startStopFraming = z
  .strictObject({
    kind: z.literal('start_stop'),
    start: markSchema.meta({ title: 'Start', description: 'Begins a frame.', examples: ['\u0002'] }),
    stop: markSchema.meta({ title: 'Stop', description: 'Ends a frame.', examples: ['\u0003'] }),
    trailer_bytes: z.int().min(0).max(16).default(0).meta({
      title: 'After the stop',
      description: 'Bytes that still belong to the frame, such as a checksum.',
      unit: 'bytes',
    }),
    ...commonFields,
  })
  .meta({ title: 'Start and stop' });

const silenceFraming = z
  .strictObject({
    kind: z.literal('silence'),
    silence_ms: z.int().min(2).max(60_000).default(50).meta({
      title: 'Silence between frames',
      description: 'Ends a frame. USB converters hand over bytes every 1 to 16 ms: leave room for that.',
    }),
    max_frame_bytes: commonFields.max_frame_bytes,
  })
  .meta({ title: 'Silence between frames' });

const slipFraming = z
  .strictObject({ kind: z.literal('slip'), ...commonFields })
  .meta({ title: 'SLIP', description: 'RFC 1055; requests are written as SLIP frames too.' });

export const framingSchema = z
  .discriminatedUnion('kind', [
    readlineFraming,
    delimiterFraming,
    fixedLengthFraming,
    lengthFieldFraming,
    startStopFraming,
    silenceFraming,
    slipFraming,
  ])
  .meta({ title: 'Framing', description: 'How the bytes of the line become frames.' });

export type FramingConfig = z.output<typeof framingSchema>;

export const checksumSchema = z
  .strictObject({
    kind: z.enum(CHECKSUM_KINDS).meta({
      title: 'Kind',
      description:
        "`sum8`, `sum16`, `sum8_complement` (its two's complement), `xor8`; `crc16_modbus`; `crc16_ccitt` (begins with FFFF), `crc16_xmodem` (begins with 0); `nmea`: `*` and two digits at the end, the other fields do not count.",
    }),
    from_byte: z.int().min(0).max(255).default(0).meta({
      title: 'From',
      description: 'First byte of the frame that is covered, `start` included: 1 leaves out a start mark of one byte.',
      unit: 'bytes',
    }),
    gap_bytes: z.int().min(0).max(255).default(0).meta({
      title: 'Gap',
      description: 'Bytes right before the checksum that are not covered.',
      unit: 'bytes',
    }),
    after_bytes: z.int().min(0).max(255).default(0).meta({
      title: 'After',
      description: 'Bytes of the frame after the checksum, such as a stop mark.',
      unit: 'bytes',
    }),
    encoding: z.enum(['binary', 'hex']).default('binary').meta({
      title: 'Encoding',
      description: '`hex`: two digits a byte.',
    }),
    order: orderSchema.optional().meta({
      title: 'Byte order',
      description: 'Default: `little` for crc16_modbus, else `big`.',
    }),
  })
  .meta({ title: 'Checksum', description: 'Frames whose checksum is wrong are thrown away and counted.' });

export type ChecksumConfig = z.output<typeof checksumSchema>;
