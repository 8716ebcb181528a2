// Opens the log (careful-opening.ts): what it holds, what of it is missing or damaged, and every chunk whose checksum holds
// is kept.

import type { QueueDefinition, SalvageReport } from '../core/outbox.ts';
import { endsWithinRecord } from '../platform/level-log-end.ts';
import type { LevelHandle, LevelTuning, LevelFactory } from '../platform/level-handle.ts';
import { openCarefully, type OpeningPlace, type Salvaged } from './careful-opening.ts';
import { decodeChunk } from './chunk-decoder.ts';
import type { Shutdown } from './clean-mark.ts';
import { isEarlier, readEpoch, readFormat, writeIdentity } from './identity.ts';
import { logFrom, metaKey, parseLogKey, RECORD } from './keys.ts';
import { emptyState, headOffset, keptHead, wantedHead, type LogState } from './log-state.ts';
import { QueueState } from './queue-state.ts';
import { replay, replayChunks, type Gap, type ReplayReport } from './replay.ts';
import type { Reopening } from './reopening.ts';
import { unseal } from './sealed.ts';
import { ShelfClock } from './shelf-clock.ts';
import { decodeStreamBlock } from './stream-block.ts';
import { StreamState, type StreamIdentity } from './stream-state.ts';

/**
 * A quarter of a million small messages: read whole after a crash. Of a longer backlog only what was written last can
 * have suffered from the crash; the rest is checked when it is read.
 */
const VERIFY_BYTES = 64 * 1024 * 1024;
/** More than LevelDB's log ever holds. */
const CUT_MESSAGES = 1_000_000;

export interface RecoveryOptions extends OpeningPlace, Reopening {
  readonly tuning: LevelTuning;
  readonly level: LevelFactory;
  readonly maxAgeSecs: number;
  readonly newEpoch: () => string;
  /** Queues that begin at the oldest message when the store has lost what it knew of its own. */
  readonly queues: readonly QueueDefinition[];
}

export interface OpenedLog {
  readonly level: LevelHandle;
  readonly state: LogState;
  readonly report: SalvageReport | undefined;
  /** Missing offsets that queues still want. */
  readonly gaps: readonly Gap[];
  /** The end of the log was cut off: what was being written, or more, and nobody knows how much. */
  readonly isCut: boolean;
}

interface Loaded {
  readonly level: LevelHandle;
  readonly state: LogState;
  readonly replayed: ReplayReport;
  readonly gaps: readonly Gap[];
  /** Why the store counts as damaged. */
  readonly damage: string | undefined;
}

/** @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_FORMAT, GW_STORE_OPEN. */
export function openLog(options: RecoveryOptions): Promise<OpenedLog> {
  return openCarefully(options, options, {
    async openAsLeft(shutdown) {
      const isCut = shutdown.kind === 'unclean' && !options.wasOpen && (await endsWithinRecord(options.directory));
      const { level, state, damage } = await load(options, shutdown);
      if (damage !== undefined) {
        await level.close();
        return damage;
      }
      if (isCut) await beginAnew(options, level, state);
      return { level, state, report: undefined, gaps: [], isCut };
    },
    sweep: (directory) => sweep(options, directory),
    openSalvaged: (salvaged) => openSalvaged(options, salvaged),
  });
}

async function load(options: RecoveryOptions, shutdown: Shutdown): Promise<Loaded> {
  const level = await options.level(options.directory, options.tuning);
  try {
    return await read(options, level, shutdown);
  } catch (error) {
    await level.close().catch(() => {});
    throw error;
  }
}

async function read(options: RecoveryOptions, level: LevelHandle, shutdown: Shutdown): Promise<Loaded> {
  const format = await readFormat(level, options.directory);
  const epoch = await readEpoch(level);
  const state = emptyState(epoch ?? options.newEpoch(), options.clock);
  const clock = unseal(await level.get(metaKey('clock'))) as [string, number][] | undefined;
  for (const [bootId, offsetMs] of clock ?? []) state.clockOffsets.set(bootId, offsetMs);
  const streams = unseal(await level.get(metaKey('streams'))) as StreamIdentity[] | undefined;
  for (const stream of streams ?? []) state.streams.set(stream.name, new StreamState(stream));
  let replayed = await replay(level, state);
  const lostQueues = replayed.checkpointsRead === 0 && (replayed.chunksRead > 0 || shutdown.kind !== 'unclean');
  // Where not even a message is left, the mark knows best what was done with.
  const oldest = replayed.chunksRead === 0 && shutdown.kind === 'changed' ? shutdown.head : 0;
  if (lostQueues) replayed = await beginAtOldest(options, level, state, oldest);
  state.shelf = new ShelfClock(options.clock, replayed.lastShelf, options.maxAgeSecs);
  if (format === undefined || isEarlier(format)) await writeIdentity(level, state.epoch);
  for (const stream of state.streams.values()) stream.settleNumbers(state.tail);
  const gaps = [...replayed.gaps];
  const head = wantedHead(state);
  const verifyFrom = verifiedFrom(state, shutdown);
  if (verifyFrom !== undefined) gaps.push(...(await verify(level, verifyFrom, replayed.from)));
  const wanted = gaps.map(({ from, to }) => ({ from: Math.max(from, head), to })).filter(({ from, to }) => from < to);
  return {
    level,
    state,
    replayed,
    gaps: wanted,
    damage: lostQueues ? 'no checkpoint can be read' : damageOf(state, wanted, shutdown, format),
  };
}

/** From where on the log is read; undefined: not at all. What streams keep is long where they keep it for days. */
function verifiedFrom(state: LogState, shutdown: Shutdown): number | undefined {
  if (shutdown.kind === 'clean' || (shutdown.kind === 'changed' && shutdown.table)) return undefined;
  const kept = keptHead(state);
  for (const { first, logBytes } of [{ first: wantedHead(state), logBytes: kept.logBytes }, state.head]) {
    if (shutdown.kind === 'changed' || state.logBytes - logBytes <= VERIFY_BYTES) return first;
  }
  return undefined;
}

/** So that no number that may have been given is given to another message. */
async function beginAnew({ newEpoch }: RecoveryOptions, level: LevelHandle, state: LogState): Promise<void> {
  for (const stream of state.streams.values()) stream.skip(CUT_MESSAGES);
  state.epoch = newEpoch();
  try {
    await writeIdentity(level, state.epoch);
  } catch (error) {
    await level.close().catch(() => {});
    throw error;
  }
}

/** Undefined for a store that is as it should be. */
function damageOf(state: LogState, gaps: readonly Gap[], shutdown: Shutdown, format: unknown): string | undefined {
  if (gaps.length > 0) return `${gapSize(gaps)} messages are missing or damaged in the log`;
  if (shutdown.kind === 'unclean') return undefined;
  // Also where nothing is wanted any more: LevelDB stops writing when its compaction comes across it.
  if (shutdown.kind === 'changed' && shutdown.table) return `${shutdown.file} is not as it was left`;
  if (state.tail < shutdown.tail) return `the log ends at ${state.tail}, but was closed at ${shutdown.tail}`;
  if (format === undefined) return 'the store has lost its identity';
  return undefined;
}

function gapSize(gaps: readonly Gap[]): number {
  return gaps.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Without any checkpoint nobody knows what was delivered: better all of it again than some of it never. */
async function beginAtOldest(
  options: RecoveryOptions,
  level: LevelHandle,
  state: LogState,
  oldest: number,
): Promise<ReplayReport> {
  const cleared = unseal(await level.get(metaKey('cleared'))) as { to: number; logBytes: number } | undefined;
  const first = cleared?.to ?? oldest;
  for (const definition of options.queues) {
    state.queues.set(definition.name, QueueState.create(state.nextQueueId, definition, first));
    state.nextQueueId += 1;
  }
  const { logBytes = 0 } = cleared ?? {};
  Object.assign(state, { tail: first, clearedTo: first, clearedLogBytes: logBytes });
  state.head = { first, logBytes, shelfMs: undefined };
  return replayChunks(level, state, { from: first, checkpoints: false });
}

/** Reads [from, to) and returns what is missing or damaged. */
async function verify(level: LevelHandle, from: number, to: number): Promise<Gap[]> {
  const gaps: Gap[] = [];
  if (from >= to) return gaps;
  let expected: number | undefined;
  // The head may stand within a chunk that begins below it.
  let start = from;
  for await (const key of level.keys({ gte: logFrom(0), lt: logFrom(from + 1), reverse: true })) {
    const parsed = parseLogKey(key);
    if (parsed?.kind !== RECORD.chunk) continue;
    start = parsed.offset;
    break;
  }
  for await (const { key, value } of level.entries({ gte: logFrom(start), lt: logFrom(to) })) {
    const parsed = parseLogKey(key);
    if (parsed?.kind !== RECORD.chunk) continue;
    const chunk = decodeChunk(value, parsed.offset);
    if (chunk === undefined) continue;
    if (parsed.offset > (expected ?? from)) gaps.push({ from: expected ?? from, to: parsed.offset });
    expected = parsed.offset + chunk.count;
  }
  if ((expected ?? from) < to) gaps.push({ from: expected ?? from, to });
  return gaps;
}

async function openSalvaged(
  options: RecoveryOptions,
  { swept, copiedTo, reason, shutdown }: Salvaged<Swept>,
): Promise<OpenedLog> {
  const head = shutdown.kind === 'changed' ? shutdown.head : 0;
  const loaded = await load(options, { kind: 'changed', tail: 0, head, file: '', table: false });
  const { level, state, replayed } = loaded;
  const gaps = [...loaded.gaps];
  const known = shutdown.kind === 'unclean' ? state.tail : Math.max(state.tail, shutdown.tail);
  if (known > state.tail) {
    // The end of the log is gone: its offsets stay used, so that nothing new takes the place of what was lost.
    gaps.push({ from: state.tail, to: known });
    for (const queue of state.queues.values()) {
      queue.append(state.tail, known, queue.segmentAt(state.tail).takes === 'all' ? known - state.tail : 0, 0);
    }
    state.tail = known;
  }
  for (const stream of state.streams.values()) stream.skipUnknown(state.tail);
  state.epoch = options.newEpoch();
  await writeIdentity(level, state.epoch);
  // The mark, if there is one, stays until what it says to be lost at the end is told durably (open.ts).
  return {
    level,
    state,
    gaps,
    isCut: false,
    report: {
      store: 'log',
      copiedTo,
      repaired: true,
      chunksRead: swept.kept,
      chunksDamaged: Math.max(swept.damaged, replayed.chunksDamaged),
      messagesKept: Math.max(0, state.tail - headOffset(state) - gapSize(gaps)),
      messagesLost: gapSize(gaps),
      reason,
    },
  };
}

/** Chunks. */
interface Swept {
  readonly kept: number;
  readonly damaged: number;
}

async function sweep(options: RecoveryOptions, directory: string): Promise<Swept> {
  const level = await options.level(directory, options.tuning);
  const counts = { kept: 0, damaged: 0 };
  const bad: Buffer[] = [];
  try {
    for await (const { key, value } of level.entries({})) {
      const parsed = parseLogKey(key);
      if (parsed?.kind === RECORD.chunk) {
        const chunk = decodeChunk(value, parsed.offset);
        if (chunk !== undefined) {
          counts.kept += 1;
          continue;
        }
        counts.damaged += 1;
      } else if (parsed?.kind === RECORD.stream) {
        if (decodeStreamBlock(value, parsed.offset) !== undefined) continue;
      } else if (unseal(value) !== undefined) continue;
      bad.push(key);
    }
    if (bad.length > 0)
      await level.write(
        bad.map((key) => ({ key, value: undefined })),
        { sync: true },
      );
  } finally {
    await level.close();
  }
  return counts;
}
