// Adapters that want the same thing for themselves, such as one serial port: each is sound, and together they block each other.

import type { Claim } from '../core/module.ts';
import type { CheckedEntry } from './entry.ts';
import { type Explained, sentence } from './explain.ts';
import type { ModuleCatalogue } from './schema.ts';

type Claims = (settings: unknown) => readonly Claim[];

/** A fault for each thing that an earlier adapter has. Adapters that are switched off, simulated or cannot run have nothing. */
export function checkClaims(adapters: ReadonlyMap<string, CheckedEntry>, catalogue: ModuleCatalogue): Explained[] {
  const faults: Explained[] = [];
  const owners = new Map<string, string>();
  for (const [adapterId, { common, settings, fault }] of adapters) {
    if (!common.enabled || common.simulate === true || fault !== undefined) continue;
    const module = catalogue.find('adapters', common.type);
    const claims = module?.kind === 'adapter' ? (module.claims as Claims | undefined) : undefined;
    for (const { path, key, message } of claims?.(settings) ?? []) {
      const owner = owners.get(key);
      if (owner === undefined) owners.set(key, adapterId);
      else faults.push({ path: ['adapters', adapterId, ...path], at: 'value', message: sentence(message(owner)) });
    }
  }
  return faults;
}
