// Configuration of the Modbus adapter: one adapter is one bus, or one set of TCP servers.
// What a schema cannot say (a writable input register, a string without a length) is in check-config.ts.

import { z } from 'zod';
import { parseRegister } from './address.ts';
import { BYTE_ORDER_PATTERN } from './byte-order.ts';
import { isGatewayError, PEM_PATTERN, PEM_RULE } from '#sdk';

/** Registers in one read (MODBUS Application Protocol V1.1b3, 6.3 and 6.4). */
export const READ_REGISTERS_MAX = 125;
/** Coils or discrete inputs in one read (6.1 and 6.2). */
export const READ_BITS_MAX = 2000;
/** Registers in one write (6.12). */
export const WRITE_REGISTERS_MAX = 123;

const DAY_MS = 86_400_000;
const POINT_NAME_PATTERN = /^(?!__proto__$)[\p{L}\p{N}_][\p{L}\p{N}_.:%()-]{0,127}$/u;

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

const hostSchema = z.string().min(1).max(253);
const portSchema = z.int().min(1).max(65_535);

const socketFields = {
  host: hostSchema.optional().meta({
    title: 'Host',
    description: 'Name or address of the server; may be left out when every device has a `host` of its own.',
    examples: ['10.0.0.5'],
  }),
  connect_timeout_ms: z.int().min(100).max(120_000).default(5000).meta({
    title: 'Connect timeout',
    description: 'Longest wait for the connection, the TLS handshake included.',
  }),
  connections: z.enum(['shared', 'per_device']).default('shared').meta({
    title: 'Connections',
    description:
      '`shared`: devices with the same host and port take turns on one connection. `per_device`: each has its own; for servers that allow several.',
  }),
};

const tcpTransport = z
  .strictObject({
    kind: z.literal('tcp'),
    ...socketFields,
    port: portSchema.default(502).meta({ title: 'Port', description: 'TCP port of the server.' }),
  })
  .meta({ title: 'Modbus TCP' });

const rtuOverTcpTransport = z
  .strictObject({
    kind: z.literal('rtu_over_tcp'),
    ...socketFields,
    port: portSchema.default(502).meta({ title: 'Port', description: 'TCP port of the serial device server.' }),
  })
  .meta({ title: 'RTU frames over TCP', description: 'For serial device servers that pass bytes through.' });

const pemSchema = z.string().regex(PEM_PATTERN, { error: PEM_RULE });

const tlsTransport = z
  .strictObject({
    kind: z.literal('tls'),
    ...socketFields,
    port: portSchema.default(802).meta({ title: 'Port', description: 'TCP port of the server.' }),
    ca: pemSchema.optional().meta({
      title: 'Authority',
      description: "PEM text of the authorities that may sign the server's certificate. Default: those of the system.",
      examples: ['!file ca.pem'],
    }),
    certificate: pemSchema.optional().meta({
      title: 'Certificate',
      description: "PEM text of the gateway's own certificate.",
      examples: ['!file gateway.crt'],
    }),
    key: pemSchema.optional().meta({
      title: 'Key',
      description: 'PEM text of the private key of the certificate.',
      secret: true,
      examples: ['!file gateway.key'],
    }),
    server_name: hostSchema.optional().meta({
      title: 'Server name',
      description: "Name that the server's certificate must carry. Default: the host.",
    }),
  })
  .meta({ title: 'Modbus/TCP Security (TLS)' });

const serialFields = {
  path: z
    .string()
    .min(1)
    .meta({
      title: 'Path',
      description: 'Serial port; a name below /dev/serial/by-id stays the same when ports are plugged elsewhere.',
      examples: ['/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1-if00-port0'],
    }),
  baud_rate: z.int().min(50).max(4_000_000).default(19_200).meta({ title: 'Baud rate', unit: 'baud' }),
  parity: z
    .enum(['none', 'even', 'odd'])
    .default('even')
    .meta({ title: 'Parity', description: 'Even is the default of the specification (2.5.1).' }),
};

const rtuTransport = z
  .strictObject({
    kind: z.literal('rtu'),
    ...serialFields,
    // RTU frames are bytes: 2.5.1 of MODBUS over Serial Line V1.02.
    data_bits: z.literal(8).default(8).meta({ title: 'Data bits' }),
    stop_bits: z
      .union([z.literal(1), z.literal(2)])
      .optional()
      .meta({
        title: 'Stop bits',
        description: 'Default: 1; 2 when there is no parity, so that a character keeps 11 bits (2.5.1).',
      }),
  })
  .meta({ title: 'Modbus RTU on a serial port' });

const asciiTransport = z
  .strictObject({
    kind: z.literal('ascii'),
    ...serialFields,
    data_bits: z
      .union([z.literal(7), z.literal(8)])
      .default(7)
      .meta({ title: 'Data bits' }),
    stop_bits: z
      .union([z.literal(1), z.literal(2)])
      .optional()
      .meta({
        title: 'Stop bits',
        description: 'Default: 1; 2 when there is no parity (2.5.2).',
      }),
  })
  .meta({ title: 'Modbus ASCII on a serial port' });

export const transportSchema = z
  .discriminatedUnion('kind', [tcpTransport, tlsTransport, rtuOverTcpTransport, rtuTransport, asciiTransport])
  .meta({ title: 'Transport', description: 'How the bus is reached.' });

const timeoutSchema = z.int().min(10).max(60_000);
const retriesSchema = z.int().min(0).max(10);
const gapSchema = z.int().min(0).max(10_000);
const pollIntervalSchema = z.int().min(10).max(DAY_MS);

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
    offset: z.number().optional().meta({ title: 'Offset', description: 'Added after scaling.' }),
    decimals: z.int().min(0).max(15).optional().meta({
      title: 'Decimals',
      description: 'Round the value to so many decimals. Default: integers have those of `scale` and `offset`.',
    }),
    unit: z
      .string()
      .min(1)
      .max(32)
      .optional()
      .meta({ title: 'Unit', examples: ['V', 'kWh'] }),
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
    min: z.number().optional().meta({
      title: 'Smallest value',
      description: 'Below it the quality is `bad:out_of_range`, and a write is refused. After scaling.',
    }),
    max: z.number().optional().meta({
      title: 'Largest value',
      description: 'Above it the quality is `bad:out_of_range`, and a write is refused. After scaling.',
    }),
    writable: z
      .boolean()
      .default(false)
      .meta({ title: 'Writable', description: 'Whether commands may write it. Coils and holding registers only.' }),
    write_verification: z.enum(['read_back', 'read_write', 'none']).default('read_back').meta({
      title: 'Write verification',
      description:
        '`read_back`: after a write the point is read and compared. `read_write`: the same in one exchange (function 23) for whole holding registers, where the device knows it. `none`: for points that read otherwise.',
    }),
    deadband: z.number().min(0).optional().meta({
      title: 'Deadband',
      description: "Report only changes beyond this much, in the point's unit. Default: every reading.",
    }),
    heartbeat_secs: z.int().min(1).max(86_400).optional().meta({
      title: 'Heartbeat',
      description: 'Longest silence of a point with a deadband.',
    }),
    poll_interval_ms: pollIntervalSchema.optional().meta({
      title: 'Poll interval',
      description: "Start to start of two reads of this point. Default: the device's.",
    }),
  })
  .meta({ title: 'Point', description: 'One named value.' });

const breakerSchema = z
  .strictObject({
    failures: z.int().min(1).max(100).default(3).meta({
      title: 'Failures',
      description: 'Requests without an answer in a row after which the device counts as offline and is only probed.',
    }),
    probe_interval_min_ms: z.int().min(100).max(DAY_MS).default(2000).meta({
      title: 'First probe',
      description: 'Time to the first probe; doubles with each one that fails.',
    }),
    probe_interval_max_ms: z.int().min(100).max(DAY_MS).default(30_000).meta({
      title: 'Longest time between probes',
    }),
  })
  .meta({
    title: 'Circuit breaker',
    description: 'What keeps a dead device from taking the time of the others on its bus.',
  });

export const deviceSchema = z
  .strictObject({
    unit_id: z.int().min(0).max(255).default(1).meta({
      title: 'Unit id',
      description: '1 to 247 on a serial bus; TCP servers that are one device often want 1, 0 or 255.',
    }),
    host: hostSchema.optional().meta({
      title: 'Host',
      description: "Name or address of this device's server. TCP, TLS and RTU over TCP only. Default: the transport's.",
    }),
    port: portSchema.optional().meta({ title: 'Port', description: "Default: the transport's." }),
    poll_interval_ms: pollIntervalSchema.default(1000).meta({
      title: 'Poll interval',
      description: 'Start to start of two polls. Polls that do not fit are missed and counted, never queued.',
    }),
    byte_order: z
      .enum(['ABCD', 'CDAB', 'BADC', 'DCBA'])
      .default('ABCD')
      .meta({ title: 'Byte order', description: 'Of the points that do not say their own.' }),
    timeout_ms: timeoutSchema.optional().meta({ title: 'Timeout', description: "Default: the adapter's." }),
    retries: retriesSchema.optional().meta({ title: 'Retries', description: "Default: the adapter's." }),
    request_gap_ms: gapSchema.optional().meta({
      title: 'Pause before a request',
      description: "Default: the adapter's.",
    }),
    max_registers: z.int().min(1).max(READ_REGISTERS_MAX).default(READ_REGISTERS_MAX).meta({
      title: 'Most registers in one request',
      unit: 'registers',
    }),
    max_coils: z.int().min(1).max(READ_BITS_MAX).default(READ_BITS_MAX).meta({
      title: 'Most coils or discrete inputs in one request',
      unit: 'bits',
    }),
    max_gap_registers: z.int().min(0).max(READ_REGISTERS_MAX).default(16).meta({
      title: 'Largest gap',
      description:
        'Registers that no point needs and that may be read along to save a request. A block that the device refuses is split, and the hole remembered.',
      unit: 'registers',
    }),
    max_gap_coils: z.int().min(0).max(READ_BITS_MAX).default(256).meta({
      title: 'Largest gap between coils or discrete inputs',
      unit: 'bits',
    }),
    one_request_per_point: z.boolean().default(false).meta({
      title: 'One request per point',
      description: 'For devices that refuse to give several values at once.',
    }),
    coils_from_zero: z.boolean().default(false).meta({
      title: 'Read coils from zero',
      description: 'For devices that take only address 0 as the start of a read of coils.',
    }),
    force_multiple_writes: z.boolean().default(false).meta({
      title: 'Write with functions 15 and 16 only',
      description: 'For devices that do not know functions 5 and 6.',
    }),
    heartbeat_secs: z.int().min(1).max(86_400).default(60).meta({
      title: 'Heartbeat of a failing device',
      description: 'A device that fails gives one message at once, then one each so many seconds.',
    }),
    circuit_breaker: breakerSchema.prefault({}),
    points: z
      .record(
        z.string().regex(POINT_NAME_PATTERN, {
          error: 'must be 1 to 128 letters, digits or _ . : % ( ) - and begin with a letter, digit or _',
        }),
        pointSchema,
      )
      .meta({ title: 'Points', description: 'What is read and written, by a name of your choice.' }),
  })
  .meta({ title: 'Device', description: 'One leaf device (a unit id).' });

export const modbusConfig = z
  .strictObject({
    transport: transportSchema,
    timeout_ms: timeoutSchema.default(1000).meta({
      title: 'Timeout',
      description: 'Longest wait for an answer after a request.',
    }),
    retries: retriesSchema.default(1).meta({
      title: 'Retries',
      description: 'How often a request is repeated in the same poll when there is no sound answer.',
    }),
    request_gap_ms: gapSchema.default(0).meta({
      title: 'Pause before a request',
      description: 'Silence before each request, beyond what the specification asks for.',
    }),
    turnaround_ms: gapSchema.default(100).meta({
      title: 'Turnaround delay',
      description: 'Silence after a broadcast on a serial bus (MODBUS over Serial Line V1.02, 2.4.1).',
    }),
    connect_delay_ms: gapSchema.default(0).meta({
      title: 'Pause after connecting',
      description: 'For devices that answer only some time after the connection or power.',
    }),
    devices: z.record(z.string(), deviceSchema).meta({
      title: 'Devices',
      description: 'The leaf devices of this bus, by device id.',
    }),
  })
  .meta({ title: 'Modbus', description: 'Polls Modbus devices over TCP, TLS, RTU or ASCII.' });

export type ModbusConfig = z.output<typeof modbusConfig>;
export type TransportConfig = ModbusConfig['transport'];
export type DeviceConfig = z.output<typeof deviceSchema>;
export type PointConfig = z.output<typeof pointSchema>;
