// Connection strings: what a person copies into an SDK (contract/device-auth.md, section 3; contract/service-01-auth.md,
// section 4; contract/service-07-eventhubs-servicebus.md, section 1).

import { GatewayError } from '../core/errors.ts';

export interface DeviceConnectionString {
  readonly kind: 'device';
  readonly hostName: string;
  readonly deviceId: string;
  readonly moduleId?: string;
  /** Exactly one of the three proves the device. */
  readonly sharedAccessKey?: string;
  readonly sharedAccessSignature?: string;
  readonly x509?: true;
  /** Whom to dial instead of `hostName`. */
  readonly gatewayHostName?: string;
}

export interface PolicyConnectionString {
  readonly kind: 'policy';
  readonly hostName: string;
  readonly sharedAccessKeyName: string;
  readonly sharedAccessKey: string;
}

/** Of clients of Event Hubs. */
export interface EventsConnectionString {
  readonly kind: 'events';
  /** With a port where it is not the protocol's own: `hub.local:5671`. */
  readonly host: string;
  readonly sharedAccessKeyName: string;
  readonly sharedAccessKey: string;
  /** Name of the event hub. */
  readonly entityPath: string;
  /** Without TLS. */
  readonly isPlaintext?: true;
}

export type ConnectionString = DeviceConnectionString | PolicyConnectionString | EventsConnectionString;

/** @throws GatewayError GW_CONFIG_INVALID; its text has names of fields, never values. */
export function parseConnectionString(text: string): ConnectionString {
  const fields = fieldsOf(text);
  if (fields.has('endpoint')) return parseEvents(fields);
  if (fields.has('deviceid')) return parseDevice(fields);
  return {
    kind: 'policy',
    hostName: demand(fields, 'HostName'),
    sharedAccessKeyName: demand(fields, 'SharedAccessKeyName'),
    sharedAccessKey: demand(fields, 'SharedAccessKey'),
  };
}

/** The text that SDKs take. */
export function writeConnectionString(fields: ConnectionString): string {
  switch (fields.kind) {
    case 'device':
      return join([
        ['HostName', fields.hostName],
        ['DeviceId', fields.deviceId],
        ['ModuleId', fields.moduleId],
        ['SharedAccessKey', fields.sharedAccessKey],
        ['SharedAccessSignature', fields.sharedAccessSignature],
        ['x509', fields.x509 === undefined ? undefined : 'true'],
        ['GatewayHostName', fields.gatewayHostName],
      ]);
    case 'policy':
      return join([
        ['HostName', fields.hostName],
        ['SharedAccessKeyName', fields.sharedAccessKeyName],
        ['SharedAccessKey', fields.sharedAccessKey],
      ]);
    case 'events':
      return join([
        ['Endpoint', `sb://${fields.host}/`],
        ['SharedAccessKeyName', fields.sharedAccessKeyName],
        ['SharedAccessKey', fields.sharedAccessKey],
        ['EntityPath', fields.entityPath],
        ['UseDevelopmentEmulator', fields.isPlaintext === undefined ? undefined : 'true'],
      ]);
    default:
      return fields satisfies never;
  }
}

function join(fields: readonly (readonly [string, string | undefined])[]): string {
  return fields.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])).join(';');
}

type Fields = ReadonlyMap<string, string>;

/** Names are read in any case; a value may hold `=`, as keys end with it. */
function fieldsOf(text: string): Fields {
  const fields = new Map<string, string>();
  for (const part of text.trim().split(';')) {
    if (part.trim() === '') continue;
    const equals = part.indexOf('=');
    if (equals < 1) throw invalid('has a part that is not NAME=VALUE');
    const name = part.slice(0, equals).trim();
    if (fields.has(name.toLowerCase())) throw invalid(`has ${name} twice`);
    fields.set(name.toLowerCase(), part.slice(equals + 1).trim());
  }
  return fields;
}

function parseDevice(fields: Fields): DeviceConnectionString {
  const sharedAccessKey = optional(fields, 'SharedAccessKey');
  const sharedAccessSignature = optional(fields, 'SharedAccessSignature');
  const isX509 = [fields.get('x509'), fields.get('x509cert')].some((value) => value?.toLowerCase() === 'true');
  const proofs = [sharedAccessKey, sharedAccessSignature, isX509 || undefined].filter((proof) => proof !== undefined);
  if (proofs.length !== 1) {
    throw invalid('needs exactly one of SharedAccessKey, SharedAccessSignature and x509=true');
  }
  const moduleId = optional(fields, 'ModuleId');
  const gatewayHostName = optional(fields, 'GatewayHostName');
  return {
    kind: 'device',
    hostName: demand(fields, 'HostName'),
    deviceId: demand(fields, 'DeviceId'),
    ...(moduleId === undefined ? {} : { moduleId }),
    ...(sharedAccessKey === undefined ? {} : { sharedAccessKey }),
    ...(sharedAccessSignature === undefined ? {} : { sharedAccessSignature }),
    ...(isX509 ? { x509: true } : {}),
    ...(gatewayHostName === undefined ? {} : { gatewayHostName }),
  };
}

function parseEvents(fields: Fields): EventsConnectionString {
  const [, host] = /^sb:\/\/([^/]+)\/?$/i.exec(demand(fields, 'Endpoint')) ?? [];
  if (host === undefined) throw invalid('has an Endpoint that is not sb://HOST/');
  return {
    kind: 'events',
    host,
    sharedAccessKeyName: demand(fields, 'SharedAccessKeyName'),
    sharedAccessKey: demand(fields, 'SharedAccessKey'),
    entityPath: demand(fields, 'EntityPath'),
    ...(fields.get('usedevelopmentemulator')?.toLowerCase() === 'true' ? { isPlaintext: true } : {}),
  };
}

function optional(fields: Fields, name: string): string | undefined {
  const value = fields.get(name.toLowerCase());
  return value === '' ? undefined : value;
}

function demand(fields: Fields, name: string): string {
  const value = optional(fields, name);
  if (value === undefined) throw invalid(`has no ${name}`);
  return value;
}

function invalid(why: string): GatewayError {
  return new GatewayError('GW_CONFIG_INVALID', `The connection string ${why}. Copy it again as a whole.`);
}
