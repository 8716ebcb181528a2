// What a change of the configuration touches: each field that differs, and the part that takes it live or restarts.

import type { Apply } from '../core/module.ts';
import { isRecord, metaOf, schemasAlong } from './describe.ts';
import type { LoadedConfig } from './config.ts';
import { type ConfigPath, pathText } from './fault.ts';
import type { ModuleCatalogue } from './schema.ts';
import { fieldSchema } from './show.ts';

/** `adapter:bus-1`, `endpoint:cloud-2`, or one of the parts that exist once. `gateway` restarts everything. */
export type ConfigPart =
  | `adapter:${string}`
  | `endpoint:${string}`
  | 'upstream'
  | 'routes'
  | 'messages'
  | 'outbox'
  | 'web'
  | 'hub'
  | 'gateway';

export interface ConfigChange {
  /** As in messages: `adapters.bus-1.devices.meter-1.unit_id`. Values are left out: they may be secrets. */
  readonly path: string;
  readonly kind: 'added' | 'removed' | 'changed';
  readonly part: ConfigPart;
  readonly apply: Apply;
}

/** In the order of the file's grammar; empty when both mean the same, whatever their comments. */
export function diffConfig(before: LoadedConfig, after: LoadedConfig, catalogue: ModuleCatalogue): ConfigChange[] {
  const changes: ConfigChange[] = [];
  const add = (path: ConfigPath, kind: ConfigChange['kind']): void => {
    const part = partOf(path);
    if (part === undefined) return;
    // A field that a map of entries gained or lost is judged by the entry's own schema.
    const values = kind === 'removed' ? before.values : after.values;
    changes.push({ path: pathText(path), kind, part, apply: applyOf(path, values, catalogue) });
  };
  compare(before.values, after.values, [], add);
  if (before.config.gatewayId !== after.config.gatewayId && !changes.some(({ part }) => part === 'gateway')) {
    changes.push({ path: 'gateway.id', kind: 'changed', part: 'gateway', apply: 'restart_part' });
  }
  return changes;
}

/** The parts that have to be built anew. */
export function partsToRestart(changes: readonly ConfigChange[]): ReadonlySet<ConfigPart> {
  return new Set(changes.filter(({ apply }) => apply === 'restart_part').map(({ part }) => part));
}

function compare(
  before: unknown,
  after: unknown,
  path: ConfigPath,
  add: (path: ConfigPath, kind: ConfigChange['kind']) => void,
): void {
  if (isRecord(before) && isRecord(after)) {
    // A different type of entry has different fields: it is replaced, not changed.
    if (before['type'] !== after['type'] && path.length > 0) {
      add([...path, 'type'], 'changed');
      return;
    }
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      compare(before[key], after[key], [...path, key], add);
    }
    return;
  }
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length) {
    for (const [index, item] of before.entries()) compare(item, after[index], [...path, index], add);
    return;
  }
  if (Object.is(before, after)) return;
  add(path, before === undefined ? 'added' : after === undefined ? 'removed' : 'changed');
}

function partOf(path: ConfigPath): ConfigPart | undefined {
  const [section, name] = path;
  switch (String(section)) {
    case 'adapters':
      return `adapter:${String(name)}`;
    case 'endpoints':
      return `endpoint:${String(name)}`;
    default:
      return SINGLE_PARTS.find((part) => part === section);
  }
}

/** Parts that exist once and have the name of their section. */
const SINGLE_PARTS = ['upstream', 'routes', 'messages', 'outbox', 'web', 'hub', 'gateway'] as const;

/** Live when the field, or a part of the file above it, says so. */
function applyOf(path: ConfigPath, values: unknown, catalogue: ModuleCatalogue): Apply {
  const { schema, rest, base } = fieldSchema(path, values, catalogue);
  return schemasAlong(schema, rest, base).some((met) => metaOf(met).apply === 'live') ? 'live' : 'restart_part';
}
