// One entry under `adapters`, `endpoints` or `upstream`: the gateway's common fields, then the module's own.

import type { z } from 'zod';
import type { ConfigFault, SiteFacts } from '../core/module.ts';
import { isRecord } from './describe.ts';
import { type Explained, explainIssues, sentence } from './explain.ts';
import type { ConfigPath } from './fault.ts';
import { nearest } from './nearest.ts';
import type { ProfileShelf } from './profiles.ts';
import type { endpointCommonSchema } from './endpoint-schema.ts';
import { commonSchema, type ModuleCatalogue, type ModuleSection } from './schema.ts';
import type { SecretSet } from './secrets.ts';
import { isDoubtful, soundPart } from './sound-part.ts';

export interface CheckedEntry {
  readonly common: {
    readonly type: string;
    readonly enabled: boolean;
    readonly simulate?: boolean;
  } & Partial<Omit<z.output<typeof endpointCommonSchema>, 'type' | 'enabled'>>;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Why it cannot run; `settings` is empty then. */
  readonly fault?: string;
}

export interface EntryContext extends SiteFacts {
  readonly catalogue: ModuleCatalogue;
  readonly secrets: SecretSet;
  readonly profiles: ProfileShelf;
  /** Where faults are put. */
  readonly found: Explained[];
}

/** An entry that is not run for now; undefined when its common fields have faults. */
export function idleEntry(
  section: ModuleSection,
  value: unknown,
  fault: string,
  catalogue: ModuleCatalogue,
): CheckedEntry | undefined {
  if (!isRecord(value)) return undefined;
  const schema = commonSchema(section);
  // What stays idle seals nothing, and its keys may be what cannot be read.
  const keys = Object.keys(schema.shape).filter((key) => key !== 'seal');
  const common = schema.safeParse(Object.fromEntries(keys.map((key) => [key, value[key]])));
  if (!common.success || catalogue.find(section, common.data.type) === undefined) return undefined;
  return { common: common.data, settings: {}, fault };
}

/** The checked entry; undefined when it has faults, which are then told. */
export function checkEntry(
  section: ModuleSection,
  path: ConfigPath,
  value: unknown,
  context: EntryContext,
): CheckedEntry | undefined {
  const { found, secrets } = context;
  const types = context.catalogue.allowed(section).map(({ type }) => type);
  const told = found.length;
  if (!isRecord(value)) {
    const what = Array.isArray(value) ? 'a list' : value === null ? 'nothing' : 'a single value';
    found.push({
      path,
      at: 'key',
      message: `must be a map of keys with a type (one of ${types.join(', ')}); found ${what}.`,
    });
    return undefined;
  }
  const common = commonSchema(section);
  const commonKeys = Object.keys(common.shape);
  const isCommon = ([key]: [string, unknown]): boolean => commonKeys.includes(key);
  const fields = Object.entries(value);
  const commonResult = common.safeParse(Object.fromEntries(fields.filter(isCommon)));
  const type = value['type'];
  const module = typeof type === 'string' ? context.catalogue.find(section, type) : undefined;
  if (!commonResult.success) {
    const issues = commonResult.error.issues.filter((issue) => issue.path[0] !== 'type');
    found.push(...explainIssues(issues, { schema: common, value, prefix: path, secrets }));
  }
  if (module === undefined) {
    found.push(unknownType(section, path, type, types));
    return undefined;
  }
  const written = Object.fromEntries(fields.filter((field) => !isCommon(field)));
  const settings = module.kind === 'adapter' ? context.profiles.expand(module, written, path, found) : written;
  const result = module.config.safeParse(settings);
  if (!result.success) {
    const explained = { schema: module.config, value: settings, prefix: path, secrets, moreKeys: commonKeys };
    found.push(...explainIssues(result.error.issues, explained));
  }
  const sound = result.success ? { data: result.data, removed: [] } : soundPart(module.config, settings);
  for (const fault of sound === undefined
    ? []
    : checkByModule(module.check as Check | undefined, sound.data, context)) {
    if (isDoubtful(fault.path, sound?.removed ?? [])) continue;
    found.push({ path: [...path, ...fault.path], at: 'value', message: sentence(fault.message) });
  }
  if (!commonResult.success || !result.success || found.length > told) return undefined;
  return { common: commonResult.data, settings: result.data };
}

// The catalogue holds modules of many schemas; the data was parsed by the module's own schema just before.
type Check = (config: unknown, site: SiteFacts) => readonly ConfigFault[];

function checkByModule(check: Check | undefined, settings: unknown, { gatewayId }: SiteFacts): readonly ConfigFault[] {
  return check === undefined ? [] : check(settings, { gatewayId });
}

function unknownType(section: ModuleSection, path: ConfigPath, type: unknown, types: readonly string[]): Explained {
  const list = types.length === 0 ? 'this build has none.' : `allowed: ${types.join(', ')}.`;
  if (type === undefined) return { path: [...path, 'type'], at: 'key', message: `is missing; ${list}` };
  if (typeof type !== 'string') return { path: [...path, 'type'], at: 'value', message: `must be a text; ${list}` };
  const meant = nearest(type, types);
  const hint = meant === undefined ? '' : ` Did you mean "${meant}"?`;
  const what = section === 'adapters' ? 'adapter' : section === 'upstream' ? 'transport' : 'endpoint';
  return {
    path: [...path, 'type'],
    at: 'value',
    message: `there is no ${what} of type "${type.slice(0, 60)}"; ${list}${hint}`,
  };
}
