// Opens the state store (careful-opening.ts): every entry whose checksum holds is kept. All of it is read at each open, as it is small; a large
// store is read after a crash only, while it serves already, and else finds damage when it reads an entry.

import type { LevelFactory, LevelHandle, LevelTuning } from '../../platform/level-handle.ts';
import { openCarefully, type OpeningPlace, type Salvaged } from '../careful-opening.ts';
import { removeCleanMark, type Shutdown } from '../clean-mark.ts';
import { requireReadable, type StoreFormat } from '../format.ts';
import type { Reopening } from '../reopening.ts';
import { seal, unseal } from '../sealed.ts';
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

export interface StateOpenOptions extends OpeningPlace {
  readonly level: LevelFactory;
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

const FORMAT: StoreFormat = { writes: 1, readable_from: 1 };

interface Scan {
  readonly spaces: Map<string, SpaceUse>;
  readonly tally: Tally | undefined;
  readonly entries: number;
  readonly damaged: readonly Buffer[];
}

/** @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_FORMAT, GW_STORE_OPEN. */
export function openState(options: StateOpenOptions, how: Reopening): Promise<OpenedState> {
  return openCarefully(options, how, {
    openAsLeft: (shutdown) => openAsLeft(options, shutdown),
    sweep: (directory) => sweep(options, directory),
    openSalvaged: (salvaged) => openSalvaged(options, salvaged),
  });
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
    return { ...(await begin(level, found, options.isLarge)), salvage: undefined, verify };
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
  requireReadable(format, FORMAT, where);
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

async function openSalvaged(
  options: StateOpenOptions,
  { swept: entriesDamaged, copiedTo, reason, shutdown }: Salvaged<number>,
): Promise<OpenedState> {
  const { directory } = options;
  await removeCleanMark(directory);
  const level = await options.level(directory, tuningOf(options));
  const found = await scan(level);
  const commits = Math.max(found.tally?.commits ?? 0, shutdown.kind === 'unclean' ? 0 : shutdown.tail);
  const opened = await begin(level, { ...found, tally: { commits, entries: found.entries } }, options.isLarge);
  return { ...opened, salvage: { copiedTo, reason, entriesKept: found.entries, entriesDamaged } };
}

/** Returns how many entries were damaged. */
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
