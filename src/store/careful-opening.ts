// The opening that the log and the state store share: as it was left, or after a crash, or damaged. Damage is never deleted:
// the directory as it was found is kept aside, a copy of it is repaired, and takes its place when it is whole.

import { readFile, rm } from 'node:fs/promises';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import { writeFileAtomic } from '../platform/files.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { repairLevel } from '../platform/level.ts';
import { systemCodes, unusableError } from '../platform/unusable.ts';
import { endRepair, endSalvage, forgetAside, layOut, leaveAsFound, setAside, takeBack } from './aside.ts';
import { readCleanMark, removeCleanMark, type Shutdown } from './clean-mark.ts';
import type { Reopening } from './reopening.ts';
import { openAlone } from './sole-opener.ts';

export interface OpeningPlace {
  readonly directory: string;
  readonly clock: Clock;
  /** This process has had it open before. */
  readonly wasOpen: boolean;
  /** Whether the file system has no room: then a failure to open is no damage, and there is no room for a salvage. */
  readonly isDiskFull: () => Promise<boolean>;
}

/** What a salvage found, and where it is kept. */
export interface Salvaged<Swept> {
  readonly swept: Swept;
  /** Where the files stand as they were found. */
  readonly copiedTo: string;
  readonly reason: string;
  readonly shutdown: Shutdown;
}

/** The steps that differ between the stores. */
export interface OpeningSteps<Opened extends { readonly level: LevelHandle }, Swept> {
  /** The store when it is sound, else what is wrong with it and it is closed again. Closes what it opened when it throws. */
  readonly openAsLeft: (shutdown: Shutdown) => Promise<Opened | string>;
  /** Deletes what is damaged from a store that LevelDB has repaired, so that no later open stumbles over it. */
  readonly sweep: (directory: string) => Promise<Swept>;
  readonly openSalvaged: (salvaged: Salvaged<Swept>) => Promise<Opened>;
}

/** @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_FORMAT, GW_STORE_OPEN. */
export function openCarefully<Opened extends { readonly level: LevelHandle }, Swept>(
  place: OpeningPlace,
  how: Reopening,
  steps: OpeningSteps<Opened, Swept>,
): Promise<Opened> {
  return openAlone(place.directory, () => open(place, how, steps));
}

async function open<Opened extends { readonly level: LevelHandle }, Swept>(
  place: OpeningPlace,
  { thorough, damage }: Reopening,
  steps: OpeningSteps<Opened, Swept>,
): Promise<Opened> {
  const { directory, clock, isDiskFull } = place;
  let shutdown: Shutdown;
  let unsafe: string | undefined;
  try {
    await endRepair(directory, clock.wallMs());
    await takeBack(directory);
    shutdown = await readCleanMark(directory);
    unsafe = await setAside(directory, place.wasOpen);
  } catch (error) {
    throw unusableError(directory, error);
  }
  // A full disk has no room for a salvage, and may be all that is wrong.
  const known = unsafe ?? damage;
  if (known !== undefined && !(await isDiskFull())) return salvage(place, steps, known, shutdown);
  if (unsafe !== undefined) {
    await leaveAsFound(directory, unsafe);
    throw openError(directory, new Error(`${unsafe}, and there is no room to repair it`));
  }
  let reason: string;
  try {
    const found = await openAsLeft(directory, steps, shutdown);
    if (typeof found !== 'string') return found;
    reason = found;
  } catch (error) {
    if (!(await isDamage({ directory, isDiskFull, thorough }, error))) {
      await leaveAsFound(directory, error);
      throw openError(directory, error);
    }
    reason = errorText(error);
  }
  return salvage(place, steps, reason, shutdown);
}

async function openAsLeft<Opened extends { readonly level: LevelHandle }, Swept>(
  directory: string,
  steps: OpeningSteps<Opened, Swept>,
  shutdown: Shutdown,
): Promise<Opened | string> {
  const found = await steps.openAsLeft(shutdown);
  if (typeof found === 'string') return found;
  try {
    await removeCleanMark(directory);
    await forgetAside(directory);
  } catch (error) {
    await found.level.close().catch(() => {});
    throw error;
  }
  return found;
}

async function salvage<Opened extends { readonly level: LevelHandle }, Swept>(
  { directory, clock }: OpeningPlace,
  steps: OpeningSteps<Opened, Swept>,
  reason: string,
  shutdown: Shutdown,
): Promise<Opened> {
  let swept;
  try {
    const copy = await layOut(directory);
    await repairLevel(copy);
    swept = await steps.sweep(copy);
  } catch (error) {
    await leaveAsFound(directory, error);
    throw openError(directory, error);
  }
  const copiedTo = await endSalvage(directory, clock.wallMs());
  return steps.openSalvaged({ swept, copiedTo, reason, shutdown });
}

/** Whether an error of the store means that its files are damaged, and not that the disk or the caller is at fault. */
export async function isDamage(
  options: Pick<OpeningPlace, 'directory' | 'isDiskFull'> & Pick<Reopening, 'thorough'>,
  error: unknown,
): Promise<boolean> {
  if (error instanceof GatewayError && error.code !== 'GW_STORE_OPEN') return false;
  if (await options.isDiskFull()) return false;
  if (systemCodes(error).includes('LEVEL_CORRUPTION')) return true;
  // LevelDB calls a table that was cut off an I/O error too; a disk that itself fails is not healed by a salvage.
  return options.thorough && (await canWrite(options.directory));
}

async function canWrite(directory: string): Promise<boolean> {
  try {
    await writeFileAtomic(`${directory}.probe`, 'probe');
    return (await readFile(`${directory}.probe`, 'utf8')) === 'probe';
  } catch {
    return false;
  } finally {
    await rm(`${directory}.probe`, { force: true });
  }
}

function openError(directory: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  return new GatewayError('GW_STORE_OPEN', `${directory} could not be read: ${errorText(error)}.`, { cause: error });
}
