// Device profiles: what is known of a type of device, in a file of its own, taken into a device by `profile: NAME`. The
// user's own folder goes first, then the shipped ones. What a device says itself overrides its profile, field by field.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { AdapterDefinition, ConfigFault } from '../core/module.ts';
import { isRecord } from './describe.ts';
import { parseConfigText } from './document.ts';
import { type Explained, explainIssues, sentence } from './explain.ts';
import type { ConfigPath, LocatedFault } from './fault.ts';
import { nearest } from './nearest.ts';

type Values = Readonly<Record<string, unknown>>;

/** Texts of profiles of the user's own folder by their names. */
export type ProfileTexts = Readonly<Record<string, string>>;

interface LoadedProfile {
  /** Undefined when the file has faults. */
  readonly values: Values | undefined;
  readonly file: string;
}

export interface ProfileEntry {
  readonly name: string;
  readonly file: string;
}

const EXTENSION = '.yaml';

/** The profiles of a module by name; one in the user's own folder hides the shipped one of the same name. */
export function listProfiles(
  module: Pick<AdapterDefinition, 'profiles'>,
  ownDirectory: string | undefined,
): readonly ProfileEntry[] {
  const found = new Map<string, ProfileEntry>();
  for (const folder of [ownDirectory, module.profiles?.folder]) {
    if (folder === undefined || module.profiles === undefined) continue;
    for (const file of filesOf(folder)) {
      const name = file.slice(0, -EXTENSION.length);
      if (!found.has(name)) found.set(name, { name, file: join(folder, file) });
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Without the folder there are none. */
function filesOf(folder: string): readonly string[] {
  try {
    return readdirSync(folder).filter((file) => file.endsWith(EXTENSION));
  } catch {
    return [];
  }
}

/** The profiles that one configuration uses, each read once. */
export class ProfileShelf {
  readonly #ownDirectory: string | undefined;
  readonly #kept: ProfileTexts;
  readonly #own = new Map<string, string>();
  readonly #loaded = new Map<string, LoadedProfile>();
  readonly #faults: LocatedFault[] = [];

  /** @param kept take the place of what is in the folder. */
  constructor(ownDirectory: string | undefined, kept: ProfileTexts = {}) {
    this.#ownDirectory = ownDirectory;
    this.#kept = kept;
  }

  /** What was taken from the user's own folder. */
  get own(): ProfileTexts {
    return Object.fromEntries(this.#own);
  }

  /** Faults within the files of profiles. */
  get faults(): readonly LocatedFault[] {
    return this.#faults;
  }

  /** The settings of an adapter with the profiles of its devices filled in. Faults of the reference are put into `found`. */
  expand(module: AdapterDefinition, settings: Values, path: ConfigPath, found: Explained[]): Values {
    const { devices } = settings;
    if (module.profiles === undefined || !isRecord(devices)) return settings;
    const expanded = Object.entries(devices).map(([deviceId, device]): [string, unknown] => {
      if (!isRecord(device) || typeof device['profile'] !== 'string') return [deviceId, device];
      const at = [...path, 'devices', deviceId, 'profile'];
      return [deviceId, this.#withProfile(module, device, device['profile'], at, found)];
    });
    return { ...settings, devices: Object.fromEntries(expanded) };
  }

  #withProfile(module: AdapterDefinition, device: Values, name: string, path: ConfigPath, found: Explained[]): Values {
    const kept = Object.hasOwn(this.#kept, name) ? this.#kept[name] : undefined;
    const entries = kept === undefined ? listProfiles(module, this.#ownDirectory) : [];
    const entry =
      kept === undefined
        ? entries.find((candidate) => candidate.name === name)
        : { name, file: join(this.#ownDirectory ?? '', `${name}${EXTENSION}`) };
    if (entry === undefined) {
      const names = entries.map((candidate) => candidate.name);
      const meant = nearest(name, names);
      const hint = meant === undefined ? ` There are ${names.join(', ')}.` : ` Did you mean "${meant}"?`;
      found.push({ path, at: 'value', message: `there is no profile "${name.slice(0, 60)}".${hint}` });
      return { points: {}, ...device };
    }
    const { values, file } = this.#load(module, entry, kept);
    if (values === undefined) {
      found.push({ path, at: 'value', message: `the profile has faults, see ${file}.` });
      return { points: {}, ...device };
    }
    return mergeProfile(values, device);
  }

  #load(module: AdapterDefinition, { name, file }: ProfileEntry, kept: string | undefined): LoadedProfile {
    const known = this.#loaded.get(file);
    if (known !== undefined) return known;
    const text = kept ?? readText(file);
    const result = parseProfile(module, file, text);
    if (text !== undefined && this.#ownDirectory !== undefined && dirname(file) === this.#ownDirectory) {
      this.#own.set(name, text);
    }
    this.#faults.push(...result.faults);
    const loaded = { values: result.faults.length === 0 ? result.values : undefined, file };
    this.#loaded.set(file, loaded);
    return loaded;
  }
}

/** Reads and checks one profile. `faults` is empty when it can be used. */
export function readProfile(
  module: Pick<AdapterDefinition, 'profiles'>,
  file: string,
): { readonly values: Values; readonly faults: readonly LocatedFault[] } {
  return parseProfile(module, file, readText(file));
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function parseProfile(
  module: Pick<AdapterDefinition, 'profiles'>,
  file: string,
  text: string | undefined,
): { readonly values: Values; readonly faults: readonly LocatedFault[] } {
  if (text === undefined) {
    return { values: {}, faults: [{ file, line: 1, path: [], message: 'the profile cannot be read.' }] };
  }
  // Profiles are shared between people: they hold no secrets, and so see none.
  const document = parseConfigText(text, file, { env: {}, directory: '/nonexistent' }, () => undefined);
  const values = isRecord(document.value) ? document.value : {};
  if (!document.readable || module.profiles === undefined) return { values, faults: document.faults };
  if (!isRecord(document.value)) {
    const message = 'is no profile: a profile is a map with title, source and points.';
    return { values, faults: [...document.faults, { file, line: 1, path: [], message }] };
  }
  const { schema, check } = module.profiles;
  const parsed = schema.safeParse(values);
  const explained: Explained[] = parsed.success
    ? (check?.(values) ?? []).map(({ path, message }: ConfigFault) => ({
        path,
        message: sentence(message),
        at: 'value',
      }))
    : explainIssues(parsed.error.issues, { schema, value: values, prefix: [], secrets: document.secrets });
  const located = explained.map(({ path, message, at }) => ({
    file,
    line: at === 'key' ? document.keyLine(path) : document.line(path),
    path,
    message,
  }));
  return { values, faults: [...document.faults, ...located] };
}

/** Fields of the device over those of the profile; points of one name are joined field by field. */
function mergeProfile(profile: Values, device: Values): Values {
  const quirks = isRecord(profile['device']) ? profile['device'] : {};
  const points: Record<string, unknown> = { ...(isRecord(profile['points']) ? profile['points'] : {}) };
  for (const [name, point] of Object.entries(isRecord(device['points']) ? device['points'] : {})) {
    const base = points[name];
    points[name] = isRecord(base) && isRecord(point) ? { ...base, ...noRules(point), ...point } : point;
  }
  return { ...quirks, ...device, points: isRecord(device['points'] ?? {}) ? points : device['points'] };
}

/** Who takes the right to write from a point of the profile has not to take its limits too. */
function noRules(point: Values): Values {
  return point['writable'] === false ? { write: undefined } : {};
}
