// The reference of the configuration in Markdown, generated from the schemas, so that it cannot differ from them.

import type { ModuleDefinition } from '../core/module.ts';
import { type JsonSchema, renderJsonSchema } from './json-schema.ts';

interface Row {
  readonly field: string;
  readonly type: string;
  readonly defaultText: string;
  readonly apply: string;
  readonly meaning: string;
}

const SECTIONS = [
  'gateway',
  'adapters',
  'upstream',
  'routes',
  'endpoints',
  'messages',
  'outbox',
  'hub',
  'web',
] as const;

const INTRODUCTION = `Secrets are given by reference: \`!env NAME\` (environment variable), \`!file PATH\` (relative to the configuration file),
\`!credential NAME\` (systemd credential). Where one cannot be read when the gateway starts again, the adapter or endpoint that needs
it waits for it, shown as failed, and the rest runs; a text that never ran is refused. Numbers carry their unit in the name: \`_ms\`,
\`_secs\`, \`_bytes\`. \`<name>\` stands for a name of your choice, \`[]\` for an entry of a list. *Change*: \`live\` takes effect at
once, \`restart\` restarts the part.

| Field | Type | Default | Meaning |
|---|---|---|---|
| \`version\` | \`1\` | \`1\` | Version of the grammar of this file. |
`;

/** Without a title. The same modules give the same text. */
export function renderReference(modules: readonly ModuleDefinition[]): string {
  const root = renderJsonSchema(modules);
  const properties = root['properties'] as Record<string, JsonSchema>;
  const parts = SECTIONS.map((section) => renderSection(section, properties[section] ?? {}));
  return [INTRODUCTION, ...parts].join('\n');
}

function renderSection(section: string, schema: JsonSchema): string {
  const description = text(schema['description']);
  const head = `## \`${section}\`\n\n${description === '' ? '' : `${description}\n\n`}`;
  const entries = (schema['additionalProperties'] ?? schema) as JsonSchema;
  const modules = entries['oneOf'] as readonly JsonSchema[] | undefined;
  if (modules === undefined) return `${head}${table(rowsOf(schema, section, 'restart'))}`;
  const prefix = section === 'upstream' ? section : `${section}.<name>`;
  const parts = modules.map((module) => {
    const type = (module['properties'] as Record<string, JsonSchema>)['type']?.['const'];
    const about = text(module['description']);
    const heading = `### \`${prefix}\` with \`type: ${String(type)}\`\n\n`;
    return `${heading}${about === '' ? '' : `${about}\n\n`}${table(rowsOf(module, '', 'restart'))}`;
  });
  return head + parts.join('\n');
}

function table(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ field, type, defaultText, apply, meaning }) =>
      `| \`${field}\` | ${type} | ${defaultText} | ${apply} | ${meaning} |`,
  );
  return `${['| Field | Type | Default | Change | Meaning |', '|---|---|---|---|---|', ...lines].join('\n')}\n`;
}

/** A row for each field that holds a value, in the order of the schema. */
function rowsOf(schema: JsonSchema, path: string, inherited: string): Row[] {
  const apply = schema['x-apply'] === undefined ? inherited : schema['x-apply'] === 'live' ? 'live' : 'restart';
  const properties = schema['properties'] as Record<string, JsonSchema> | undefined;
  if (properties !== undefined) {
    const required = new Set(schema['required'] as readonly string[] | undefined);
    return Object.entries(properties).flatMap(([name, field]) =>
      fieldRows(field, join(path, name), apply, required.has(name)),
    );
  }
  if (schema['type'] === 'array' && isContainer(schema['items'])) return rowsOf(schema['items'], `${path}[]`, apply);
  if (isContainer(schema['additionalProperties']))
    return rowsOf(schema['additionalProperties'], join(path, '<name>'), apply);
  return [];
}

function fieldRows(field: JsonSchema, path: string, inherited: string, required: boolean): Row[] {
  const apply = field['x-apply'] === 'live' ? 'live' : inherited;
  const branches = (field['oneOf'] ?? field['anyOf']) as readonly JsonSchema[] | undefined;
  if (branches !== undefined && branches.some((branch) => isContainer(branch))) {
    return branches.flatMap((branch) => (isContainer(branch) ? rowsOf(branch, branchPath(path, branch), apply) : []));
  }
  if (isContainer(field)) return rowsOf(field, path, apply);
  const defaultText = 'default' in field ? code(field['default']) : required ? '**required**' : '';
  return [{ field: path, type: typeText(field), defaultText, apply, meaning: meaningText(field) }];
}

/** `transport (kind: tcp)`: the branch of a union is told by its discriminator. */
function branchPath(path: string, branch: JsonSchema): string {
  const properties = Object.entries(branch['properties'] as Record<string, JsonSchema>);
  const [name, value] = properties.find(([, field]) => 'const' in field) ?? [];
  return name === undefined ? path : `${path} (${name}: ${String(value?.['const'])})`;
}

/** Whether rows for the fields inside stand in place of a row for the thing itself. */
function isContainer(schema: unknown): schema is JsonSchema {
  if (typeof schema !== 'object' || schema === null) return false;
  const { properties, items, additionalProperties } = schema as JsonSchema;
  if (properties !== undefined) return true;
  return isContainer(items) || isContainer(additionalProperties);
}

function typeText(schema: JsonSchema): string {
  if ('const' in schema) return code(schema['const']);
  const values = schema['enum'] as readonly unknown[] | undefined;
  if (values !== undefined) return values.map(code).join(', ');
  const branches = (schema['anyOf'] ?? schema['oneOf']) as readonly JsonSchema[] | undefined;
  if (branches !== undefined) return branches.map(typeText).join(' or ');
  switch (schema['type']) {
    case 'integer':
    case 'number':
      return `${schema['type'] === 'integer' ? 'whole number' : 'number'}${rangeText(schema)}`;
    case 'boolean':
      return '`true`, `false`';
    case 'array':
      return `list of ${typeText((schema['items'] ?? {}) as JsonSchema)}`;
    case 'object':
      return schema['additionalProperties'] === undefined
        ? 'map'
        : `map of ${typeText(schema['additionalProperties'] as JsonSchema)}`;
    case 'string':
      return 'text';
    default:
      return 'any';
  }
}

function rangeText(schema: JsonSchema): string {
  const { minimum, maximum, exclusiveMinimum } = schema as Record<string, number | undefined>;
  const low = minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum;
  const high = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (low !== undefined && high !== undefined) return `, ${low} to ${high}`;
  if (low !== undefined) return `, at least ${low}`;
  if (high !== undefined) return `, at most ${high}`;
  return exclusiveMinimum === undefined ? '' : `, above ${exclusiveMinimum}`;
}

function meaningText(schema: JsonSchema): string {
  const title = text(schema['title']);
  const description = text(schema['description']);
  const unit = schema['x-unit'] === undefined ? '' : ` Unit: ${text(schema['x-unit'])}.`;
  const examples = schema['examples'] as readonly unknown[] | undefined;
  const example = examples === undefined ? '' : ` For example ${examples.map(code).join(', ')}.`;
  const secret = schema['x-secret'] === true ? ' A secret.' : '';
  const name = description === '' && title !== '' ? `${title}.` : description;
  return `${name}${unit}${secret}${example}`.trim().replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function code(value: unknown): string {
  const written = typeof value === 'string' ? value : JSON.stringify(value);
  return written === '' ? '`""`' : `\`${written.replaceAll('|', '\\|')}\``;
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
