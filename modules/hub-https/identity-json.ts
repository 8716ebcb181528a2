// Identities as JSON of the service (contract/service-03-registry.md, sections 2 and 4). Unknown fields are left alone: clients
// send back whole documents that they once got.

import { z } from 'zod';
import {
  iotHubError,
  type Authentication,
  type AuthenticationInput,
  type BulkEntry,
  type BulkMode,
  type DeviceIdentity,
  type DeviceIdentityInput,
  type ModuleIdentity,
  type ModuleIdentityInput,
} from '#sdk';

/** One of some words, in any case. */
function word<const Word extends string>(...words: readonly Word[]) {
  return z.string().transform((text, context): Word => {
    const found = words.find((one) => one.toLowerCase() === text.toLowerCase());
    if (found !== undefined) return found;
    context.addIssue({ code: 'custom', message: `must be one of ${words.join(', ')}` });
    return z.NEVER;
  });
}

const text = z.string({ error: 'must be a text' });

const authenticationSchema = z.object({
  type: word('sas', 'selfSigned', 'certificateAuthority', 'none').nullish(),
  symmetricKey: z.object({ primaryKey: text.nullish(), secondaryKey: text.nullish() }).nullish(),
  x509Thumbprint: z.object({ primaryThumbprint: text.nullish(), secondaryThumbprint: text.nullish() }).nullish(),
});

const deviceFields = {
  status: word('enabled', 'disabled').nullish(),
  statusReason: text.nullish(),
  authentication: authenticationSchema.nullish(),
  capabilities: z.object({ iotEdge: z.boolean().nullish() }).nullish(),
  deviceScope: text.nullish(),
  parentScopes: z.array(text).nullish(),
};

const fields = { error: 'must be an object' };
const deviceSchema = z.object({ deviceId: text.nullish(), ...deviceFields }, fields);
const moduleSchema = z.object(
  {
    deviceId: text.nullish(),
    moduleId: text.nullish(),
    managedBy: text.nullish(),
    authentication: authenticationSchema.nullish(),
  },
  fields,
);
const bulkSchema = z.array(
  z.object({
    id: text,
    moduleId: text.nullish(),
    eTag: text.nullish(),
    // The SDK for Node passes on what the registry gave.
    etag: text.nullish(),
    importMode: word(
      'create',
      'update',
      'updateIfMatchETag',
      'delete',
      'deleteIfMatchETag',
      'updateTwin',
      'updateTwinIfMatchETag',
    ).nullish(),
    twinETag: text.nullish(),
    tags: z.unknown().optional(),
    properties: z.object({ desired: z.unknown().optional() }).nullish(),
    ...deviceFields,
  }),
  { error: 'must be a list of devices' },
);

export const IDENTITY_SCHEMAS = { device: deviceSchema, module: moduleSchema, bulk: bulkSchema } as const;

/** The body's id must be the path's, where it has one. @throws GatewayError GW_IOTHUB ArgumentInvalid. */
function checkSameId(what: string, inBody: string | null | undefined, inPath: string): void {
  if (inBody === undefined || inBody === null || inBody === inPath) return;
  throw iotHubError('ArgumentInvalid', `The ${what} of the body is not the one of the address.`);
}

export function deviceInput(deviceId: string, values: z.output<typeof deviceSchema>): DeviceIdentityInput {
  checkSameId('deviceId', values.deviceId, deviceId);
  return deviceFieldsOf(deviceId, values);
}

export function moduleInput(
  { deviceId, moduleId }: { readonly deviceId: string; readonly moduleId: string },
  values: z.output<typeof moduleSchema>,
): ModuleIdentityInput {
  checkSameId('deviceId', values.deviceId, deviceId);
  checkSameId('moduleId', values.moduleId, moduleId);
  return {
    deviceId,
    moduleId,
    ...authenticationInput(values.authentication),
    ...(values.managedBy !== undefined && { managedBy: values.managedBy }),
  };
}

export function bulkEntries(values: z.output<typeof bulkSchema>): readonly BulkEntry[] {
  return values.map((entry) => {
    const { id, moduleId, etag, eTag = etag, twinETag, tags, properties } = entry;
    // The service's own default would also overwrite; those who mean that say so.
    const mode: BulkMode = entry.importMode ?? 'create';
    return {
      mode,
      device: deviceFieldsOf(id, entry),
      ...defined({ moduleId, etag: unquoted(eTag), twinEtag: unquoted(twinETag), tags, desired: properties?.desired }),
    };
  });
}

interface DeviceFields {
  readonly status?: 'enabled' | 'disabled' | null | undefined;
  readonly statusReason?: string | null | undefined;
  readonly authentication?: z.output<typeof authenticationSchema> | null | undefined;
  readonly capabilities?: { readonly iotEdge?: boolean | null | undefined } | null | undefined;
  readonly deviceScope?: string | null | undefined;
  readonly parentScopes?: readonly string[] | null | undefined;
}

function deviceFieldsOf(deviceId: string, values: DeviceFields): DeviceIdentityInput {
  const { status, statusReason, authentication, capabilities, deviceScope, parentScopes } = values;
  return {
    deviceId,
    ...defined({ status, parentScopes }),
    // `null` takes a parent or a reason away.
    ...(deviceScope !== undefined && { deviceScope: deviceScope ?? '' }),
    ...(statusReason !== undefined && { statusReason }),
    ...authenticationInput(authentication),
    ...(typeof capabilities?.iotEdge === 'boolean' && { capabilities: { iotEdge: capabilities.iotEdge } }),
  };
}

function authenticationInput(values: DeviceFields['authentication']): {
  readonly authentication?: AuthenticationInput;
} {
  if (values === undefined || values === null) return {};
  const { type, symmetricKey, x509Thumbprint } = values;
  return {
    authentication: {
      ...defined({ type }),
      ...(symmetricKey && { symmetricKey: defined(symmetricKey) }),
      ...(x509Thumbprint && {
        x509Thumbprint: {
          primaryThumbprint: x509Thumbprint.primaryThumbprint ?? null,
          secondaryThumbprint: x509Thumbprint.secondaryThumbprint ?? null,
        },
      }),
    },
  };
}

/** Leaves out what is undefined or `null`. */
function defined<Fields extends object>(given: Fields): { [Name in keyof Fields]?: NonNullable<Fields[Name]> } {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(entries) as { [Name in keyof Fields]?: NonNullable<Fields[Name]> };
}

function unquoted(etag: string | null | undefined): string | undefined {
  return etag?.replace(/^(?:W\/)?"?(.*?)"?$/s, '$1');
}

export function deviceJson(identity: DeviceIdentity): object {
  // JSON has no `undefined`: that the gateway made it is nothing that the service knows.
  return { ...identity, isGatewayDevice: undefined, authentication: authenticationJson(identity.authentication) };
}

export function moduleJson(identity: ModuleIdentity): object {
  return { ...identity, authentication: authenticationJson(identity.authentication) };
}

/**
 * JSON of lists, as bytes. A page of a thousand would take three milliseconds in one go: what was made of an identity serves
 * again while the registry shows that object. Bytes, as a text of that length would be made twice before it is sent.
 * @param json what an identity becomes.
 */
export function createListJson<Identity extends object>(
  json: (identity: Identity) => object,
): (identities: readonly Identity[]) => Buffer {
  const encoder = new TextEncoder();
  const made = new WeakMap<Identity, Uint8Array>();
  /** With a comma in front. */
  const bytesOf = (identity: Identity): Uint8Array => {
    const known = made.get(identity);
    if (known !== undefined) return known;
    const bytes = encoder.encode(`,${JSON.stringify(json(identity))}`);
    made.set(identity, bytes);
    return bytes;
  };
  return (identities) => {
    if (identities.length === 0) return Buffer.from('[]');
    const list = Buffer.concat([...identities.map(bytesOf), END_OF_LIST]);
    list.write('[');
    return list;
  };
}

const END_OF_LIST = Buffer.from(']');

/** All three parts are there whatever the type. */
function authenticationJson(authentication: Authentication): object {
  return {
    symmetricKey:
      authentication.type === 'sas' ? authentication.symmetricKey : { primaryKey: null, secondaryKey: null },
    x509Thumbprint:
      authentication.type === 'selfSigned'
        ? authentication.x509Thumbprint
        : { primaryThumbprint: null, secondaryThumbprint: null },
    type: authentication.type,
  };
}
