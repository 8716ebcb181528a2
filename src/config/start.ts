// What runs after a start: the file, else the newest generation that was healthy and still loads. What a crash left in
// between is settled first, by comparing the file with the newest generation.

import { errorText, GatewayError, isGatewayError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { LoadedConfig } from './config.ts';
import { readConfigFile, writeConfigFile } from './config-file.ts';
import { formatFault } from './fault.ts';
import {
  type Generation,
  type GenerationState,
  type GenerationStore,
  isTakenBack,
  textHash,
} from './generation-store.ts';
import { configInvalidError, type LoadResult } from './load.ts';

export interface StartContext {
  readonly configPath: string;
  readonly generations: GenerationStore;
  readonly log: Logger;
  /** Checks a text as that of the file; `keepsUnresolved` as in `LoadOptions`. */
  readonly check: (text: string, keepsUnresolved?: boolean) => LoadResult;
  /**
   * Checks a generation, with the profiles with which it ran where it does not load with those that are there now, and without
   * the parts whose secrets are gone.
   */
  readonly checkGeneration: (number: number) => Promise<LoadResult>;
  readonly add: (text: string, actor: string, base: number, state: GenerationState) => Promise<Generation>;
  /** Text of the configuration for a first start, when neither a file nor a generation is there. */
  readonly starter?: (() => string) | undefined;
}

export interface StartDecision {
  readonly generation: Generation;
  readonly loaded: LoadedConfig;
  /** Why it is not the text of the file. */
  readonly faults: readonly string[];
}

/** @throws GatewayError GW_CONFIG_INVALID, GW_CONFIG_IO: nothing loads. */
export async function decideAtStart(context: StartContext): Promise<StartDecision> {
  const { configPath, generations } = context;
  await settleInterrupted(context);
  let text: string;
  try {
    text = readConfigFile(configPath);
  } catch (error) {
    if (!isGatewayError(error, 'GW_CONFIG_IO')) throw error;
    if (error.details['missing'] === true && generations.newest() === undefined && context.starter !== undefined) {
      return firstStart(context, context.starter());
    }
    return fallBack(context, [`${configPath}:1: ${error.message}`], error);
  }
  const generation = await generationOf(context, text);
  if (isTakenBack(generation)) {
    const fault = `${configPath}:1: this text is generation ${generation.number}, which was taken back: ${generation.reason ?? ''} Change it, or propose it again.`;
    return fallBack(context, [fault]);
  }
  const result = context.check(text);
  if (result.ok) return { ...(await accept(context, generation, result.loaded)), faults: [] };
  if (generation.state === 'healthy') {
    // It ran, and it is its surroundings that changed: a secret that is gone costs the part that needs it, not the site.
    const partly = context.check(text, true);
    if (partly.ok) return { generation, loaded: partly.loaded, faults: [] };
  }
  return fallBack(context, await refuse(context, generation, result));
}

async function firstStart(context: StartContext, text: string): Promise<StartDecision> {
  const result = context.check(text);
  if (!result.ok) throw configInvalidError(result.faults);
  await writeConfigFile(context.configPath, text);
  return { generation: await context.add(text, 'starter', 0, 'pending'), loaded: result.loaded, faults: [] };
}

async function settleInterrupted({ configPath, generations, log }: StartContext): Promise<void> {
  const newest = generations.newest();
  if (newest === undefined || (newest.state !== 'trial' && newest.state !== 'pending')) return;
  if (!fileHolds(configPath, newest)) {
    // One that was made from the file, and the file edited again before it ran, is simply replaced.
    if (newest.state === 'pending' && newest.actor === 'file') await generations.setState(newest.number, 'superseded');
    else {
      const reason = 'The gateway stopped before this generation was in use.';
      await generations.setState(newest.number, 'failed', { cause: 'interrupted', reason });
    }
    return;
  }
  if (newest.state === 'pending') return;
  const reason = 'The gateway stopped before the trial was confirmed.';
  await generations.setState(newest.number, 'failed', { cause: 'unconfirmed', reason });
  const { number, base } = newest;
  log.error({ generation: number, base }, 'A trial configuration was not confirmed; the one before it runs again.');
  try {
    await writeConfigFile(configPath, await generations.text(base));
  } catch (error) {
    log.error({ reason: errorText(error) }, 'The file of the configuration could not be put back.');
  }
}

function fileHolds(configPath: string, generation: Generation): boolean {
  try {
    return textHash(readConfigFile(configPath)) === generation.sha256;
  } catch {
    return false;
  }
}

/** The generation that a text of the file is; a new one when it is not the one that is known to be in use. */
async function generationOf({ generations, add }: StartContext, text: string): Promise<Generation> {
  const hash = textHash(text);
  const last = generations.newestInFile();
  const inUse = generations.inUse();
  if (inUse?.sha256 === hash) return inUse;
  if (last?.sha256 === hash && last.cause === 'invalid') return last;
  return generations.takenBack(hash) ?? add(text, 'file', inUse?.number ?? 0, 'pending');
}

/** One that failed before, for a secret that was missing, is good again. One of an older version is brought to this one. */
async function accept(
  context: StartContext,
  generation: Generation,
  loaded: LoadedConfig,
): Promise<Omit<StartDecision, 'faults'>> {
  const { generations, configPath, log } = context;
  const good = generation.state === 'failed' ? await generations.setState(generation.number, 'pending') : generation;
  if (loaded.migrated === undefined) return { generation: good, loaded };
  const { from, text } = loaded.migrated;
  const result = context.check(text);
  if (!result.ok) throw configInvalidError(result.faults);
  await writeConfigFile(`${configPath}.version-${from}`, loaded.text);
  const migrated = await context.add(text, 'migration', good.number, 'pending');
  await writeConfigFile(configPath, text);
  log.info({ from, generation: migrated.number }, 'The configuration was brought to the version of this release.');
  return { generation: migrated, loaded: result.loaded };
}

async function refuse(
  { generations }: StartContext,
  generation: Generation,
  result: LoadResult & { ok: false },
): Promise<string[]> {
  const faults = result.faults.map(formatFault);
  // A healthy one stays healthy: it is its surroundings that changed, such as a profile that is gone.
  if (generation.state === 'pending' || generation.state === 'failed') {
    await generations.setState(generation.number, 'failed', { cause: 'invalid', reason: faults.join('\n') });
  }
  return faults;
}

async function fallBack(
  context: StartContext,
  faults: readonly string[],
  error?: GatewayError,
): Promise<StartDecision> {
  const newestFirst = context.generations.list().toReversed();
  const candidates = (['healthy', 'superseded'] as const).flatMap((state) =>
    newestFirst.filter((one) => one.state === state),
  );
  for (const generation of candidates) {
    const loaded = await tryGeneration(context, generation);
    if (loaded === undefined) continue;
    const fields = { generation: generation.number, faults };
    context.log.error(fields, 'The configuration does not load; the last one that did runs instead.');
    return { generation, loaded, faults };
  }
  if (error !== undefined) throw error;
  throw new GatewayError('GW_CONFIG_INVALID', faults.join('\n'), { details: { faults } });
}

async function tryGeneration(
  { checkGeneration, log }: StartContext,
  { number }: Generation,
): Promise<LoadedConfig | undefined> {
  try {
    const result = await checkGeneration(number);
    if (result.ok) return result.loaded;
    const fields = { generation: number, faults: result.faults.map(formatFault) };
    log.warn(fields, 'A generation of the configuration does not load.');
  } catch (error) {
    log.warn({ generation: number, reason: errorText(error) }, 'A generation of the configuration cannot be read.');
  }
  return undefined;
}
