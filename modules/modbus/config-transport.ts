// Configuration of the way to a bus: one schema for each kind of transport.

import { z } from 'zod';
import { PEM_PATTERN, PEM_RULE } from '#sdk';

export const hostSchema = z.string().min(1).max(253);
export const portSchema = z.int().min(1).max(65_535);

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

export type TransportConfig = z.output<typeof transportSchema>;
