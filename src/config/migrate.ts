// Numbered migrations of the grammar. Version 1 is the first, so there are none yet; the next one adds a row here. They
// work on the parsed document and not on values, so that a person's comments survive and faults keep their lines.

import { isMap, type Document } from 'yaml';
import { GatewayError } from '../core/errors.ts';

export interface Migration {
  /** The version that it reads; it writes the next. */
  readonly from: number;
  readonly migrate: (document: Document) => void;
}

export const MIGRATIONS: readonly Migration[] = [];

/** The version that this release reads without migration. */
export const CONFIG_VERSION = 1;

/**
 * Brings a document to the version of this release; gives back the version that it had, undefined when nothing had to be
 * done. A document without a readable version, or with a newer one, is left alone: the schema tells what is wrong.
 * @throws GatewayError GW_INTERNAL when the migrations have a gap.
 */
export function migrateDocument(
  document: Document,
  migrations: readonly Migration[] = MIGRATIONS,
  target: number = CONFIG_VERSION,
): number | undefined {
  if (!isMap(document.contents)) return undefined;
  const version: unknown = document.get('version') ?? 1;
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1 || version >= target) return undefined;
  for (let current = version; current < target; current += 1) {
    const step = migrations.find(({ from }) => from === current);
    if (step === undefined) throw new GatewayError('GW_INTERNAL', `There is no migration from version ${current}.`);
    step.migrate(document);
    document.set('version', current + 1);
  }
  return version;
}
