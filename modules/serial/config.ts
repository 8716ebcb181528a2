// Configuration of the serial adapter: one adapter is one line with the devices on it. What a schema cannot say (a pattern
// that is none, a template without a value) is in check-config.ts.

import { z } from 'zod';
import {
  adapterShapeFields,
  captureFields,
  deviceShapeFields,
  limitSchema,
  PATTERN_MAX_CHARS,
  pointShapeFields,
  scaleFields,
  simulateFields,
  unitField,
  writeRuleFields,
} from '#sdk';
import { decodeSchema, pointNameSchema } from './config-decode.ts';
import { bytesSchema, checksumSchema, framingSchema } from './config-framing.ts';

const DAY_MS = 86_400_000;
const TEMPLATE_CHARS = 512;

const templateSchema = z.union([
  bytesSchema(TEMPLATE_CHARS).options[0],
  z.strictObject({
    hex: z
      .string()
      .min(1)
      .max(TEMPLATE_CHARS * 3)
      .meta({
        title: 'Hexadecimal',
        description: 'Bytes, and {address}, {value:uint16le}, {checksum}.',
        examples: ['02 {address} 57 {checksum}'],
      }),
  }),
]);

const requestField = templateSchema.meta({
  title: 'Request',
  description:
    'What is sent to ask for values. `{address}` is the address of the device, `{checksum}` the checksum of what stands before it. Without a request the device speaks by itself.',
  examples: ['W\r\n'],
});

const patternSchema = z.string().min(1).max(PATTERN_MAX_CHARS);

const matchField = z
  .union([
    patternSchema,
    z.strictObject({
      offset: z.int().min(0).max(16_383).default(0).meta({ title: 'Offset', unit: 'bytes' }),
      bytes: bytesSchema(64).meta({ title: 'Bytes' }),
    }),
  ])
  .meta({
    title: 'Match',
    description:
      'Which frames belong to the device: a pattern (RE2) that occurs in them, or bytes at a place. Default: all that it asked for.',
    examples: ['^01', { offset: 0, bytes: { hex: '01' } }],
  });

const pollIntervalSchema = z.int().min(10).max(DAY_MS);
const timeoutSchema = z.int().min(10).max(600_000);

const askSchema = z
  .strictObject({
    request: requestField,
    decode: decodeSchema,
    match: matchField.optional(),
    poll_interval_ms: pollIntervalSchema.optional().meta({
      title: 'Poll interval',
      description: "Start to start of two requests. Default: the device's.",
    }),
    timeout_ms: timeoutSchema.optional().meta({ title: 'Timeout', description: "Default: the device's." }),
  })
  .meta({ title: 'Request', description: 'One thing to ask for, and how the answer is read.' });

const writeSchema = z
  .strictObject({
    template: templateSchema.meta({
      title: 'Template',
      description:
        'What is sent, with `{value}` or `{value:FORMAT}` for the value: d, 06.2f, 04X, s, or in bytes uint8, int16le, float32, ….',
      examples: ['S{value:06.1f}\r\n'],
    }),
    values: z
      .record(z.string().max(256), z.string().max(256))
      .optional()
      .meta({
        title: 'Values',
        description: 'The only values that may be written, and the text that stands for each in the template.',
        examples: [{ true: 'ON', false: 'OFF' }],
      }),
    response: patternSchema.optional().meta({
      title: 'Response',
      description:
        'Pattern (RE2) of the answer that confirms the write; any other answer is a failure. Default: no answer is awaited.',
      examples: ['^OK'],
    }),
    refusal: patternSchema.optional().meta({
      title: 'Refusal',
      description:
        'Pattern (RE2) of the answer by which the device refuses. Default: every answer that is not `response`.',
    }),
    settle_ms: z.int().min(0).max(60_000).default(0).meta({
      title: 'Pause before reading back',
      description: 'For devices that take a value over only some time after the write.',
    }),
    verification: z.enum(['read_back', 'none']).default('read_back').meta({
      title: 'Verification',
      description:
        '`read_back`: after the write the request that gives this point is sent, and its value compared; where there is none, `response` alone confirms. `none`: for points that read otherwise.',
    }),
    tolerance: z.number().min(0).default(0).meta({
      title: 'Tolerance',
      description: 'How far a number read back may be from the one written.',
    }),
    ...writeRuleFields,
  })
  .meta({ title: 'Write', description: 'Makes the point writable.' });

const pointSchema = z
  .strictObject({
    ...pointShapeFields,
    ...scaleFields,
    unit: unitField,
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
    write: writeSchema.optional(),
  })
  .meta({ title: 'Point', description: 'What is known of one value beyond where it stands.' });

const breakerSchema = z
  .strictObject({
    failures: z.int().min(1).max(100).default(3).meta({
      title: 'Failures',
      description:
        'Requests without a sound answer in a row after which the device counts as offline and is only probed.',
    }),
    probe_interval_min_ms: z.int().min(100).max(DAY_MS).default(2000).meta({
      title: 'First probe',
      description: 'Time to the first probe; doubles with each one that fails.',
    }),
    probe_interval_max_ms: z.int().min(100).max(DAY_MS).default(30_000).meta({ title: 'Longest time between probes' }),
  })
  .meta({ title: 'Circuit breaker', description: 'What keeps a dead device from taking the time of the others.' });

export const deviceSchema = z
  .strictObject({
    ...simulateFields,
    address: bytesSchema(32)
      .optional()
      .meta({
        title: 'Address',
        description: 'What `{address}` stands for in requests and writes.',
        examples: ['01'],
      }),
    request: requestField.optional(),
    match: matchField.optional(),
    decode: decodeSchema.optional(),
    requests: z.array(askSchema).min(1).max(64).optional().meta({
      title: 'Requests',
      description: 'In place of `request` and `decode`, for devices that are asked for several things.',
    }),
    poll_interval_ms: pollIntervalSchema.default(1000).meta({
      title: 'Poll interval',
      description: 'Start to start of two requests. Polls that do not fit are missed and counted, never queued.',
    }),
    timeout_ms: timeoutSchema.default(1000).meta({
      title: 'Timeout',
      description: 'Longest wait for an answer after a request.',
    }),
    retries: z.int().min(0).max(10).default(1).meta({
      title: 'Retries',
      description: 'How often a request is repeated in the same poll when there is no sound answer.',
    }),
    silent_after_ms: z.int().min(100).max(DAY_MS).default(30_000).meta({
      title: 'Silent after',
      description: 'A device that speaks by itself counts as offline after so much silence.',
    }),
    bad_after_frames: z.int().min(1).max(100).default(3).meta({
      title: 'Bad after',
      description: 'A device that speaks by itself counts as bad after so many faulty frames in a row.',
      unit: 'frames',
    }),
    heartbeat_secs: z.int().min(1).max(86_400).default(60).meta({
      title: 'Heartbeat of a failing device',
      description: 'A device that fails gives one message at once, then one each so many seconds.',
    }),
    circuit_breaker: breakerSchema.prefault({}),
    points: z.record(pointNameSchema, pointSchema).default({}).meta({
      title: 'Points',
      description:
        'Units, scales, limits and writes, by the names that decoding gives; names beyond these can only be written.',
    }),
    ...deviceShapeFields,
  })
  .meta({ title: 'Device', description: 'One leaf device on the line.' });

const usbId = z.string().regex(/^[0-9a-f]{4}$/i, { error: 'must be four hexadecimal digits such as "0403"' });

const usbSchema = z
  .strictObject({
    vendor_id: usbId.meta({ title: 'Vendor', examples: ['0403'] }),
    product_id: usbId.optional().meta({ title: 'Product', examples: ['6001'] }),
    serial_number: z.string().min(1).max(128).optional().meta({ title: 'Serial number' }),
    interface_number: z.int().min(0).max(255).optional().meta({
      title: 'Interface',
      description: 'Of converters with several ports: 0 is the first.',
    }),
  })
  .meta({
    title: 'USB',
    description: 'Finds the port by what the converter says of itself, wherever it is plugged in.',
  });

const { replay, capture } = captureFields;

export const serialConfig = z
  .strictObject({
    path: z
      .string()
      .min(1)
      .max(4096)
      .optional()
      .meta({
        title: 'Path',
        description:
          'Serial port. A name below /dev/serial/by-id stays the same when ports are plugged elsewhere; one that does not begin with / is below the data directory.',
        examples: ['/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1-if00-port0'],
      }),
    usb: usbSchema.optional(),
    baud_rate: z.int().min(50).max(4_000_000).default(9600).meta({ title: 'Baud rate', unit: 'baud' }),
    data_bits: z
      .union([z.literal(5), z.literal(6), z.literal(7), z.literal(8)])
      .default(8)
      .meta({ title: 'Data bits' }),
    parity: z.enum(['none', 'even', 'odd']).default('none').meta({ title: 'Parity' }),
    stop_bits: z
      .union([z.literal(1), z.literal(2)])
      .default(1)
      .meta({ title: 'Stop bits' }),
    flow_control: z.enum(['none', 'rts_cts', 'xon_xoff']).default('none').meta({ title: 'Flow control' }),
    framing: framingSchema.prefault({ kind: 'readline' }),
    checksum: checksumSchema.optional(),
    request_gap_ms: z.int().min(0).max(10_000).default(0).meta({
      title: 'Pause before a request',
      description: 'Silence of the line before each request.',
    }),
    capture,
    replay: replay
      .unwrap()
      .extend({
        pace: z.enum(['recorded', 'fast']).default('recorded').meta({
          title: 'Pace',
          description: '`recorded`: as it was; `fast`: as fast as it is taken.',
        }),
        repeat: z.boolean().default(true).meta({ title: 'Repeat', description: 'Begins again at the end.' }),
      })
      .optional()
      .meta({ title: 'Replay', description: 'Plays a capture in place of the port, through the same decoder.' }),
    ...adapterShapeFields,
    devices: z.record(z.string(), deviceSchema).meta({
      title: 'Devices',
      description: 'The leaf devices of this line, by device id.',
    }),
  })
  .meta({ title: 'Serial line', description: 'Polls instruments on a serial port, or listens to them.' });

export type SerialConfig = z.output<typeof serialConfig>;
export type DeviceConfig = z.output<typeof deviceSchema>;
export type PointConfig = z.output<typeof pointSchema>;
export type WriteConfig = z.output<typeof writeSchema>;
export type MatchConfig = z.output<typeof matchField>;
export type AskConfig = z.output<typeof askSchema>;
export type UsbConfig = z.output<typeof usbSchema>;
