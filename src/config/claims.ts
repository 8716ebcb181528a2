// Parts that want the same thing for themselves, such as one serial or TCP port: each is sound, and together they block each
// other.

import { isSameListenAddress, listenClaim, loopbackOf } from '../core/listen-address.ts';
import type { AdapterDefinition, Claim, ClaimPlaces, UpstreamDefinition } from '../core/module.ts';
import type { CheckedEntry } from './entry.ts';
import { type Explained, sentence } from './explain.ts';
import type { ConfigPath } from './fault.ts';
import { type HubConfig, hubConfig } from './hub-schema.ts';
import type { ModuleCatalogue, ModuleSection, RootValues } from './schema.ts';

export interface ClaimingParts {
  /** Undefined when they have faults. */
  readonly root: RootValues | undefined;
  readonly adapters: ReadonlyMap<string, CheckedEntry>;
  readonly endpoints: ReadonlyMap<string, CheckedEntry>;
  readonly upstream: CheckedEntry | undefined;
}

interface Part {
  readonly path: ConfigPath;
  readonly claims: readonly Claim[];
}

/** A fault for each thing that a part before has. Parts that are switched off, simulated or cannot run have nothing. */
export function checkClaims(parts: ClaimingParts, catalogue: ModuleCatalogue, places: ClaimPlaces): Explained[] {
  const faults: Explained[] = [];
  const taken = new Map<string, { readonly owner: string; readonly address: string | undefined }[]>();
  for (const { path: above, claims } of partsOf(parts, catalogue, places)) {
    for (const { path, key, address, message } of claims) {
      const others = taken.get(key) ?? [];
      const other = others.find((one) => isSameAddress(one.address, address));
      if (other === undefined) taken.set(key, [...others, { owner: above.join('.'), address }]);
      else faults.push({ path: [...above, ...path], at: 'value', message: sentence(message(other.owner)) });
    }
  }
  return faults;
}

function isSameAddress(left: string | undefined, right: string | undefined): boolean {
  return left === undefined || right === undefined || isSameListenAddress(left, right);
}

function partsOf(
  { root, adapters, endpoints, upstream }: ClaimingParts,
  catalogue: ModuleCatalogue,
  places: ClaimPlaces,
): readonly Part[] {
  const part = (section: ModuleSection, path: ConfigPath, entry: CheckedEntry): Part => ({
    path,
    claims: entryClaims(section, entry, catalogue, places),
  });
  const section = (name: 'adapters' | 'endpoints', entries: ReadonlyMap<string, CheckedEntry>): Part[] =>
    [...entries].map(([id, entry]) => part(name, [name, id], entry));
  return [
    ...(root === undefined ? [] : ownParts(root)),
    ...(upstream === undefined ? [] : [part('upstream', ['upstream'], upstream)]),
    ...section('endpoints', endpoints),
    ...section('adapters', adapters),
  ];
}

function ownParts({ web, hub }: RootValues): readonly Part[] {
  return [
    { path: ['web'], claims: web.enabled ? [listenClaim(['port'], web)] : [] },
    { path: ['hub'], claims: hubClaims(hubConfig(hub)) },
  ];
}

function hubClaims(hub: HubConfig | undefined): readonly Claim[] {
  if (hub === undefined) return [];
  return Object.entries(hub.ports).map(([name, port]) => {
    const address = name === 'amqp' ? loopbackOf(hub.address) : hub.address;
    return listenClaim([`${name}_port`], { address, port });
  });
}

function entryClaims(
  section: ModuleSection,
  { common, settings, fault }: CheckedEntry,
  catalogue: ModuleCatalogue,
  places: ClaimPlaces,
): readonly Claim[] {
  const module = catalogue.find(section, common.type);
  if (!common.enabled || fault !== undefined || module === undefined || module.kind === 'endpoint') return [];
  if (common.simulate === true && !servesOthers(module, settings)) return [];
  const claims = module.claims as ((settings: unknown, places: ClaimPlaces) => readonly Claim[]) | undefined;
  return claims?.(settings, places) ?? [];
}

function servesOthers(module: AdapterDefinition | UpstreamDefinition, settings: unknown): boolean {
  if (module.kind !== 'adapter') return false;
  return (module.servesOthers as ((settings: unknown) => boolean) | undefined)?.(settings) === true;
}
