// The section `hub:`: listeners, rights and limits of the local hub. Identities, keys and twins are data and not here.

import { z } from 'zod';
import type { Permission } from '../core/hub/access.ts';
import { listenAddressSchema } from '../core/listen-address.ts';
import { LIMITS } from '../core/limits.ts';
import { PEM_PATTERN, PEM_RULE } from '../core/pem.ts';
import { authoritiesFault, certificatesIn, pairFault } from '../platform/certificates.ts';

const hostNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/, { error: 'must be the name of a host' });

const portSchema = z.int().min(1).max(65_535);

const HOUR_SECS = 3600;
/** Azure IoT Hub keeps a cloud-to-device message for two days at most. */
const TWO_DAYS_SECS = 48 * HOUR_SECS;

const eventsSchema = z
  .strictObject({
    partitions: z.int().min(1).max(32).default(4).meta({
      title: 'Partitions',
      description:
        'Among which devices are spread by a hash of their id. Fixed once the hub has stored its first event.',
    }),
    retention_hours: z
      .int()
      .min(1)
      .max(168)
      .default(24)
      .meta({ title: 'Retention', description: 'How long events can be read.', unit: 'h' }),
    max_bytes: z
      .int()
      .min(1024 * 1024)
      .default(536_870_912)
      .meta({
        title: 'Largest size',
        description: 'Most bytes of events that are kept; the oldest go before their time when there are more.',
        unit: 'bytes',
      }),
    consumer_groups: z
      .array(z.string().regex(/^[A-Za-z0-9._-]{1,50}$/, { error: 'must be 1 to 50 letters, digits or . _ -' }))
      .max(19)
      .default([])
      .meta({
        title: 'Consumer groups',
        description: 'Besides `$Default`, which is always there.',
        examples: [['analytics']],
      }),
  })
  .meta({ title: 'Built-in events endpoint', description: 'What back ends read with clients of Event Hubs.' });

const PERMISSIONS = [
  'RegistryRead',
  'RegistryWrite',
  'ServiceConnect',
  'DeviceConnect',
] as const satisfies readonly Permission[];

const KEY_PATTERN = /^(?:[A-Za-z0-9+/]{4}){5,21}(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$/;
const keySchema = z.string().regex(KEY_PATTERN, { error: 'must be the base64 of 16 to 64 bytes' });

const policySchema = z
  .strictObject({
    rights: z.array(z.enum(PERMISSIONS)).min(1).meta({
      title: 'Rights',
      description: 'RegistryRead, RegistryWrite: identities. ServiceConnect: back ends. DeviceConnect: any device.',
    }),
    primary_key: keySchema.optional().meta({
      title: 'Primary key',
      description: 'Without it one is drawn and kept sealed as data.',
      secret: true,
    }),
    secondary_key: keySchema
      .optional()
      .meta({ title: 'Secondary key', description: 'As the primary key.', secret: true }),
  })
  .meta({ title: 'Policy' });

const certificateSchema = z
  .strictObject({
    certificate: z.string().regex(PEM_PATTERN, { error: PEM_RULE, abort: true }).meta({
      title: 'Certificate',
      description: 'PEM, with the chain that clients need.',
    }),
    key: z
      .string()
      .regex(PEM_PATTERN, { error: PEM_RULE, abort: true })
      .meta({ title: 'Private key', description: 'PEM.', secret: true }),
  })
  .check(({ value, issues }) => {
    const fault = pairFault(value.certificate, value.key);
    if (fault !== undefined) issues.push({ code: 'custom', path: ['certificate'], message: fault, input: undefined });
  })
  .meta({ title: 'Certificate' });

const authoritiesSchema = z
  .array(
    z
      .string()
      .regex(PEM_PATTERN, { error: PEM_RULE, abort: true })
      .check(({ value, issues }) => {
        const fault = authoritiesFault(value);
        if (fault !== undefined) issues.push({ code: 'custom', message: fault, input: undefined });
      }),
  )
  .refine((pems) => pems.flatMap((pem) => certificatesIn(pem)).length <= LIMITS.hub_authorities, {
    error: `at most ${LIMITS.hub_authorities} authorities`,
  });

const commandsSchema = z
  .strictObject({
    default_ttl_secs: z.int().min(60).max(TWO_DAYS_SECS).default(HOUR_SECS).meta({
      title: 'Time to live',
      description: 'Of a cloud-to-device message that names none.',
      unit: 's',
    }),
    max_delivery_count: z.int().min(1).max(100).default(10).meta({
      title: 'Deliveries',
      description: 'After so many attempts a message is given up.',
    }),
    feedback_ttl_secs: z.int().min(60).max(TWO_DAYS_SECS).default(HOUR_SECS).meta({
      title: 'Time to live of feedback',
      description: 'How long a record waits for a back end.',
      unit: 's',
    }),
    feedback_lock_secs: z.int().min(5).max(300).default(60).meta({
      title: 'Lock of feedback',
      description: 'How long a back end may take to settle a batch.',
      unit: 's',
    }),
    feedback_max_delivery_count: z.int().min(1).max(100).default(10).meta({
      title: 'Deliveries of feedback',
      description: 'After so many attempts a batch is given up.',
    }),
  })
  .meta({ title: 'Cloud-to-device messages', description: 'As Azure IoT Hub has them under `cloudToDevice`.' });

const nameSchema = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, { error: 'must be 1 to 64 letters, digits or . _ -' });

export const hubSchema = z
  .strictObject({
    enabled: z.boolean().default(false).meta({ title: 'Enabled', description: '`true`: the gateway is a hub itself.' }),
    address: listenAddressSchema.default('127.0.0.1').meta({
      title: 'Address',
      description: 'Address to listen on. Off loopback devices and back ends elsewhere can reach the hub.',
      examples: ['127.0.0.1', '0.0.0.0', '::'],
    }),
    host_name: hostNameSchema.default('localhost').meta({
      title: 'Host name',
      description:
        'Name that devices and back ends use for the hub: it stands in connection strings and certificates, and must lead to this machine.',
      examples: ['plant-7.local'],
    }),
    accepted_host_names: z
      .array(hostNameSchema)
      .max(16)
      .default([])
      .meta({
        title: 'Accepted host names',
        description:
          'Further names that tokens of devices may be made for, as those of devices that reach this hub by `GatewayHostName`. That of the hub under `upstream` is always accepted.',
        examples: [['plant.azure-devices.net']],
      }),
    mqtts_port: portSchema.default(8883).meta({
      title: 'MQTT port',
      description: 'MQTT over TLS. The SDKs know no other than 8883.',
    }),
    amqps_port: portSchema.default(5671).meta({
      title: 'AMQP port',
      description:
        'AMQP over TLS, devices, back ends and readers of events. The SDKs of IoT Hub know no other than 5671.',
    }),
    https_port: portSchema.default(443).meta({
      title: 'HTTPS port',
      description: 'HTTPS and WebSockets. The SDKs know no other than 443.',
    }),
    amqp_port: portSchema.optional().meta({
      title: 'Plain AMQP port',
      description:
        'AMQP without TLS, on loopback only, for clients of Event Hubs with `UseDevelopmentEmulator=true`. Default: none.',
      examples: [5672],
    }),
    events: eventsSchema.prefault({}),
    policies: z
      .record(nameSchema, policySchema)
      .refine((policies) => Object.keys(policies).length <= 16, { error: 'at most 16 policies' })
      .default({})
      .meta({
        title: 'Shared access policies',
        description:
          'Rights by name. The five of Azure IoT Hub (iothubowner, service, device, registryRead, registryReadWrite) are always there; one that stands here takes the place of the one of that name. A change ends the sessions that used what it took away, and no others.',
        apply: 'live',
      }),
    authorities: authoritiesSchema.default([]).meta({
      title: 'Authorities of devices',
      description:
        'Certificates (PEM, usually by `!file PATH`) of those who sign the certificates of devices that authenticate by `certificateAuthority`. The sessions by one that is taken away end, and no others.',
      apply: 'live',
    }),
    auto_register: z.boolean().default(true).meta({
      title: 'Register devices',
      description:
        "Makes an identity of each of the gateway's own devices when it is first seen. Without it what they send does not reach the hub's events until somebody makes one.",
    }),
    fault_injection: z.boolean().default(false).meta({
      title: 'Fault injection',
      description:
        'Obeys the properties `AzIoTHub_FaultOperationType`, by which tests cut their own connections. Never on a site.',
    }),
    max_handshakes_per_sec: z.int().min(1).max(10_000).default(100).meta({
      title: 'Connections a second',
      description:
        'New connections let in, over all ports, before anything else is done for them. Others wait; addresses that wait take turns.',
    }),
    certificates: z.array(certificateSchema).min(1).max(4).optional().meta({
      title: 'Certificates',
      description:
        'Own server certificates, one for each kind of key. Default: made here under an authority of the gateway (`pki/ca.pem`). New ones are for new connections; those that are open stay.',
      apply: 'live',
    }),
    commands: commandsSchema.prefault({}),
  })
  .meta({ title: 'Local hub', description: 'Azure IoT Hub on the gateway itself.' });

/** The local hub as it is configured; the first of several, later. */
export interface HubConfig {
  readonly hubId: string;
  readonly address: string;
  readonly hostName: string;
  /** Further names that tokens may be made for. */
  readonly acceptedHostNames: readonly string[];
  readonly ports: { readonly mqtts: number; readonly amqps: number; readonly https: number; readonly amqp?: number };
  readonly events: {
    readonly partitions: number;
    readonly retentionSecs: number;
    readonly maxBytes: number;
    /** `$Default` first. */
    readonly consumerGroups: readonly string[];
  };
  /** As configured, without the five that are always there. */
  readonly policies: readonly {
    readonly name: string;
    readonly permissions: readonly Permission[];
    readonly primaryKey?: string | undefined;
    readonly secondaryKey?: string | undefined;
  }[];
  /** PEM, one or more in each text. */
  readonly authorities: readonly string[];
  readonly autoRegister: boolean;
  readonly faultInjection: boolean;
  readonly maxHandshakesPerSec: number;
  /** PEM; absent: made here. */
  readonly certificates?: readonly { readonly certificate: string; readonly key: string }[];
  readonly commands: { readonly defaultTtlMs: number; readonly maxDeliveryCount: number };
  readonly feedback: { readonly ttlMs: number; readonly lockMs: number; readonly maxDeliveryCount: number };
}

/** Id of the default hub, under which its data is kept. */
const DEFAULT_HUB_ID = 'hub';

/** Undefined when it is off. */
export function hubConfig(values: z.output<typeof hubSchema>): HubConfig | undefined {
  if (!values.enabled) return undefined;
  const { mqtts_port: mqtts, amqps_port: amqps, https_port: https, amqp_port: amqp, events, commands } = values;
  return {
    hubId: DEFAULT_HUB_ID,
    address: values.address,
    hostName: values.host_name,
    acceptedHostNames: values.accepted_host_names,
    ports: { mqtts, amqps, https, ...(amqp === undefined ? {} : { amqp }) },
    events: {
      partitions: events.partitions,
      retentionSecs: events.retention_hours * HOUR_SECS,
      maxBytes: events.max_bytes,
      consumerGroups: ['$Default', ...events.consumer_groups],
    },
    policies: Object.entries(values.policies).map(([name, policy]) => ({
      name,
      permissions: policy.rights,
      primaryKey: policy.primary_key,
      secondaryKey: policy.secondary_key,
    })),
    authorities: values.authorities,
    autoRegister: values.auto_register,
    faultInjection: values.fault_injection,
    maxHandshakesPerSec: values.max_handshakes_per_sec,
    ...(values.certificates === undefined ? {} : { certificates: values.certificates }),
    commands: { defaultTtlMs: commands.default_ttl_secs * 1000, maxDeliveryCount: commands.max_delivery_count },
    feedback: {
      ttlMs: commands.feedback_ttl_secs * 1000,
      lockMs: commands.feedback_lock_secs * 1000,
      maxDeliveryCount: commands.feedback_max_delivery_count,
    },
  };
}
