// Text of a configuration to what the gateway runs, or every fault at once.

import { dirname, join, resolve } from 'node:path';
import { type DeviceId, parseDeviceId } from '../core/device.ts';
import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import { GatewayError } from '../core/errors.ts';
import { messageShape } from '../core/shape-of.ts';
import { readConfigFile } from './config-file.ts';
import { checkReferences } from './check.ts';
import { checkClaims } from './claims.ts';
import type { AdapterConfig, EndpointConfig, GatewayConfig, LoadedConfig } from './config.ts';
import { type ConfigDocument, type DocumentMigration, parseConfigText } from './document.ts';
import { UnresolvedParts } from './unresolved-parts.ts';
import { isRecord } from './describe.ts';
import { checkEntry, type CheckedEntry, type EntryContext, idleEntry } from './entry.ts';
import { type Explained, explainIssues } from './explain.ts';
import { type ConfigPath, formatFault, type LocatedFault, sortFaults } from './fault.ts';
import { hubConfig } from './hub-schema.ts';
import { idleEndpoints } from './idle-endpoints.ts';
import { findLoops } from './loops.ts';
import { defaultGatewayId } from './machine-id.ts';
import { type ModuleCatalogue, type ModuleSection, outboxSettings, rootSchema, type RootValues } from './schema.ts';
import { ProfileShelf, type ProfileTexts } from './profiles.ts';
import { plainSecrets } from './show.ts';

export interface LoadOptions {
  readonly catalogue: ModuleCatalogue;
  /** Has the user's own device profiles, before the shipped ones, and paths that are relative begin there. */
  readonly dataDirectory?: string;
  /** Texts of own profiles, in place of what is in that folder. */
  readonly keptProfiles?: ProfileTexts;
  /** What faults call the file. */
  readonly file: string;
  /** The file at whose folder relative `!file` references start. Default: `file`. */
  readonly secretsBeside?: string;
  /** Undefined when the condition of a route is right, else what is wrong (`checkCondition` of the pipeline). */
  readonly checkCondition?: (text: string) => string | undefined;
  /** Default: the process's environment. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Default: of the machine. */
  readonly defaultGatewayId?: DeviceId;
  /**
   * Adapters and endpoints whose secrets cannot be read are kept as parts that cannot run (`fault`), instead of being faults of
   * the whole.
   */
  readonly keepsUnresolved?: boolean;
  /** Default: those of this release. */
  readonly migration?: DocumentMigration;
}

export type LoadResult =
  | { readonly ok: true; readonly loaded: LoadedConfig }
  | { readonly ok: false; readonly faults: readonly LocatedFault[] };

/** Checks a text. Never throws for what stands in it; reads the files and variables that secrets refer to. */
export function loadConfigText(text: string, options: LoadOptions): LoadResult {
  const directory = dirname(resolve(options.secretsBeside ?? options.file));
  const document = parseConfigText(
    text,
    options.file,
    { env: options.env ?? process.env, directory },
    options.migration,
  );
  if (!document.readable) return { ok: false, faults: sortFaults(document.faults) };

  const found: Explained[] = [];
  const values = withoutEmptySections(document.value);
  const parsed = rootSchema.safeParse(values);
  if (!parsed.success) {
    found.push(
      ...explainIssues(parsed.error.issues, {
        schema: rootSchema,
        value: values,
        prefix: [],
        secrets: document.secrets,
      }),
    );
  }
  // Entries are checked even when the rest has faults, so that a person sees all of them at once.
  const { dataDirectory } = options;
  const profileDirectory = dataDirectory === undefined ? undefined : join(dataDirectory, 'profiles');
  const profiles = new ProfileShelf(profileDirectory, options.keptProfiles);
  const defaultId = options.defaultGatewayId ?? defaultGatewayId();
  const gatewayId = writtenGatewayId(values) ?? defaultId;
  const unresolved = new UnresolvedParts(options.keepsUnresolved === true ? document : undefined);
  const entries = checkEntries(values, {
    unresolved,
    document,
    catalogue: options.catalogue,
    profiles,
    found,
    gatewayId,
  });
  found.push(
    ...checkReferences(values, { ...options, gatewayId }),
    ...checkClaims({ ...entries, root: parsed.data }, options.catalogue, { dataDirectory }),
  );

  const located = [...locate(found, document, options.file), ...profiles.faults];
  if (!parsed.success || located.length > 0 || document.faults.length > unresolved.faults.length) {
    const faults = sortFaults([...document.faults, ...located]);
    // One line about a secret that cannot be read is enough: what stood in for it is not the user's.
    const told = new Set(document.faults.map(({ path }) => JSON.stringify(path)));
    return {
      ok: false,
      faults: faults.filter((fault) => document.faults.includes(fault) || !told.has(JSON.stringify(fault.path))),
    };
  }
  const config = assemble(parsed.data, entries, defaultId);
  const complete = completeValues(parsed.data, entries);
  const migrated = document.migrated === undefined ? {} : { migrated: document.migrated };
  const unwise = [
    ...plainSecrets(complete, options.catalogue, document.secrets).map((path) => ({
      path,
      at: 'value' as const,
      message: 'a secret stands in the file; refer to it with !env NAME, !file PATH or !credential NAME instead.',
    })),
    ...idleEndpoints(config),
    ...findLoops(config, options.catalogue),
  ];
  const warnings = locate(unwise, document, options.file).map(formatFault);
  const partFaults = sortFaults(unresolved.faults);
  const own = { ownProfiles: profiles.own, secrets: document.secrets, values: complete };
  return { ok: true, loaded: { config, text, warnings, partFaults, ...own, ...migrated } };
}

/**
 * Reads and checks a file.
 * @throws GatewayError GW_CONFIG_IO when it cannot be read.
 */
export function loadConfigFile(path: string, options: Omit<LoadOptions, 'file'>): LoadResult {
  return loadConfigText(readConfigFile(path), { ...options, file: path });
}

function writtenGatewayId(values: unknown): string | undefined {
  const gateway = isRecord(values) ? values['gateway'] : undefined;
  const id = isRecord(gateway) ? gateway['id'] : undefined;
  return typeof id === 'string' ? id : undefined;
}

/** A section whose every line is commented out is as good as absent. */
function withoutEmptySections(values: unknown): unknown {
  if (!isRecord(values)) return values;
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}

/** Entries that have no fault, by section and name. */
export interface CheckedEntries {
  readonly adapters: ReadonlyMap<string, CheckedEntry>;
  readonly endpoints: ReadonlyMap<string, CheckedEntry>;
  readonly upstream: CheckedEntry | undefined;
}

function checkEntries(
  values: unknown,
  {
    unresolved,
    document,
    ...rest
  }: Omit<EntryContext, 'secrets'> & { readonly unresolved: UnresolvedParts; readonly document: ConfigDocument },
): CheckedEntries {
  const root = isRecord(values) ? values : {};
  const context: EntryContext = { ...rest, secrets: document.secrets };
  const check = (name: ModuleSection, path: ConfigPath, entry: unknown): CheckedEntry | undefined => {
    const fault = unresolved.faultOf(path);
    const idle = fault === undefined ? undefined : idleEntry(name, entry, fault, context.catalogue);
    return idle ?? checkEntry(name, path, entry, context);
  };
  const section = (name: 'adapters' | 'endpoints'): Map<string, CheckedEntry> => {
    const checked = new Map<string, CheckedEntry>();
    const entries = root[name];
    if (!isRecord(entries)) return checked;
    for (const [key, entry] of Object.entries(entries)) {
      const result = check(name, [name, key], entry);
      if (result !== undefined) checked.set(key, result);
    }
    return checked;
  };
  const upstream = root['upstream'];
  return {
    adapters: section('adapters'),
    endpoints: section('endpoints'),
    upstream: upstream === undefined || upstream === null ? undefined : check('upstream', ['upstream'], upstream),
  };
}

function locate(found: readonly Explained[], document: ConfigDocument, file: string): LocatedFault[] {
  return found.map(({ path, message, at }) => ({
    file,
    line: at === 'key' ? document.keyLine(path) : document.line(path),
    path,
    message: document.secrets.redactText(message),
  }));
}

function assemble(root: RootValues, entries: CheckedEntries, defaultId: DeviceId): GatewayConfig {
  const { web } = root;
  const hub = hubConfig(root.hub);
  return {
    version: root.version,
    gatewayId: root.gateway.id === undefined ? defaultId : parseDeviceId(root.gateway.id),
    adapters: [...entries.adapters].map(([id, { common, settings, fault }]): AdapterConfig => ({
      id,
      type: common.type,
      enabled: common.enabled,
      simulate: common.simulate ?? false,
      settings,
      ...(fault !== undefined && { fault }),
    })),
    ...(entries.upstream === undefined ? {} : { upstream: endpointConfig(UPSTREAM_ENDPOINT, entries.upstream) }),
    endpoints: [...entries.endpoints].map(([name, entry]) => endpointConfig(name, entry)),
    routes: root.routes,
    messages: messageShape(root.messages),
    outbox: outboxSettings(root.outbox),
    ...(hub === undefined ? {} : { hub }),
    web,
  };
}

function endpointConfig(name: string, { common, settings, fault }: CheckedEntry): EndpointConfig {
  const { type, enabled, order, max_bytes, seal, max_bytes_per_sec, monthly_budget_bytes, urgent } = common;
  return {
    name,
    type,
    enabled,
    order: order ?? 'live_first',
    ...(max_bytes === undefined ? {} : { maxBytes: max_bytes }),
    ...(seal === undefined ? {} : { seal }),
    ...(max_bytes_per_sec === undefined ? {} : { maxBytesPerSec: max_bytes_per_sec }),
    ...(monthly_budget_bytes === undefined
      ? {}
      : { monthlyBudget: { monthlyBytes: monthly_budget_bytes, resetDay: common.budget_reset_day ?? 1 } }),
    ...(urgent === undefined ? {} : { urgent }),
    settings,
    ...(fault !== undefined && { fault }),
  };
}

function completeValues(root: RootValues, entries: CheckedEntries): Record<string, unknown> {
  const join = ({ common, settings }: CheckedEntry): Record<string, unknown> => ({ ...common, ...settings });
  const section = (checked: ReadonlyMap<string, CheckedEntry>): Record<string, unknown> =>
    Object.fromEntries([...checked].map(([key, entry]) => [key, join(entry)]));
  return {
    ...root,
    adapters: section(entries.adapters),
    endpoints: section(entries.endpoints),
    upstream: entries.upstream === undefined ? undefined : join(entries.upstream),
  };
}

/** The error for a text that cannot be used: every fault in its message and, for programs, in `details.faults`. */
export function configInvalidError(faults: readonly LocatedFault[]): GatewayError {
  const lines = faults.map(formatFault);
  return new GatewayError('GW_CONFIG_INVALID', lines.join('\n'), { details: { faults: lines } });
}
