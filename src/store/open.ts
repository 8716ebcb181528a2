// Opens the outbox on LevelDB.

import { GatewayError, isGatewayError } from '../core/errors.ts';
import type { Outbox } from '../core/outbox.ts';
import { openLevel, type LevelTuning } from '../platform/level.ts';
import { writeCleanMark } from './clean-mark.ts';
import { EPOCH_CHARS } from './identity.ts';
import { LogCore } from './log-core.ts';
import type { OutboxOpenOptions } from './options.ts';
import { configureQueues, LogOutbox } from './outbox.ts';
import { openLog, type OpenedLog } from './recovery.ts';
import { dropGap } from './retention.ts';
import { DiskSpace } from './space.ts';

/**
 * Two write buffers at most are in memory; chunks are large and are cached decoded by the outbox itself, so that LevelDB
 * needs next to no cache.
 */
const TUNING: LevelTuning = {
  writeBufferBytes: 4 * 1024 * 1024,
  cacheBytes: 512 * 1024,
  tableBytes: 4 * 1024 * 1024,
};

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
  const open = (thorough: boolean): Promise<OpenedLog> =>
    openLog({
      directory,
      tuning: TUNING,
      level: options.level ?? openLevel,
      clock,
      maxAgeSecs: options.settings.maxAgeSecs,
      newEpoch: () => options.random.id(EPOCH_CHARS),
      isDiskFull: () => space.isFull(),
      thorough,
      queues: options.queues,
    });
  const opened = await openPatiently(open, space);
  const { state } = opened;
  await space.refresh(true);
  const core = new LogCore({
    level: opened.level,
    state,
    clock,
    gatewayId: options.gatewayId,
    settings: options.settings,
    onEvent: options.onEvent,
    log: options.log,
    space,
    reopen: async (thorough) => {
      const again = await open(thorough);
      if (again.report !== undefined) {
        state.epoch = again.state.epoch;
        options.onEvent?.({ kind: 'salvaged', report: again.report });
      }
      return again.level;
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
  } catch (error) {
    await core.close(() => Promise.resolve());
    throw new GatewayError('GW_STORE_OPEN', `${directory} was opened but cannot be written.`, { cause: error });
  }
  if (opened.report !== undefined) options.onEvent?.({ kind: 'salvaged', report: opened.report });
  return new LogOutbox(core, (tail) => writeCleanMark(directory, tail));
}

/** A full disk gets the ballast back; what else fails once and not again was no damage. */
async function openPatiently(open: (thorough: boolean) => Promise<OpenedLog>, space: DiskSpace): Promise<OpenedLog> {
  try {
    return await open(false);
  } catch (error) {
    if (!isGatewayError(error, 'GW_STORE_OPEN')) throw error;
    await space.release();
    return open(true);
  }
}
