// Looking into zod schemas by path: which keys are allowed somewhere, what is known of a field. Used for messages, for
// what a change restarts, for hiding secrets and for the reference.

import type { z } from 'zod';
import type { FieldMeta } from './schema.ts';
import type { ConfigPath } from './fault.ts';

/** Any of zod's schemas. */
export type AnySchema = z.core.$ZodType;

/** The parts of zod's definitions that are used here. */
interface Definition {
  readonly type: string;
  readonly innerType?: AnySchema;
  readonly in?: AnySchema;
  readonly out?: AnySchema;
  readonly getter?: () => AnySchema;
  readonly shape?: Readonly<Record<string, AnySchema>>;
  readonly valueType?: AnySchema;
  readonly keyType?: AnySchema;
  readonly element?: AnySchema;
  readonly items?: readonly AnySchema[];
  readonly options?: readonly AnySchema[];
  readonly discriminator?: string;
  readonly values?: readonly unknown[];
  readonly entries?: Readonly<Record<string, unknown>>;
}

export function definitionOf(schema: AnySchema): Definition {
  return schema._zod.def;
}

/** Through optional, default, readonly, pipes and the like, to the schema that says what the value is. */
export function unwrap(schema: AnySchema): AnySchema {
  let current = schema;
  for (;;) {
    const definition = definitionOf(current);
    const next =
      definition.type === 'lazy'
        ? definition.getter?.()
        : definition.type === 'pipe'
          ? isTransform(definition.in)
            ? definition.out
            : definition.in
          : definition.innerType;
    if (next === undefined) return current;
    current = next;
  }
}

function isTransform(schema: AnySchema | undefined): boolean {
  return schema !== undefined && definitionOf(schema).type === 'transform';
}

/** Schemas do not change, and one is asked for each of thousands of points. */
const metaCache = new WeakMap<AnySchema, FieldMeta>();

/** What is known of a field: from the outermost wrapper that says something, field by field. */
export function metaOf(schema: AnySchema): FieldMeta {
  const known = metaCache.get(schema);
  if (known !== undefined) return known;
  const meta = collectMeta(schema);
  metaCache.set(schema, meta);
  return meta;
}

function collectMeta(schema: AnySchema): FieldMeta {
  const found: Record<string, unknown> = {};
  let current: AnySchema | undefined = schema;
  while (current !== undefined) {
    const meta = (current as Partial<z.ZodType>).meta?.() ?? {};
    for (const [name, value] of Object.entries(meta)) found[name] ??= value;
    const definition: Definition = definitionOf(current);
    current = definition.innerType ?? (definition.type === 'pipe' ? definition.in : undefined);
  }
  return found;
}

/** Whether the field may be left out. */
export function isOptional(schema: AnySchema): boolean {
  return schema._zod.optin === 'optional';
}

/** The schemas met on the way down a path, the given one first; ends where the path leaves the schema. */
export function schemasAlong(schema: AnySchema, path: ConfigPath, value: unknown): AnySchema[] {
  const met: AnySchema[] = [schema];
  let current = schema;
  let here: unknown = value;
  for (const step of path) {
    const next = childSchema(current, step, here);
    if (next === undefined) return met;
    met.push(next);
    current = next;
    here = isRecord(here) || Array.isArray(here) ? (here as Record<string | number, unknown>)[step] : undefined;
  }
  return met;
}

/** The schema at a path; undefined when the schema has nothing there. `value` decides between the branches of unions. */
export function schemaAt(schema: AnySchema, path: ConfigPath, value: unknown): AnySchema | undefined {
  const met = schemasAlong(schema, path, value);
  return met.length === path.length + 1 ? met.at(-1) : undefined;
}

/** The schema one step down; undefined when there is nothing. `value` decides between the branches of unions. */
export function childSchema(schema: AnySchema, step: string | number, value: unknown): AnySchema | undefined {
  const inner = unwrap(schema);
  const definition = definitionOf(inner);
  switch (definition.type) {
    case 'object':
      return Object.hasOwn(definition.shape ?? {}, step) ? definition.shape?.[String(step)] : undefined;
    case 'record':
      return definition.valueType;
    case 'array':
      return definition.element;
    case 'tuple':
      return typeof step === 'number' ? definition.items?.[step] : undefined;
    case 'union': {
      const branch = branchFor(definition, value);
      const candidates = branch === undefined ? (definition.options ?? []) : [branch];
      for (const option of candidates) {
        const found = childSchema(option, step, value);
        if (found !== undefined) return found;
      }
      return undefined;
    }
    default:
      return undefined;
  }
}

/** The branch of a discriminated union that a value means. */
function branchFor(definition: Definition, value: unknown): AnySchema | undefined {
  const { discriminator } = definition;
  if (discriminator === undefined || !isRecord(value)) return undefined;
  return definition.options?.find((option) =>
    discriminatorValues(option, discriminator).includes(value[discriminator]),
  );
}

/** The values of the discriminator that choose a branch, `undefined` among them when it may be left out. */
export function discriminatorValues(option: AnySchema, discriminator: string): readonly unknown[] {
  const field = definitionOf(unwrap(option)).shape?.[discriminator];
  if (field === undefined) return [];
  const values = allowedValues(field) ?? [];
  return isOptional(field) ? [...values, undefined] : values;
}

/** The allowed values of an enum or literal, else undefined. */
export function allowedValues(schema: AnySchema): readonly unknown[] | undefined {
  const definition = definitionOf(unwrap(schema));
  if (definition.type === 'literal') return definition.values;
  if (definition.type === 'enum') return Object.values(definition.entries ?? {});
  return undefined;
}

/** The keys that an object at a path may have; undefined where any key or none is allowed. */
export function allowedKeys(schema: AnySchema, value: unknown): readonly string[] | undefined {
  const definition = definitionOf(unwrap(schema));
  if (definition.type === 'object') return Object.keys(definition.shape ?? {});
  if (definition.type !== 'union') return undefined;
  const branch = branchFor(definition, value);
  if (branch !== undefined) return allowedKeys(branch, value);
  const keys = (definition.options ?? []).flatMap((option) => allowedKeys(option, value) ?? []);
  return keys.length === 0 ? undefined : [...new Set(keys)];
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
