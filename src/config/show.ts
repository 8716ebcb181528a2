// What may be shown of a configuration: secrets as their references, secrets in plain text as `***`.

import { isRecord, metaOf, schemasAlong, unwrap } from './describe.ts';
import type { ConfigPath } from './fault.ts';
import { commonSchema, type ModuleCatalogue, rootSchema } from './schema.ts';
import { redactUrls, type SecretSet } from './secrets.ts';
import type { z } from 'zod';

const HIDDEN = '***';

/** The schema that judges the field at a path, with the path below that schema and the value it starts from. */
export function fieldSchema(
  path: ConfigPath,
  values: unknown,
  catalogue: ModuleCatalogue,
): { readonly schema: z.core.$ZodType; readonly rest: ConfigPath; readonly base: unknown } {
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

/** Whether a field, or a part that it belongs to, is marked as a secret. */
export function isSecretField(path: ConfigPath, values: unknown, catalogue: ModuleCatalogue): boolean {
  const { schema, rest, base } = fieldSchema(path, values, catalogue);
  return schemasAlong(schema, rest, base).some(
    (met) => metaOf(met).secret === true || metaOf(unwrap(met)).secret === true,
  );
}

/** Paths of the fields for secrets whose secret stands in the file itself. */
export function plainSecrets(values: unknown, catalogue: ModuleCatalogue, secrets: SecretSet): ConfigPath[] {
  const found: ConfigPath[] = [];
  walk(values, [], (path, value) => {
    if (typeof value !== 'string' || secrets.referenceAt(path) !== undefined) return;
    if (isSecretField(path, values, catalogue) || redactUrls(value) !== value) found.push(path);
  });
  return found;
}

/** A copy of the values that may be shown to anybody who may see the configuration. */
export function showValues(values: unknown, catalogue: ModuleCatalogue, secrets: SecretSet): unknown {
  const show = (value: unknown, path: ConfigPath): unknown => {
    const reference = secrets.referenceAt(path);
    if (reference !== undefined) return reference;
    if (Array.isArray(value)) return value.map((item, index) => show(item, [...path, index]));
    if (isRecord(value))
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, show(item, [...path, key])]));
    if (typeof value !== 'string') return value;
    return isSecretField(path, values, catalogue) ? HIDDEN : secrets.redactText(value);
  };
  return show(values, []);
}

function walk(value: unknown, path: ConfigPath, visit: (path: ConfigPath, value: unknown) => void): void {
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) walk(item, [...path, index], visit);
  } else if (isRecord(value)) {
    for (const [key, item] of Object.entries(value)) walk(item, [...path, key], visit);
  } else visit(path, value);
}

function at(value: unknown, path: ConfigPath): unknown {
  let current = value;
  for (const step of path) {
    if (!isRecord(current) && !Array.isArray(current)) return undefined;
    current = (current as Record<string | number, unknown>)[step];
  }
  return current;
}
