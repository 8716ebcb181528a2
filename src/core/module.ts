// What a module is: a value, not a side effect. Its zod schema gives types, messages, JSON Schema and the form in the UI.
// `create` does no I/O; heavy protocol libraries are loaded by `load`, so that an unused protocol costs no memory.

import type { z } from 'zod';
import type { Adapter, AdapterContext } from './adapter.ts';
import type { Endpoint, EndpointContext, UpstreamTransport } from './endpoint.ts';
import type { HeadContext, ProtocolHead } from './hub/head.ts';
import type { ScanDefinition } from './scan.ts';

/** What the check of an adapter may know of the rest of the configuration. */
export interface SiteFacts {
  /** The gateway's own device, in whose name nobody else may speak; as it is configured, well or not. */
  readonly gatewayId: string;
}

export interface AdapterDefinition<Schema extends z.ZodObject = z.ZodObject> {
  readonly kind: 'adapter';
  readonly type: string;
  /** Strict object without `type`, which the gateway adds. Must have `devices`, a record of device ids, where it has any. */
  readonly config: Schema;
  /** Faults that a schema cannot express (two points of one name, …): path below the adapter and sentence. */
  readonly check?: (config: z.output<Schema>, site: SiteFacts) => readonly ConfigFault[];
  /** What it has for itself while it runs, and no other part may have: a serial port, a TCP port. Takes settings without a fault. */
  readonly claims?: (config: z.output<Schema>, places: ClaimPlaces) => readonly Claim[];
  /** What it takes in from MQTT brokers and hands on. */
  readonly hears?: (config: z.output<Schema>) => readonly HeardTopics[];
  /** Whether it has work besides the devices that are configured: it runs then although all of those are simulated. */
  readonly servesOthers?: (config: z.output<Schema>) => boolean;
  readonly load: () => Promise<(config: z.output<Schema>, context: AdapterContext) => Adapter>;
  /** Profiles of types of devices, taken into a device by its field `profile`. */
  readonly profiles?: {
    /** Where the shipped ones are, as `NAME.yaml`. */
    readonly folder: string;
    /** Of a file: `device` with fields of a device, `points`, and what else the module wants to know. */
    readonly schema: z.ZodObject;
    /** Faults that the schema cannot express, in values that it took. */
    readonly check?: (values: unknown) => readonly ConfigFault[];
  };
  /** How to search for devices that this adapter could serve. */
  readonly scan?: ScanDefinition;
}

export interface EndpointDefinition<Schema extends z.ZodObject = z.ZodObject> {
  readonly kind: 'endpoint';
  readonly type: string;
  readonly config: Schema;
  readonly check?: (config: z.output<Schema>) => readonly ConfigFault[];
  readonly load: () => Promise<(config: z.output<Schema>, context: EndpointContext) => Endpoint>;
}

/** May stand under `upstream:`, and under `endpoints:` for its sending half. */
export interface UpstreamDefinition<Schema extends z.ZodObject = z.ZodObject> {
  readonly kind: 'upstream';
  readonly type: string;
  readonly config: Schema;
  readonly check?: (config: z.output<Schema>) => readonly ConfigFault[];
  /** As those of an adapter. */
  readonly claims?: (config: z.output<Schema>, places: ClaimPlaces) => readonly Claim[];
  /** Where it publishes messages, when that is an MQTT broker. */
  readonly publishes?: (config: z.output<Schema>) => PublishedTopic;
  readonly load: () => Promise<(config: z.output<Schema>, context: EndpointContext) => UpstreamTransport>;
}

/** A listener of the local hub. Its settings stand under `hub:`, which is the gateway's own. */
export interface HeadDefinition {
  readonly kind: 'head';
  readonly type: 'mqtt' | 'amqp' | 'https';
  readonly load: () => Promise<(context: HeadContext) => ProtocolHead>;
}

export type ModuleDefinition = AdapterDefinition | EndpointDefinition | UpstreamDefinition;

/** One fault at a path of the configuration: what is wrong, what is allowed. */
export interface ConfigFault {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Where what a claim names is looked for. */
export interface ClaimPlaces {
  /** Undefined: not known, as in a test of a text. */
  readonly dataDirectory: string | undefined;
}

/** One thing that one part of the configuration alone can have. */
export interface Claim {
  /** Where it stands, below the adapter or other part. */
  readonly path: ConfigFault['path'];
  /** The same for the same thing, whatever the module. */
  readonly key: string;
  /** Of a TCP port: on which address. Others may have the port on other addresses. */
  readonly address?: string;
  /** What to tell when `owner`, such as `adapters.meters`, has it. */
  readonly message: (owner: string) => string;
}

/** An MQTT broker, by the host and port of a URL, or those that it listens on. */
export interface BrokerPlace {
  readonly host: string;
  readonly port: number;
}

export interface HeardTopics extends BrokerPlace {
  /** Where it stands, below the adapter. */
  readonly path: ConfigFault['path'];
  /** Whether what is published on the topic becomes messages of a device. */
  takes(topic: string): boolean;
}

export interface PublishedTopic extends BrokerPlace {
  /** May hold {gateway_id} and {device_id}. */
  readonly template: string;
}

/** How a change of a field takes effect; put on a schema with `.meta({ apply: 'live' })`. Default: restarts its part. */
export type Apply = 'live' | 'restart_part';
