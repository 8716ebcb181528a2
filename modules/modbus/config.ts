// Configuration of the Modbus adapter: one adapter is one bus, or one set of TCP servers.
// What a schema cannot say (a writable input register, a string without a length) is in check-config.ts.

import { z } from 'zod';
import { pointSchema, pollIntervalSchema } from './config-point.ts';
import { hostSchema, portSchema, transportSchema } from './config-transport.ts';
import { READ_BITS_MAX, READ_REGISTERS_MAX } from './pdu.ts';
import {
  adapterShapeFields,
  deviceShapeFields,
  POINT_NAME_PATTERN,
  POINT_NAME_RULE,
  captureFields,
  simulateFields,
} from '#sdk';

const DAY_MS = 86_400_000;

/** Where SunSpec maps begin (SunSpec Device Information Model Specification). */
export const SUNSPEC_BASE_ADDRESSES = [40_000, 50_000, 0];

const timeoutSchema = z.int().min(10).max(60_000);
const retriesSchema = z.int().min(0).max(10);
const gapSchema = z.int().min(0).max(10_000);

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
    profile: z
      .string()
      .min(1)
      .max(128)
      .optional()
      .meta({
        title: 'Profile',
        description:
          'Type of the device: points and quirks of the file NAME.yaml in `profiles` of the data directory, else of a shipped one (`fieldpost profiles` lists them). Own fields and points go before it.',
        examples: ['eastron-sdm630'],
      }),
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
    sunspec_base_addresses: z.array(z.int().min(0).max(65_533)).min(1).max(8).default(SUNSPEC_BASE_ADDRESSES).meta({
      title: 'SunSpec base addresses',
      description: 'Where the mark of a SunSpec map is looked for, for points with `sunspec_models`.',
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
    ...deviceShapeFields,
    ...simulateFields,
    ...captureFields,
    points: z
      .record(z.string().regex(POINT_NAME_PATTERN, { error: POINT_NAME_RULE }), pointSchema)
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
    ...adapterShapeFields,
    devices: z.record(z.string(), deviceSchema).meta({
      title: 'Devices',
      description: 'The leaf devices of this bus, by device id.',
    }),
  })
  .meta({ title: 'Modbus', description: 'Polls Modbus devices over TCP, TLS, RTU or ASCII.' });

export type ModbusConfig = z.output<typeof modbusConfig>;
export type DeviceConfig = z.output<typeof deviceSchema>;
