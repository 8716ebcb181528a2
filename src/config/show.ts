// What may be shown of a configuration: secrets as their references, secrets in plain text as `***`.

import { type AnySchema, childSchema, isRecord, metaOf } from './describe.ts';
import type { ConfigPath } from './fault.ts';
import { commonSchema, type ModuleCatalogue, rootSchema } from './schema.ts';
import { redactUrls, type SecretSet } from './secrets.ts';

/** Stands for a secret. */
export const HIDDEN = '***';

/** The schema that judges the field at a path, with the path below that schema and the value it starts from. */
export function fieldSchema(
  path: ConfigPath,
  values: unknown,
  catalogue: ModuleCatalogue,
): { readonly schema: AnySchema; readonly rest: ConfigPath; readonly base: unknown } {
  const section = path[0];
  if (section === 'adapters' || section === 'endpoints' || section === 'upstream') {
    const depth = section === 'upstream' ? 1 : 2;
    const entry = at(values, path.slice(0, depth));
    const rest = path.slice(depth);
    if (isRecord(entry) && rest.length > 0) {
      const common = commonSchema(section);
      if (typeof rest[0] === 'string' && rest[0] in common.shape) return { schema: common, rest, base: entry };
      const type = entry['type'];
      const module = typeof type === 'string' ? catalogue.find(section, type) : undefined;
      if (module !== undefined) return { schema: module.config, rest, base: entry };
    }
  }
  return { schema: rootSchema, rest: path, base: values };
}

/** What stands at a place of the file: the value, and whether the schema calls it, or what it belongs to, a secret. */
interface Place {
  readonly path: ConfigPath;
  readonly value: unknown;
  readonly secret: boolean;
  /** The schema of the value; undefined where there is none. */
  readonly schema: AnySchema | undefined;
}

/** Paths of the fields for secrets whose secret stands in the file itself. */
export function plainSecrets(values: unknown, catalogue: ModuleCatalogue, secrets: SecretSet): ConfigPath[] {
  const found: ConfigPath[] = [];
  const visit = (place: Place): void => {
    const { path, value, secret } = place;
    if (isCollection(value)) {
      for (const [step, item] of entriesOf(value)) visit(below(place, step, item, catalogue));
    } else if (typeof value === 'string' && (secret || redactUrls(value) !== value)) {
      if (secrets.referenceAt(path) === undefined) found.push(path);
    }
  };
  visit({ path: [], value: values, secret: false, schema: rootSchema });
  return found;
}

/** A copy of the values that may be shown to anybody who may see the configuration. */
export function showValues(values: unknown, catalogue: ModuleCatalogue, secrets: SecretSet): unknown {
  const show = (place: Place): unknown => {
    const { path, value, secret } = place;
    const reference = secrets.referenceAt(path);
    if (reference !== undefined) return reference;
    if (Array.isArray(value)) return value.map((item, index) => show(below(place, index, item, catalogue)));
    if (isRecord(value)) {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, show(below(place, key, item, catalogue))]),
      );
    }
    if (secret && value !== undefined && value !== null) return HIDDEN;
    return typeof value === 'string' ? secrets.redactText(value) : value;
  };
  return show({ path: [], value: values, secret: false, schema: rootSchema });
}

function below(place: Place, step: string | number, value: unknown, catalogue: ModuleCatalogue): Place {
  const path = [...place.path, step];
  const schema = entrySchema(place, step, catalogue) ?? (place.schema && childSchema(place.schema, step, place.value));
  return { path, value, schema, secret: place.secret || (schema !== undefined && metaOf(schema).secret === true) };
}

/** The fields of an entry are the module's, but for those that every entry has; the root schema knows neither. */
function entrySchema({ path, value }: Place, step: string | number, catalogue: ModuleCatalogue): AnySchema | undefined {
  const section = path[0];
  if (section !== 'adapters' && section !== 'endpoints' && section !== 'upstream') return undefined;
  if (path.length !== (section === 'upstream' ? 1 : 2) || !isRecord(value)) return undefined;
  const common = childSchema(commonSchema(section), step, value);
  if (common !== undefined) return common;
  const type = value['type'];
  const module = typeof type === 'string' ? catalogue.find(section, type) : undefined;
  return module === undefined ? undefined : childSchema(module.config, step, value);
}

function isCollection(value: unknown): value is unknown[] | Record<string, unknown> {
  return Array.isArray(value) || isRecord(value);
}

function entriesOf(value: unknown[] | Record<string, unknown>): Iterable<[string | number, unknown]> {
  return Array.isArray(value) ? value.entries() : Object.entries(value);
}

function at(value: unknown, path: ConfigPath): unknown {
  let current = value;
  for (const step of path) {
    if (!isRecord(current) && !Array.isArray(current)) return undefined;
    current = (current as Record<string | number, unknown>)[step];
  }
  return current;
}
