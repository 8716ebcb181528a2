// Opens the outbox on LevelDB.

import { errorText, GatewayError, isGatewayError } from '../core/errors.ts';
import type { Outbox } from '../core/outbox.ts';
import type { LevelTuning } from '../platform/level-handle.ts';
import { openLevel } from '../platform/level.ts';
import { isDiskFull } from '../platform/unusable.ts';
import { isDamage } from './careful-opening.ts';
import { removeCleanMark, writeCleanMark } from './clean-mark.ts';
import { EPOCH_CHARS } from './identity.ts';
import { LogCore } from './log-core.ts';
import type { OutboxOpenOptions } from './options.ts';
import { configureQueues, LogOutbox } from './outbox.ts';
import { openLog, type OpenedLog } from './recovery.ts';
import type { Reopening } from './reopening.ts';
import { dropGap } from './retention.ts';
import { DiskSpace } from './space.ts';

/** Two write buffers at most are in memory. */
const BUFFER_MAX_BYTES = 4 * 1024 * 1024;
/** LevelDB makes no smaller tables. */
const TABLE_MIN_BYTES = 1024 * 1024;
const BUFFER_MIN_BYTES = 512 * 1024;
/**
 * Of the file system: LevelDB needs room for two buffers and a table beside what it holds, and finds it in what is left
 * free of a small one (space.ts).
 */
const BUFFER_FRACTION = 1 / 64;

function tuningFor(totalBytes: number): LevelTuning {
  const bytes = Math.min(Math.max(Math.floor(totalBytes * BUFFER_FRACTION), BUFFER_MIN_BYTES), BUFFER_MAX_BYTES);
  // Chunks are large and are cached decoded by the outbox itself: LevelDB needs next to no cache.
  return { writeBufferBytes: bytes, cacheBytes: 512 * 1024, tableBytes: Math.max(bytes, TABLE_MIN_BYTES) };
}

/**
 * Opens, or creates, the outbox in `options.directory`; repairs and salvages it when it is damaged, which is told as a
 * `salvaged` event with drop events for what is lost.
 * @throws GatewayError GW_DATA_LOCKED, GW_DATA_DIRECTORY, GW_STORE_FORMAT, GW_STORE_OPEN.
 */
export async function openOutbox(options: OutboxOpenOptions): Promise<Outbox> {
  const { directory, clock } = options;
  const space = new DiskSpace({
    directory,
    ballastPath: `${directory}.ballast`,
    monotonicMs: () => clock.monotonicMs(),
    freeBytes: options.freeBytes,
  });
  const noRoom = (): Promise<boolean> => space.isFull();
  const tuning = tuningFor(await space.totalBytes());
  let wasOpen = false;
  const open = ({ thorough, damage }: Reopening): Promise<OpenedLog> =>
    openLog({
      directory,
      tuning,
      level: options.level ?? openLevel,
      clock,
      maxAgeSecs: options.settings.maxAgeSecs,
      newEpoch: () => options.random.id(EPOCH_CHARS),
      isDiskFull: noRoom,
      wasOpen,
      thorough,
      damage,
      queues: options.queues,
    });
  let opened = await openPatiently(directory, open, space);
  wasOpen = true;
  for (let attempt = 1; ; attempt += 1) {
    const started = await start(options, opened, space, open);
    if ('core' in started) return new LogOutbox(started.core, (tail, head) => writeCleanMark(directory, tail, head));
    // LevelDB compacts from the moment it is open: what it comes across shows in the first write only.
    const { failure } = started;
    const damaged = await isDamage({ directory, isDiskFull: noRoom, thorough: attempt > 1 }, failure);
    // Once: a store that a salvage did not help waits for a person.
    if (attempt > START_ATTEMPTS || opened.report !== undefined) {
      throw new GatewayError('GW_STORE_OPEN', `${directory} was opened but cannot be written.`, { cause: failure });
    }
    opened = await open({ thorough: true, damage: damaged ? errorText(failure) : undefined });
  }
}

const CUT_TEXT =
  'The log of the outbox ends within a record: a large commit was under way when the gateway ended, or its end is gone. The epoch is new, so that no message gets the id of one that may be gone. If this comes with power cuts again and again, the disk may lose what it says it has stored.';

/** How often a store is opened that cannot be written then. */
const START_ATTEMPTS = 3;

/** Makes the first commit: a checkpoint, with the queues as configured and the news of what is missing. */
async function start(
  options: OutboxOpenOptions,
  opened: OpenedLog,
  space: DiskSpace,
  open: (how: Reopening) => Promise<OpenedLog>,
): Promise<{ readonly core: LogCore } | { readonly failure: unknown }> {
  const { state } = opened;
  let started = false;
  await space.refresh(true);
  const core = new LogCore({
    level: opened.level,
    state,
    clock: options.clock,
    gatewayId: options.gatewayId,
    settings: options.settings,
    onEvent: options.onEvent,
    log: options.log,
    space,
    reopen: async (how) => {
      // The failure of the first commit is dealt with by the caller.
      if (!started) throw new GatewayError('GW_STORE_OPEN', 'The outbox is being opened.');
      const again = await open(how);
      const salvaged = again.report !== undefined;
      if (salvaged) {
        state.epoch = again.state.epoch;
        options.onEvent?.({ kind: 'salvaged', report: again.report });
      }
      return { level: again.level, salvaged, gaps: again.gaps };
    },
  });
  try {
    await core.change({
      prepare: async (batch, context) => {
        batch.checkpoint = true;
        batch.snapshot = true;
        for (const { from, to } of opened.gaps) await dropGap(context, [...state.queues.values()], from, to);
        configureQueues(state, options.queues);
      },
    });
    // After a salvage: a crash before that commit would leave a loss at the end of the log untold, since nothing else knows of it.
    await removeCleanMark(options.directory);
  } catch (error) {
    await core.close(() => Promise.resolve());
    return { failure: error instanceof GatewayError ? error.cause : error };
  }
  started = true;
  if (opened.isCut) options.log?.warn({ directory: options.directory, epoch: state.epoch }, CUT_TEXT);
  if (opened.report !== undefined) options.onEvent?.({ kind: 'salvaged', report: opened.report });
  return { core };
}

/** A full disk gets the ballast back; what else fails once and not again was no damage. */
async function openPatiently(
  directory: string,
  open: (how: Reopening) => Promise<OpenedLog>,
  space: DiskSpace,
): Promise<OpenedLog> {
  try {
    return await open({ thorough: false, damage: undefined });
  } catch (error) {
    if (!isGatewayError(error, 'GW_STORE_OPEN') && !isDiskFull(error)) throw error;
  }
  await space.release();
  try {
    return await open({ thorough: true, damage: undefined });
  } catch (error) {
    if (!(await space.isFull())) throw error;
    throw new GatewayError(
      'GW_STORE_OPEN',
      `${directory} cannot be opened: the disk is full (${errorText(error)}). Make room on it; what is stored is kept.`,
      { cause: error },
    );
  }
}
