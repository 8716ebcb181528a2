// Which configuration runs. Invariants:
//
// - The file is the one that people edit; every text that was ever taken from it, or put into it, is a generation.
// - A generation is on disk before the file is replaced, and the file is replaced before the change is reported done. What
//   a crash leaves in between is told by comparing the file with the newest generation, and the file wins.
// - Every change names the generation that ran when its author read it; when another one runs by then, it is a conflict. What
//   failed in between changes nothing.
// - A trial that is found unconfirmed at start is reverted: the process that should have confirmed it is gone.
// - A text with faults never replaces what runs. It stays in the file, for the person who wrote it to mend.

import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError, isGatewayError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { ModuleDefinition } from '../core/module.ts';
import { isoTime } from '../core/time.ts';
import type { LoadedConfig } from './config.ts';
import { readConfigFile, writeConfigFile } from './config-file.ts';
import { type ConfigChange, diffConfig } from './diff.ts';
import { formatFault, pathText, type LocatedFault } from './fault.ts';
import { type Failure, type Generation, GenerationStore, textHash } from './generation-store.ts';
import { configInvalidError, loadConfigText, type LoadOptions, type LoadResult } from './load.ts';
import { ModuleCatalogue } from './schema.ts';
import { decideAtStart } from './start.ts';

export interface ConfigStoreOptions extends Omit<
  LoadOptions,
  'catalogue' | 'file' | 'secretsBeside' | 'dataDirectory'
> {
  /** The file that people edit. */
  readonly configPath: string;
  /** Generations are kept in its folder `config-generations`. */
  readonly dataDirectory: string;
  readonly modules: readonly ModuleDefinition[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Text of the configuration for a first start, when there is neither a file nor a generation. */
  readonly starter?: () => string;
}

/** What runs, and what a person has to know about it. */
export interface RunningConfig {
  readonly loaded: LoadedConfig;
  /** Its `actor` is `starter` after a first start. */
  readonly generation: Generation;
  /** Why the text of the file is not what runs, as `file:line: path: message`. Not empty means degraded. */
  readonly faults: readonly string[];
}

/** A change that is on disk and is now to be applied. */
export interface ConfigChangeResult extends RunningConfig {
  readonly changes: readonly ConfigChange[];
}

export interface Proposal {
  /** Who wants it: `ui:anna`, `api`, `method`, … */
  readonly actor: string;
  /** The generation that ran when the author read it (`current()`). */
  readonly base: number;
  /** Above 0: reverts when it is not confirmed within this time. */
  readonly trialSecs?: number;
  /** Where the author has the text, for what is told of its faults; default the file that runs. */
  readonly file?: string;
}

export interface TrialStatus {
  readonly number: number;
  /** The generation to which it reverts. */
  readonly base: number;
  /** 0 when the time is over: `revert` it. */
  readonly remainingMs: number;
}

export class ConfigStore {
  readonly catalogue: ModuleCatalogue;
  readonly #options: ConfigStoreOptions;
  readonly #generations: GenerationStore;
  #running: RunningConfig | undefined;
  #trialEndsMs: number | undefined;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: ConfigStoreOptions, generations: GenerationStore) {
    this.#options = options;
    this.#generations = generations;
    this.catalogue = new ModuleCatalogue(options.modules);
  }

  /** Reads the list of generations, nothing else. @throws GatewayError GW_CONFIG_IO. */
  static async open(options: ConfigStoreOptions): Promise<ConfigStore> {
    return new ConfigStore(options, await GenerationStore.open(join(options.dataDirectory, 'config-generations')));
  }

  /**
   * Decides at start what runs: the file, else the newest generation that was healthy and still loads. With neither a
   * file nor a generation, the starter is written and runs.
   * @throws GatewayError GW_CONFIG_INVALID (`details.faults`) when nothing loads; GW_CONFIG_IO (`details.missing`) when
   *   there is nothing to load.
   */
  load(): Promise<RunningConfig> {
    return this.#exclusive(async () => {
      const { configPath, log } = this.#options;
      const decision = await decideAtStart({
        configPath,
        log,
        generations: this.#generations,
        check: (text, keepsUnresolved) => this.#check(text, configPath, { keepsUnresolved: keepsUnresolved ?? false }),
        checkGeneration: (number) => this.#checkGeneration(number, true),
        add: (text, actor, base, state) => this.#add(text, actor, base, state),
        starter: this.#options.starter,
      });
      return this.#run(decision);
    });
  }

  /** @throws GatewayError GW_INTERNAL before `load` has resolved. */
  current(): RunningConfig {
    if (this.#running === undefined) throw new GatewayError('GW_INTERNAL', 'No configuration is loaded yet.');
    return this.#running;
  }

  /** Oldest first. */
  list(): readonly Generation[] {
    return this.#generations.list();
  }

  /** Text of a generation as it was written: with references, but also with secrets that a person wrote out. */
  read(number: number): Promise<string> {
    return this.#generations.text(number);
  }

  /** Checks a text as if it stood in the file; changes nothing. */
  check(text: string): LoadResult {
    return this.#check(text, this.#options.configPath);
  }

  /**
   * Makes a text the newest generation and writes it to the file. The caller then applies the changes, and says
   * `markHealthy`, or `revert` when a part does not start with it.
   * @throws GatewayError GW_CONFIG_INVALID (`details.faults`), GW_CONFIG_CONFLICT (stale base, a hand edit not yet looked
   *   at, a file that cannot be read, or a trial under way), GW_CONFIG_IO: then nothing has changed.
   */
  propose(text: string, proposal: Proposal): Promise<ConfigChangeResult> {
    return this.#exclusive(() => this.#propose(text, proposal));
  }

  /** Whether a change from that generation would be taken now. @throws GatewayError GW_CONFIG_CONFLICT as `propose`. */
  checkBase(base: number): void {
    this.#refuseConflict(base, this.current().generation.number);
  }

  /**
   * Looks at the file and the profiles that it names, for edits by hand: undefined when they are what was last seen. A text with faults is kept as a failed
   * generation; then, and when the file cannot be read, what runs goes on, and `faults` tells. A hand edit without faults ends a trial.
   */
  reload(): Promise<ConfigChangeResult | undefined> {
    return this.#exclusive(() => this.#reload());
  }

  /** Looks again for the secrets without which parts do not run. Undefined when there are none, or no more than before. */
  recover(): Promise<ConfigChangeResult | undefined> {
    return this.#exclusive(async () => {
      const before = this.current();
      const missing = before.loaded.partFaults.length;
      if (missing === 0) return undefined;
      const result = await this.#checkGeneration(before.generation.number, true);
      if (!result.ok || result.loaded.partFaults.length >= missing) return undefined;
      return this.#change(before, { ...before, loaded: result.loaded });
    });
  }

  /** Undefined when there is no trial. Time is judged by the monotonic clock; whoever holds the timer calls `revert`. */
  trial(): TrialStatus | undefined {
    const generation = this.#running?.generation;
    if (generation?.state !== 'trial' || this.#trialEndsMs === undefined) return undefined;
    const remainingMs = Math.max(0, this.#trialEndsMs - this.#options.clock.monotonicMs());
    return { number: generation.number, base: generation.base, remainingMs };
  }

  /** Keeps a trial. @throws GatewayError GW_CONFIG_CONFLICT when that generation is not on trial (any more). */
  confirm(number: number): Promise<void> {
    return this.#exclusive(async () => {
      if (this.trial()?.number !== number) throw conflict(`Generation ${number} is not on trial.`);
      await this.#makeHealthy(number);
      this.#trialEndsMs = undefined;
    });
  }

  /** Says that a generation runs. A trial still waits for its confirmation. @throws GatewayError GW_NOT_FOUND. */
  markHealthy(number: number): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#generations.get(number).state === 'pending') await this.#makeHealthy(number);
    });
  }

  /**
   * Takes the running generation back: its base is written to the file and runs again.
   * @throws GatewayError GW_CONFIG_CONFLICT when it does not run, or was healthy already (propose the older text instead);
   *   GW_CONFIG_IO, GW_CONFIG_INVALID when the base cannot be used: then nothing has changed.
   */
  revert(number: number, reason = 'Taken back.'): Promise<ConfigChangeResult> {
    return this.#exclusive(() => this.#revert(number, reason));
  }

  async #propose(text: string, { actor, base, trialSecs, file }: Proposal): Promise<ConfigChangeResult> {
    const before = this.current();
    if (trialSecs !== undefined && !(trialSecs > 0 && Number.isFinite(trialSecs))) {
      throw new GatewayError('GW_USAGE', 'The time of a trial must be a number of seconds above 0.');
    }
    this.#refuseConflict(base, before.generation.number);
    const result = this.#checkEdit(text, before);
    if (!result.ok) {
      const { configPath } = this.#options;
      const named = result.faults.map((fault) =>
        file !== undefined && fault.file === configPath ? { ...fault, file } : fault,
      );
      throw configInvalidError(named);
    }
    const written = result.loaded.migrated?.text ?? text;
    const state = trialSecs === undefined ? 'pending' : 'trial';
    const generation = await this.#add(written, actor, before.generation.number, state);
    try {
      await writeConfigFile(this.#options.configPath, written);
    } catch (error) {
      const failure: Failure = { cause: 'unwritten', reason: errorText(error) };
      await this.#generations.setState(generation.number, 'failed', failure);
      throw error;
    }
    this.#trialEndsMs = trialSecs === undefined ? undefined : this.#options.clock.monotonicMs() + trialSecs * 1000;
    return this.#change(before, { generation, loaded: result.loaded, faults: [] });
  }

  #refuseConflict(base: number, running: number): void {
    if (this.trial() !== undefined) throw conflict('A trial is under way; confirm or revert it first.');
    if (base !== running) {
      throw conflict(
        `The change was made from generation ${base}, but ${running} is in use; look at it and make the change again.`,
      );
    }
    // A hand edit that nobody has looked at yet is not overwritten, and what cannot be read may be one.
    const read = this.#readFile();
    if ('error' in read) {
      if (read.isMissing) return;
      throw conflict(`${read.error} It may hold an edit, so it is not replaced; mend or remove it, and try again.`);
    }
    if (!this.#isKnown(read.text)) {
      throw conflict(
        `${this.#options.configPath} was edited by hand meanwhile; reload it, then make the change again.`,
      );
    }
  }

  async #reload(): Promise<ConfigChangeResult | undefined> {
    const before = this.current();
    const { generation } = before;
    const read = this.#readFile();
    if ('error' in read) return this.#refuse(before, [`${this.#options.configPath}:1: ${read.error}`]);
    const { text } = read;
    // A text that was taken back and could not be replaced in the file is not a wish to run it.
    const isSameText = textHash(text) === generation.sha256;
    if (!isSameText && this.#generations.takenBack(textHash(text)) !== undefined) return undefined;
    const result = this.#checkEdit(text, before);
    if (isSameText && result.ok && before.loaded.partFaults.length > 0) {
      // As far as the secrets are there again, it is what ran before they were gone.
      return this.#change(before, { ...before, loaded: result.loaded, faults: [] });
    }
    if (isSameText && result.ok && !this.#meansOther(before, result.loaded)) {
      if (before.faults.length === 0) return undefined;
      // The person took the faulty text back.
      return this.#change(before, { ...before, faults: [] });
    }
    if (!result.ok) {
      const faults = result.faults.map(formatFault);
      if (!this.#isKnown(text)) {
        await this.#add(text, 'file', generation.number, 'failed', { cause: 'invalid', reason: faults.join('\n') });
      }
      return this.#refuse(before, faults);
    }
    if (generation.state === 'trial') {
      const reason = 'The file was edited by hand during the trial.';
      await this.#generations.setState(generation.number, 'failed', { cause: 'reverted', reason });
      this.#trialEndsMs = undefined;
    }
    // After a trial the edit stands on what the trial stood on, so that taking it back does not run the trial.
    const base = generation.state === 'trial' ? generation.base : generation.number;
    const added = await this.#add(text, 'file', base, 'pending');
    return this.#change(before, { generation: added, loaded: result.loaded, faults: [] });
  }

  async #revert(number: number, reason: string): Promise<ConfigChangeResult> {
    const before = this.current();
    const { generation } = before;
    if (generation.number !== number || (generation.state !== 'trial' && generation.state !== 'pending')) {
      throw conflict(
        `Generation ${number} cannot be taken back: it does not run, or was in use already. Propose an older text instead.`,
      );
    }
    if (generation.base === 0) throw conflict(`Generation ${number} is the first; there is nothing to go back to.`);
    const text = await this.#generations.text(generation.base);
    // Without a secret that is gone meanwhile its part does not run, but the rest of what was good does.
    const result = await this.#checkGeneration(generation.base, true);
    if (!result.ok) throw configInvalidError(result.faults);
    const cause = generation.state === 'trial' ? 'unconfirmed' : 'reverted';
    await this.#generations.setState(number, 'failed', { cause, reason });
    this.#trialEndsMs = undefined;
    const faults: string[] = [];
    try {
      await writeConfigFile(this.#options.configPath, text);
    } catch (error) {
      // What runs is right all the same, and the next start knows that this text is not to run.
      faults.push(errorText(error));
      this.#options.log.error({ reason: errorText(error) }, 'The file of the configuration could not be put back.');
    }
    const base = this.#generations.get(generation.base);
    return this.#change(before, { generation: base, loaded: result.loaded, faults });
  }

  async #makeHealthy(number: number): Promise<void> {
    if (this.#running?.generation.number === number) {
      await this.#generations.keepProfiles(number, this.#running.loaded.ownProfiles);
    }
    // The new one first: a crash in between leaves two, of which the newer counts.
    const healthy = await this.#generations.setState(number, 'healthy');
    if (this.#running?.generation.number === number) this.#running = { ...this.#running, generation: healthy };
    for (const one of this.#generations.list()) {
      if (one.number < number && (one.state === 'healthy' || one.state === 'pending')) {
        await this.#generations.setState(one.number, 'superseded');
      }
    }
  }

  #run(running: RunningConfig): RunningConfig {
    this.#running = running;
    this.#generations.setRunning(running.generation.number);
    for (const warning of running.loaded.warnings)
      this.#options.log.warn({ warning }, 'The configuration has a warning.');
    for (const fault of running.loaded.partFaults.map(formatFault))
      this.#options.log.error({ fault }, 'A part does not run, because a secret of it cannot be read; the rest does.');
    return running;
  }

  /** Whether the same text means something else now: a profile that it names was edited. A trial is left as it is. */
  #meansOther({ generation, loaded }: RunningConfig, now: LoadedConfig): boolean {
    return generation.state !== 'trial' && diffConfig(loaded, now, this.catalogue).length > 0;
  }

  /** What runs goes on. */
  #refuse(before: RunningConfig, faults: readonly string[]): ConfigChangeResult {
    this.#running = { ...before, faults };
    return { ...this.#running, changes: [] };
  }

  #change(before: RunningConfig, after: RunningConfig): ConfigChangeResult {
    return { ...this.#run(after), changes: diffConfig(before.loaded, after.loaded, this.catalogue) };
  }

  #add(text: string, actor: string, base: number, state: Generation['state'], failure?: Failure): Promise<Generation> {
    const at = isoTime(this.#options.clock.wallMs());
    return this.#generations.add(text, { actor, at, base, state, ...(failure === undefined ? {} : { failure }) });
  }

  #readFile(): { readonly text: string } | { readonly error: string; readonly isMissing: boolean } {
    try {
      return { text: readConfigFile(this.#options.configPath) };
    } catch (error) {
      if (!isGatewayError(error, 'GW_CONFIG_IO')) throw error;
      return { error: error.message, isMissing: error.details['missing'] === true };
    }
  }

  /** Whether a text of the file is what runs, or one that was refused. */
  #isKnown(text: string): boolean {
    const hash = textHash(text);
    return (
      this.#running?.generation.sha256 === hash ||
      this.#generations.newestInFile()?.sha256 === hash ||
      this.#generations.takenBack(hash) !== undefined
    );
  }

  /** Secrets that what runs is without already are no fault of an edit; others are. */
  #checkEdit(text: string, { loaded: { partFaults } }: RunningConfig): LoadResult {
    const result = this.check(text);
    if (result.ok || partFaults.length === 0) return result;
    const kept = this.#check(text, this.#options.configPath, { keepsUnresolved: true });
    const known = new Set(partFaults.map(faultText));
    return kept.ok && kept.loaded.partFaults.every((fault) => known.has(faultText(fault))) ? kept : result;
  }

  /** @throws GatewayError GW_NOT_FOUND, GW_CONFIG_IO. */
  async #checkGeneration(number: number, keepsUnresolved = false): Promise<LoadResult> {
    const text = await this.#generations.text(number);
    const file = this.#generations.path(number);
    const result = this.#check(text, file, { keepsUnresolved });
    if (result.ok) return result;
    // What it names may have been edited since; a generation that ran is to run again all the same.
    const keptProfiles = await this.#generations.profiles(number);
    const kept = this.#check(text, file, { keepsUnresolved, keptProfiles });
    return kept.ok ? kept : result;
  }

  #check(text: string, file: string, how: Pick<LoadOptions, 'keepsUnresolved' | 'keptProfiles'> = {}): LoadResult {
    // `!file` references of a generation are relative to the file that it was made from.
    const places = { file, secretsBeside: this.#options.configPath };
    return loadConfigText(text, { ...this.#options, ...places, ...how, catalogue: this.catalogue });
  }

  /** One change at a time, in the order of the calls. */
  #exclusive<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** The same wherever it stands. */
function faultText({ path, message }: LocatedFault): string {
  return `${pathText(path)}: ${message}`;
}

function conflict(message: string): GatewayError {
  return new GatewayError('GW_CONFIG_CONFLICT', message);
}
