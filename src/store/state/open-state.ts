// Opens the state store: as it was left, or after a crash, or damaged. Like the log (recovery.ts), what is damaged is kept
// aside and never deleted, and every entry whose checksum holds is kept. All of it is read at each open, as it is small; a large
// store is read after a crash only, while it serves already, and else finds damage when it reads an entry.

import { errorText, GatewayError } from '../../core/errors.ts';
import type { Clock } from '../../core/clock.ts';
import type { LevelFactory, LevelHandle, LevelTuning } from '../../platform/level-handle.ts';
import { repairLevel } from '../../platform/level.ts';
import { unusableError } from '../../platform/unusable.ts';
import { endRepair, endSalvage, forgetAside, layOut, leaveAsFound, setAside, takeBack } from '../aside.ts';
import { readCleanMark, removeCleanMark, type Shutdown } from '../clean-mark.ts';
import { isDamage } from '../recovery.ts';
import type { Reopening } from '../reopening.ts';
import { seal, unseal } from '../sealed.ts';
import { openAlone } from '../sole-opener.ts';
import { decodeValue, entryBytes, metaKey, parseEntryKey, type SpaceUse, type Tally } from './records.ts';

/** What recovery found and did; the damaged directory stands at `copiedTo`. */
export interface StateSalvage {
  readonly copiedTo: string;
  readonly reason: string;
  readonly entriesKept: number;
  readonly entriesDamaged: number;
}

export interface OpenedState {
  readonly level: LevelHandle;
  readonly spaces: Map<string, SpaceUse>;
  readonly tally: Tally;
  readonly salvage: StateSalvage | undefined;
  /** A large store that was not closed: looks through all of it; resolves with what is wrong, if anything. */
  readonly verify?: (() => Promise<string | undefined>) | undefined;
}

export interface StateOpenOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly level: LevelFactory;
  /** This process has had it open before. */
  readonly wasOpen: boolean;
  /** Whether the file system has no room: then a failure to open is no damage, and there is no room for a salvage. */
  readonly isDiskFull: () => Promise<boolean>;
  /** Holds far more than fits into memory, or is read in a second. */
  readonly isLarge: boolean;
}

const TUNING: LevelTuning = {
  writeBufferBytes: 1024 * 1024,
  cacheBytes: 512 * 1024,
  tableBytes: 2 * 1024 * 1024,
};

/** At most 64 tables are mapped at a time: small ones bound the memory, whatever the store holds. */
const LARGE_TUNING: LevelTuning = {
  writeBufferBytes: 4 * 1024 * 1024,
  cacheBytes: 4 * 1024 * 1024,
  tableBytes: 1024 * 1024,
};

function tuningOf({ isLarge }: StateOpenOptions): LevelTuning {
  return isLarge ? LARGE_TUNING : TUNING;
}

interface StoreFormat {
  readonly writes: number;
  /** A release that writes less than this cannot read it. */
  readonly readable_from: number;
}

const FORMAT: StoreFormat = { writes: 1, readable_from: 1 };

interface Scan {
  readonly spaces: Map<string, SpaceUse>;
  readonly tally: Tally | undefined;
  readonly entries: number;
  readonly damaged: readonly Buffer[];
}

/** @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_FORMAT, GW_STORE_OPEN. */
export function openState(options: StateOpenOptions, how: Reopening): Promise<OpenedState> {
  return openAlone(options.directory, () => open(options, how));
}

async function open(options: StateOpenOptions, how: Reopening): Promise<OpenedState> {
  const { directory, isDiskFull } = options;
  let shutdown: Shutdown;
  let unsafe: string | undefined;
  try {
    await endRepair(directory, options.clock.wallMs());
    await takeBack(directory);
    shutdown = await readCleanMark(directory);
    unsafe = await setAside(directory, options.wasOpen);
  } catch (error) {
    throw unusableError(directory, error);
  }
  const known = unsafe ?? how.damage;
  if (known !== undefined && !(await isDiskFull())) return salvage(options, known, shutdown);
  if (unsafe !== undefined) {
    await leaveAsFound(directory, unsafe);
    throw openError(directory, new Error(`${unsafe}, and there is no room to repair it`));
  }
  let damage: string;
  try {
    const found = await openAsLeft(options, shutdown);
    if (typeof found !== 'string') return found;
    damage = found;
  } catch (error) {
    if (!(await isDamage({ directory, isDiskFull, thorough: how.thorough }, error))) {
      await leaveAsFound(directory, error);
      throw openError(directory, error);
    }
    damage = errorText(error);
  }
  return salvage(options, damage, shutdown);
}

/** The store when it is sound, else what is wrong with it. */
async function openAsLeft(options: StateOpenOptions, shutdown: Shutdown): Promise<OpenedState | string> {
  const { directory } = options;
  const level = await options.level(directory, tuningOf(options));
  try {
    const known = await readFormat(level, directory);
    const told = options.isLarge ? await toldUse(level, shutdown) : undefined;
    const found = told ?? (await scan(level));
    const damage = damageOf(found, shutdown, known);
    if (damage !== undefined) {
      await level.close();
      return damage;
    }
    // An iterator sees one moment: the tally, and the entries that it counts.
    const verify =
      told === undefined || shutdown.kind !== 'unclean'
        ? undefined
        : async () => damageOf(await scan(level), shutdown, known);
    const opened = await begin(level, found, options.isLarge);
    await removeCleanMark(directory);
    await forgetAside(directory);
    return { ...opened, salvage: undefined, verify };
  } catch (error) {
    await level.close().catch(() => {});
    throw error;
  }
}

/** What a large store's last commit says of it; undefined where that does not do, and all has to be read. */
async function toldUse(level: LevelHandle, shutdown: Shutdown): Promise<Scan | undefined> {
  const tally = unseal(await level.get(metaKey('tally'))) as Tally | undefined;
  if (tally?.spaces === undefined || shutdown.kind === 'changed') return undefined;
  const spaces = new Map(Object.entries(tally.spaces).map(([name, use]) => [name, { ...use }]));
  return { spaces, tally, entries: tally.entries, damaged: [] };
}

/** Writes the format and a tally that fits what is there, which also shows that the store can be written. */
export async function begin(
  level: LevelHandle,
  found: Scan,
  isLarge = false,
): Promise<Omit<OpenedState, 'salvage' | 'verify'>> {
  const tally: Tally = {
    commits: (found.tally?.commits ?? 0) + 1,
    entries: found.entries,
    ...(isLarge && { spaces: Object.fromEntries(found.spaces) }),
  };
  await level.write(
    [
      { key: metaKey('format'), value: seal(FORMAT) },
      { key: metaKey('tally'), value: seal(tally) },
    ],
    { sync: true },
  );
  return { level, spaces: found.spaces, tally };
}

/** Undefined for a store that was never written. @throws GatewayError GW_STORE_FORMAT. */
async function readFormat(level: LevelHandle, where: string): Promise<StoreFormat | undefined> {
  const format = unseal(await level.get(metaKey('format'))) as StoreFormat | undefined;
  if (format !== undefined && format.readable_from > FORMAT.writes) {
    throw new GatewayError(
      'GW_STORE_FORMAT',
      `${where} was written by a newer Fieldpost (format ${format.writes}, readable from ${format.readable_from}; this one reads ${FORMAT.writes}). Install that release again, or move the directory away to begin with an empty one.`,
      { details: { ...format } },
    );
  }
  return format;
}

export async function scan(level: LevelHandle): Promise<Scan> {
  const spaces = new Map<string, SpaceUse>();
  const damaged: Buffer[] = [];
  let tally: Tally | undefined;
  let entries = 0;
  for await (const { key, value } of level.entries({})) {
    if (key[0] === 0) {
      const known = unseal(value);
      if (known === undefined) damaged.push(key);
      else if (key.equals(metaKey('tally'))) tally = known as Tally;
      continue;
    }
    const parsed = parseEntryKey(key);
    if (parsed === undefined || decodeValue(key, value) === undefined) {
      damaged.push(key);
      continue;
    }
    const use = spaces.get(parsed.space) ?? { keys: 0, bytes: 0 };
    use.keys += 1;
    use.bytes += entryBytes(key, value);
    spaces.set(parsed.space, use);
    entries += 1;
  }
  return { spaces, tally, entries, damaged };
}

/** Undefined for a store that is as it should be. */
function damageOf(found: Scan, shutdown: Shutdown, format: StoreFormat | undefined): string | undefined {
  const { tally, entries, damaged } = found;
  if (damaged.length > 0) return `${damaged.length} entries are damaged`;
  if (tally !== undefined && tally.entries !== entries) return `${entries} of ${tally.entries} entries can be read`;
  if (tally === undefined && (entries > 0 || format !== undefined)) return 'the store has lost its tally';
  if (shutdown.kind === 'unclean') return undefined;
  if (shutdown.kind === 'changed' && shutdown.table) return `${shutdown.file} is not as it was left`;
  if ((tally?.commits ?? 0) < shutdown.tail) {
    return `the store ends at commit ${tally?.commits ?? 0}, but was closed at ${shutdown.tail}`;
  }
  return undefined;
}

async function salvage(options: StateOpenOptions, reason: string, shutdown: Shutdown): Promise<OpenedState> {
  const { directory } = options;
  let entriesDamaged;
  try {
    const copy = await layOut(directory);
    await repairLevel(copy);
    entriesDamaged = await sweep(options, copy);
  } catch (error) {
    await leaveAsFound(directory, error);
    throw openError(directory, error);
  }
  const copiedTo = await endSalvage(directory, options.clock.wallMs());
  await removeCleanMark(directory);
  const level = await options.level(directory, tuningOf(options));
  const found = await scan(level);
  const commits = Math.max(found.tally?.commits ?? 0, shutdown.kind === 'unclean' ? 0 : shutdown.tail);
  const opened = await begin(level, { ...found, tally: { commits, entries: found.entries } }, options.isLarge);
  return { ...opened, salvage: { copiedTo, reason, entriesKept: found.entries, entriesDamaged } };
}

/** Deletes what is damaged from the repaired store; returns how many entries that were. */
async function sweep(options: StateOpenOptions, directory: string): Promise<number> {
  const level = await options.level(directory, tuningOf(options));
  try {
    const { damaged } = await scan(level);
    const writes = damaged.map((key) => ({ key, value: undefined }));
    if (writes.length > 0) await level.write(writes, { sync: true });
    return damaged.length;
  } finally {
    await level.close();
  }
}

function openError(directory: string, error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  return new GatewayError('GW_STORE_OPEN', `${directory} could not be read: ${errorText(error)}.`, { cause: error });
}
