// The numbered generations of the configuration on disk: `NNNNNN.yaml`, the text as a person wrote it, and `NNNNNN.json`,
// what became of it. A generation exists once its `.json` is there, which is written last; both are replaced atomically. One
// that ran has beside it, as `NNNNNN.profiles.json`, the profiles of the user's own folder with which it did.

import { createHash } from 'node:crypto';
import { readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { ProfileTexts } from './profiles.ts';
import { makeDirectory, syncDirectory, writeFileAtomic } from '../platform/files.ts';

/**
 * `pending`: loaded, not yet seen to run. `trial`: reverts unless confirmed. `healthy`: ran; there is at most one.
 * `superseded`: was replaced by a newer one. `failed`: is not to run; `cause` says why.
 */
export type GenerationState = 'pending' | 'trial' | 'healthy' | 'superseded' | 'failed';

/**
 * `invalid`: has faults. `unconfirmed`: a trial that nobody confirmed. `reverted`: taken back by a person or because a
 * part did not start with it. `interrupted`: the process ended before the file was written. `unwritten`: it could not be.
 */
export type FailureCause = 'invalid' | 'unconfirmed' | 'reverted' | 'interrupted' | 'unwritten';

const metaSchema = z.object({
  number: z.int().min(1),
  actor: z.string(),
  at: z.string(),
  base: z.int().min(0),
  state: z.enum(['pending', 'trial', 'healthy', 'superseded', 'failed']),
  cause: z.enum(['invalid', 'unconfirmed', 'reverted', 'interrupted', 'unwritten']).optional(),
  reason: z.string().optional(),
  sha256: z.string(),
});

const profilesSchema = z.record(z.string(), z.string());

export interface Generation {
  /** From 1, without gaps but for pruned ones. */
  readonly number: number;
  /** Who made it: `file`, `starter`, `migration`, or what a proposal said, such as `ui:anna`. */
  readonly actor: string;
  /** Wall clock when it was made, ISO 8601, as it was believed then. */
  readonly at: string;
  /** The generation that ran when it was made, and to which it reverts; 0 for the first. */
  readonly base: number;
  readonly state: GenerationState;
  readonly cause?: FailureCause | undefined;
  /** Why it failed, in words; never with secrets. */
  readonly reason?: string | undefined;
  /** Of the text. */
  readonly sha256: string;
}

export interface Failure {
  readonly cause: FailureCause;
  readonly reason: string;
}

/** The most characters of a reason that are kept. */
const REASON_CHARS = 4000;

export function textHash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export class GenerationStore {
  readonly #directory: string;
  readonly #generations = new Map<number, Generation>();
  #lastNumber = 0;
  #running = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** @throws GatewayError GW_CONFIG_IO when the directory cannot be made or read. */
  static async open(directory: string): Promise<GenerationStore> {
    const store = new GenerationStore(directory);
    try {
      await makeDirectory(directory);
      await store.#read();
    } catch (error) {
      throw ioError(`The configuration's generations in ${directory} could not be opened`, error);
    }
    return store;
  }

  /** The generation that runs is kept, however old it is. */
  setRunning(number: number): void {
    this.#running = number;
  }

  /** Oldest first. */
  list(): readonly Generation[] {
    return [...this.#generations.values()].toSorted((a, b) => a.number - b.number);
  }

  newest(): Generation | undefined {
    return this.list().at(-1);
  }

  /** The newest whose text stood in the file, as far as can be told. */
  newestInFile(): Generation | undefined {
    return this.list().findLast(({ cause }) => cause !== 'interrupted' && cause !== 'unwritten');
  }

  /** The one that a start is to run. */
  inUse(): Generation | undefined {
    return this.list().findLast(({ state }) => state === 'healthy' || state === 'pending');
  }

  /**
   * The newest with that text of those that were taken back since the one in use was made, of which there may be several:
   * such a text is still in the file only because the file could not be put back.
   */
  takenBack(sha256: string): Generation | undefined {
    const since = this.inUse()?.number ?? 0;
    return this.list().findLast((one) => one.number > since && one.sha256 === sha256 && isTakenBack(one));
  }

  /** @throws GatewayError GW_NOT_FOUND. */
  get(number: number): Generation {
    const generation = this.#generations.get(number);
    if (generation !== undefined) return generation;
    const numbers = this.list().map((one) => one.number);
    const range = numbers.length === 0 ? 'there are none' : `there are ${numbers[0]} to ${numbers.at(-1)}`;
    throw new GatewayError('GW_NOT_FOUND', `There is no generation ${number} of the configuration; ${range}.`);
  }

  /** @throws GatewayError GW_NOT_FOUND, GW_CONFIG_IO when the text cannot be read or is not what was written. */
  async text(number: number): Promise<string> {
    const { sha256 } = this.get(number);
    const path = this.path(number);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      throw ioError(`${path} could not be read`, error);
    }
    if (textHash(text) === sha256) return text;
    throw new GatewayError('GW_CONFIG_IO', `${path} is not what was written: its checksum differs. It is not used.`);
  }

  /** Own profiles with which a generation ran, by name. Empty where none were kept, or they cannot be read. */
  async profiles(number: number): Promise<ProfileTexts> {
    try {
      return profilesSchema.parse(JSON.parse(await readFile(this.#profilesPath(number), 'utf8')));
    } catch {
      return {};
    }
  }

  /** Durable when it resolves. @throws GatewayError GW_CONFIG_IO. */
  async keepProfiles(number: number, profiles: ProfileTexts): Promise<void> {
    if (Object.keys(profiles).length === 0) return;
    try {
      await writeFileAtomic(this.#profilesPath(number), `${JSON.stringify(profiles, null, 2)}\n`, { mode: 0o600 });
    } catch (error) {
      throw ioError(`The profiles of generation ${number} could not be written to ${this.#directory}`, error);
    }
  }

  #profilesPath(number: number): string {
    return join(this.#directory, `${fileName(number)}.profiles.json`);
  }

  /** Where the text of a generation is, for messages. */
  path(number: number): string {
    return join(this.#directory, `${fileName(number)}.yaml`);
  }

  /** Durable when it resolves. @throws GatewayError GW_CONFIG_IO. */
  async add(
    text: string,
    facts: Pick<Generation, 'actor' | 'at' | 'base' | 'state'> & { readonly failure?: Failure },
  ): Promise<Generation> {
    const { failure, ...rest } = facts;
    const number = this.#lastNumber + 1;
    const generation: Generation = { number, ...rest, ...failureFields(failure), sha256: textHash(text) };
    try {
      await writeFileAtomic(this.path(number), text, { mode: 0o600 });
      // The number is used from here on, whatever comes of the rest.
      this.#lastNumber = number;
      await this.#writeMeta(generation);
    } catch (error) {
      throw ioError(`Generation ${number} of the configuration could not be written to ${this.#directory}`, error);
    }
    this.#generations.set(number, generation);
    await this.#prune();
    return generation;
  }

  /** Durable when it resolves. @throws GatewayError GW_NOT_FOUND, GW_CONFIG_IO. */
  async setState(number: number, state: GenerationState, failure?: Failure): Promise<Generation> {
    const { cause: _cause, reason: _reason, ...rest } = this.get(number);
    const generation: Generation = { ...rest, state, ...failureFields(failure) };
    try {
      await this.#writeMeta(generation);
    } catch (error) {
      throw ioError(`The state of generation ${number} could not be written to ${this.#directory}`, error);
    }
    this.#generations.set(number, generation);
    return generation;
  }

  async #writeMeta(generation: Generation): Promise<void> {
    const path = join(this.#directory, `${fileName(generation.number)}.json`);
    await writeFileAtomic(path, `${JSON.stringify(generation, null, 2)}\n`, { mode: 0o600 });
  }

  async #read(): Promise<void> {
    const names = await readdir(this.#directory);
    for (const name of names) {
      if (/^\..*\.tmp$/.test(name)) await unlink(join(this.#directory, name)).catch(() => {});
      const number = Number(/^(\d+)\.(?:yaml|json)$/.exec(name)?.[1] ?? 0);
      this.#lastNumber = Math.max(this.#lastNumber, number);
      if (name.endsWith('.json') && number > 0) {
        const generation = await readMeta(join(this.#directory, name), number);
        if (generation !== undefined) this.#generations.set(number, generation);
      }
    }
    // Texts whose `.json` never came were never generations: the process ended in between.
    for (const name of names) {
      const number = Number(/^(\d+)\.yaml$/.exec(name)?.[1] ?? 0);
      if (number > 0 && !names.includes(`${fileName(number)}.json`)) {
        await unlink(join(this.#directory, name)).catch(() => {});
      }
    }
  }

  /**
   * Keeps the number of generations bounded. The newest, the healthy and the running one stay; what is older than the
   * healthy one goes first, oldest first, then what failed since.
   */
  async #prune(): Promise<void> {
    const all = this.list();
    const excess = all.length - LIMITS.config_generations;
    if (excess <= 0) return;
    const newest = all.at(-1)?.number;
    const healthy = all.findLast(({ state }) => state === 'healthy')?.number ?? 0;
    // What runs, and what the newest change would be taken back to, may be older than that.
    const base = all.findLast(({ state }) => state === 'trial' || state === 'pending')?.base;
    const inUse = new Set([newest, healthy, base, this.#running]);
    const older = all.filter(({ number }) => number < healthy && !inUse.has(number));
    const newer = all.filter(({ number, state }) => number > healthy && !inUse.has(number) && state !== 'trial');
    const failed = newer.filter(({ state }) => state === 'failed');
    const rest = newer.filter(({ state }) => state !== 'failed');
    for (const { number } of [...older, ...failed, ...rest].slice(0, excess)) {
      // The `.json` first: without it the generation is gone, whatever happens next.
      for (const extension of ['json', 'yaml', 'profiles.json']) {
        await unlink(join(this.#directory, `${fileName(number)}.${extension}`)).catch(() => {});
      }
      this.#generations.delete(number);
    }
    await syncDirectory(this.#directory);
  }
}

function fileName(number: number): string {
  return String(number).padStart(6, '0');
}

export function isTakenBack({ state, cause }: Generation): boolean {
  return state === 'failed' && (cause === 'unconfirmed' || cause === 'reverted');
}

function failureFields(failure: Failure | undefined): { cause?: FailureCause; reason?: string } {
  return failure === undefined ? {} : { cause: failure.cause, reason: failure.reason.slice(0, REASON_CHARS) };
}

/** Undefined for what is not readable: its text is still there for a person, but it is never run. */
async function readMeta(path: string, number: number): Promise<Generation | undefined> {
  try {
    const meta = metaSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    return meta.number === number ? meta : undefined;
  } catch {
    return undefined;
  }
}

function ioError(what: string, error: unknown): GatewayError {
  const code = systemCode(error);
  const hint =
    code === 'EACCES' || code === 'EROFS' || code === 'EPERM'
      ? ' Make the directory writable for the user that runs Fieldpost.'
      : code === 'ENOSPC'
        ? ' The disk is full; free some space.'
        : '';
  return new GatewayError('GW_CONFIG_IO', `${what}: ${errorText(error)}.${hint}`, { cause: error });
}
