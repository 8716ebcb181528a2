// JSON Schema of the whole configuration, for editors, the UI's forms and `fieldpost schema`.

import { z } from 'zod';
import type { ModuleDefinition } from '../core/module.ts';
import { commonSchema, ModuleCatalogue, type ModuleSection, rootSchema } from './schema.ts';
import { SECRET_TAGS } from './secrets.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

const SECRET_NOTE = `A text may be given by reference instead: ${SECRET_TAGS.map((tag) => `${tag} …`).join(', ')}. Editors need these tags among their custom tags.`;

/** What `fieldpost schema` prints. */
export function renderJsonSchema(modules: readonly ModuleDefinition[]): JsonSchema {
  return configJsonSchema(new ModuleCatalogue(modules));
}

/** JSON Schema 2020-12 of what may stand in the file. Own keywords: `x-unit`, `x-apply` (`live`), `x-secret`. */
export function configJsonSchema(catalogue: ModuleCatalogue): JsonSchema {
  const definitions: Record<string, unknown> = {};
  const root = toJson(rootSchema, definitions);
  const properties = root['properties'] as Record<string, Record<string, unknown>>;
  for (const section of ['adapters', 'endpoints'] as const) {
    properties[section] = { ...properties[section], additionalProperties: entryJson(section, catalogue, definitions) };
  }
  properties['upstream'] = { ...properties['upstream'], ...entryJson('upstream', catalogue, definitions) };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of Fieldpost',
    $comment: SECRET_NOTE,
    ...root,
    properties,
    ...(Object.keys(definitions).length === 0 ? {} : { $defs: definitions }),
  };
}

/** One branch for each module that may stand there, told apart by `type`. */
function entryJson(
  section: ModuleSection,
  catalogue: ModuleCatalogue,
  definitions: Record<string, unknown>,
): JsonSchema {
  const modules = catalogue.allowed(section);
  return modules.length === 0
    ? { not: {} }
    : { oneOf: modules.map((module) => moduleJson(section, module, definitions)) };
}

function moduleJson(
  section: ModuleSection,
  module: ModuleDefinition,
  definitions: Record<string, unknown>,
): JsonSchema {
  const common = toJson(commonSchema(section), definitions);
  const own =
    module.kind === 'adapter' && module.profiles !== undefined
      ? withProfiles(toJson(module.config, definitions))
      : toJson(module.config, definitions);
  const { type, ...rest } = common['properties'] as Record<string, Record<string, unknown>>;
  return {
    ...own,
    properties: { type: { ...type, const: module.type }, ...rest, ...(own['properties'] as object | undefined) },
    required: ['type', ...((own['required'] as string[] | undefined) ?? [])],
    additionalProperties: false,
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** A schema of a map, by the schema of its entries. */
interface MapSchema extends Fields {
  readonly additionalProperties: Fields;
}

/** What a device and its points have to say may come from a profile: with `profile` nothing is required of them. */
function withProfiles(own: Record<string, unknown>): Record<string, unknown> {
  const adapter = own['properties'] as Fields & { devices: MapSchema };
  const { required, properties, ...device } = adapter.devices.additionalProperties;
  const fields = properties as Fields & { points: MapSchema };
  const { required: ofPoints, ...point } = fields.points.additionalProperties;
  const complete = requiring(required, { points: { additionalProperties: requiring(ofPoints) } });
  const relaxed = {
    ...device,
    properties: { ...fields, points: { ...fields.points, additionalProperties: point } },
    anyOf: [requiring(['profile']), complete],
  };
  return { ...own, properties: { ...adapter, devices: { ...adapter.devices, additionalProperties: relaxed } } };
}

/** Names each required field as a property too: strict validators want them side by side. */
function requiring(names: unknown, properties: Fields = {}): Fields {
  const required = names as readonly string[];
  return { required, properties: { ...Object.fromEntries(required.map((name) => [name, {}])), ...properties } };
}

function toJson(schema: z.ZodType, definitions: Record<string, unknown>): Record<string, unknown> {
  const json = z.toJSONSchema(schema, {
    // What a person writes: fields with a default may be left out.
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      const fields = jsonSchema as Record<string, unknown>;
      for (const name of ['unit', 'apply', 'secret']) {
        if (!(name in fields)) continue;
        fields[`x-${name}`] = fields[name];
        delete fields[name];
      }
    },
  }) as Record<string, unknown>;
  const { $schema: _, $defs, ...rest } = json;
  Object.assign(definitions, $defs);
  return rest;
}
