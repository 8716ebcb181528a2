// The gateway's own part of the configuration. Modules bring the rest: what stands under `adapters:`, `endpoints:` and
// `upstream:` is the fields of this file that are common to a kind, and the fields of the module that `type` names.

import assert from 'node:assert';
import { z } from 'zod';
import { DEVICE_ID_MAX_CHARS, isDeviceId } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import { listenAddressSchema } from '../core/listen-address.ts';
import type { Apply, ModuleDefinition } from '../core/module.ts';
import type { OutboxSettings } from '../core/outbox.ts';
import { messagesSchema } from '../core/shape-fields.ts';
import { hubSchema } from './hub-schema.ts';
import { endpointCommonSchema } from './endpoint-schema.ts';

// Without this zod compiles schemas with `new Function`: no code is made from data here, and it takes memory.
z.config({ jitless: true });

/** What Fieldpost knows of a field beyond its type; put on a schema with `.meta()`. */
export interface FieldMeta {
  readonly title?: string;
  readonly description?: string;
  /** Of a number: `ms`, `bytes`, … Default: from the suffix of the name. */
  readonly unit?: string;
  readonly apply?: Apply;
  /** Holds a secret: hidden wherever the configuration is shown, and better given by reference. */
  readonly secret?: boolean;
  readonly examples?: readonly unknown[];
}

/** Names of adapters, endpoints and routes (Azure IoT Hub's rule for route and endpoint names). */
const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAME_RULE = 'must be 1 to 64 letters, digits or . _ - and begin with a letter or digit';

const nameSchema = z.string().regex(NAME_PATTERN, { error: NAME_RULE });

/** Names that stand for something already. */
export const RESERVED_ENDPOINTS: readonly string[] = ['$upstream', 'events'];

const endpointNameSchema = nameSchema.refine((name) => !RESERVED_ENDPOINTS.includes(name), {
  error: `must not be one of the reserved names ${RESERVED_ENDPOINTS.join(', ')}`,
});

export const deviceIdSchema = z.string().refine(isDeviceId, {
  error: `must be 1 to ${DEVICE_ID_MAX_CHARS} letters, digits or - . % _ * ? ! ( ) , : = @ $ ' (no space, / + #)`,
});

const portSchema = z.int().min(1).max(65_535);

export const gatewaySchema = z
  .strictObject({
    id: deviceIdSchema.optional().meta({
      title: 'Gateway id',
      description:
        "The gateway's own device id: its identity upstream, and the device of its own events. Default: `fieldpost-` and six hexadecimal digits that are constant for the machine.",
      examples: ['plant-7'],
    }),
  })
  .meta({ title: 'Gateway', description: 'The gateway itself.' });

/** Fields of every adapter; the rest comes from its module. */
export const adapterCommonSchema = z.strictObject({
  type: z.string().meta({ title: 'Type', description: 'Which adapter: the name of its module.' }),
  enabled: z.boolean().default(true).meta({
    title: 'Enabled',
    description: '`false` stops the adapter; its configuration is still checked.',
  }),
  simulate: z.boolean().default(false).meta({
    title: 'Simulate',
    description: 'Simulates all configured devices, but those that replay a capture; nothing is connected for them.',
  }),
});

export const routeSchema = z
  .strictObject({
    name: nameSchema.meta({ title: 'Name', description: 'Unique among the routes.' }),
    source: z
      .enum(['DeviceMessages'])
      .default('DeviceMessages')
      .meta({ title: 'Source', description: 'What the route takes, in the words of Azure IoT Hub.' }),
    condition: z
      .string()
      .max(LIMITS.condition_chars)
      .default('true')
      .meta({
        title: 'Condition',
        description:
          'Takes the messages for which it is true: application properties by name, system properties as `$contentType`, …; `= != < > <= >= AND OR NOT ( )`.',
        examples: ["level = 'alarm'"],
      }),
    endpoint: z.string().meta({
      title: 'Endpoint',
      description: '`$upstream`, or a name under `endpoints`.',
      examples: ['cloud-2', '$upstream'],
    }),
    enabled: z.boolean().default(true).meta({ title: 'Enabled', description: '`false` switches the route off.' }),
  })
  .meta({ title: 'Route' });

export const outboxSchema = z
  .strictObject({
    max_bytes: z
      .int()
      .min(1024 * 1024)
      .default(1_073_741_824)
      .meta({ title: 'Largest size', description: 'Most bytes of messages kept.', unit: 'bytes', apply: 'live' }),
    max_age_secs: z.int().min(0).default(2_592_000).meta({
      title: 'Longest age',
      description: 'Messages older than this are dropped, with an event. 0: no limit.',
      unit: 's',
      apply: 'live',
    }),
    min_free_bytes: z.int().min(0).default(268_435_456).meta({
      title: 'Free space left to others',
      description: 'The outbox takes no more space while the file system has less than this free.',
      unit: 'bytes',
      apply: 'live',
    }),
    when_full: z.enum(['drop_oldest', 'drop_newest', 'reject']).default('drop_oldest').meta({
      title: 'When full',
      description:
        '`drop_oldest`: makes room, with an event that names the range lost. `drop_newest`: counts new messages as lost. `reject`: refuses them and slows the sources down.',
      apply: 'live',
    }),
    commit_interval_ms: z.int().min(0).max(60_000).default(0).meta({
      title: 'Commit interval',
      description: 'Delays every commit, and so every acknowledgement, to spare flash. 0: as soon as the disk is idle.',
      unit: 'ms',
      apply: 'live',
    }),
    poll_commit_interval_ms: z.int().min(0).max(60_000).default(0).meta({
      title: 'Commit interval of polled values',
      description:
        'How long polled values, for which nobody waits, may gather. What is gathered is lost in a power cut.',
      unit: 'ms',
      apply: 'live',
    }),
  })
  .meta({ title: 'Outbox', description: 'The durable buffer between the field and every endpoint.' });

export function outboxSettings(values: z.output<typeof outboxSchema>): OutboxSettings {
  return {
    maxBytes: values.max_bytes,
    maxAgeSecs: values.max_age_secs,
    minFreeBytes: values.min_free_bytes,
    whenFull: values.when_full,
    commitIntervalMs: values.commit_interval_ms,
    pollCommitIntervalMs: values.poll_commit_interval_ms,
  };
}

export const webSchema = z
  .strictObject({
    enabled: z.boolean().default(true).meta({ title: 'Enabled', description: '`false`: no web server.' }),
    port: portSchema
      .default(8080)
      .meta({ title: 'Port', description: 'TCP port of the web page, /health and /metrics.' }),
    address: listenAddressSchema.default('127.0.0.1').meta({
      title: 'Address',
      description: 'Address to listen on. Off loopback every request needs the token of the data directory.',
      examples: ['127.0.0.1', '0.0.0.0', '::'],
    }),
  })
  .meta({ title: 'Web', description: 'The web server.' });

/**
 * The top of the file. The entries of adapters, endpoints and upstream are checked one by one against the schema of
 * their module, so that a fault names the field and not a union.
 */
export const rootSchema = z.strictObject({
  version: z
    .literal(1, { error: 'must be 1, the version that this release reads' })
    .default(1)
    .meta({ title: 'Version', description: 'Version of the grammar of this file.' }),
  gateway: gatewaySchema.prefault({}),
  adapters: z
    .record(nameSchema, z.unknown())
    .refine((entries) => Object.keys(entries).length <= LIMITS.adapters, {
      error: `at most ${LIMITS.adapters} adapters`,
    })
    .default({})
    .meta({ title: 'Adapters', description: 'What speaks to the field, by a name of your choice.' }),
  upstream: z.unknown().optional().meta({
    title: 'Upstream',
    description: 'The one connection that everything goes to. Without it nothing leaves the gateway.',
  }),
  routes: z.array(routeSchema).max(LIMITS.routes).default([]).meta({
    title: 'Routes',
    description:
      'Which messages go where. Without any, everything goes upstream; what no route takes goes upstream too.',
  }),
  endpoints: z
    .record(endpointNameSchema, z.unknown())
    .refine((entries) => Object.keys(entries).length <= LIMITS.endpoints, {
      error: `at most ${LIMITS.endpoints} endpoints`,
    })
    .default({})
    .meta({ title: 'Endpoints', description: 'Further destinations of routes, by a name of your choice.' }),
  messages: messagesSchema.meta({ ...messagesSchema.meta(), apply: 'live' }).prefault({}),
  outbox: outboxSchema.prefault({}),
  hub: hubSchema.prefault({}),
  web: webSchema.prefault({}),
});

export type RootValues = z.output<typeof rootSchema>;

/** Sections whose entries belong to modules. */
export type ModuleSection = 'adapters' | 'upstream' | 'endpoints';

/** The modules of this build, by section and type. */
export class ModuleCatalogue {
  readonly #modules: readonly ModuleDefinition[];

  constructor(modules: readonly ModuleDefinition[]) {
    this.#modules = modules;
    for (const [index, module] of modules.entries()) {
      const twin = modules.find((other, place) => place !== index && other.type === module.type);
      assert(
        twin === undefined || (twin.kind === 'adapter') !== (module.kind === 'adapter'),
        `two modules of type ${module.type}`,
      );
      for (const field of Object.keys(commonSchema(module.kind === 'adapter' ? 'adapters' : 'endpoints').shape)) {
        assert(!(field in module.config.shape), `module ${module.type}: the field ${field} is the gateway's`);
      }
    }
  }

  /** What may stand in a section, by type. */
  allowed(section: ModuleSection): readonly ModuleDefinition[] {
    return this.#modules.filter(({ kind }) => {
      if (section === 'adapters') return kind === 'adapter';
      return kind === 'upstream' || (section === 'endpoints' && kind === 'endpoint');
    });
  }

  find(section: ModuleSection, type: string): ModuleDefinition | undefined {
    return this.allowed(section).find((module) => module.type === type);
  }
}

/** The fields that every entry of a section has. */
export function commonSchema(section: ModuleSection): typeof adapterCommonSchema | typeof endpointCommonSchema {
  return section === 'adapters' ? adapterCommonSchema : endpointCommonSchema;
}
