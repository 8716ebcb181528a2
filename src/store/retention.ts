// What goes when a limit is reached: walks the log from its head and takes messages out of the queues that still want
// them. Changes only the state in memory; the caller writes it, with the events, in one commit.

import type { DeviceId } from '../core/device.ts';
import type { DropReason } from '../core/outbox.ts';
import { decodeIdentity, decodeRecord } from './chunk-decoder.ts';
import { recordBytes, type Chunk } from './chunk-format.ts';
import { readToldLoss, type DropEvent, type DropLedger } from './drop-ledger.ts';
import type { LogReader } from './log-reader.ts';
import { headOffset, liveBytes, type LogState } from './log-state.ts';
import { lostRanges, type LostRange, type LostRanges } from './lost-ranges.ts';
import type { QueueState } from './queue-state.ts';

export interface DropContext {
  readonly state: LogState;
  readonly reader: LogReader;
  readonly ledger: DropLedger;
  readonly gatewayId: DeviceId;
  /** Registers how to undo one drop. */
  onUndo(undo: () => void): void;
  /** Losses that are out of the order of the log, and so cannot be joined with others. */
  tellNow(events: readonly DropEvent[]): void;
  /** Messages that cannot be read: lost, and nobody knows whose. */
  unreadable(queue: QueueState, messages: number): void;
}

/**
 * A quota that is reached takes this much more, so that what keeps coming in is lost in long ranges with one event for
 * each, and not message by message.
 */
const STEP_FRACTION = 1 / 20;
/** The age limit waits as long for the same reason: it loses nothing early. */
const AGE_STEP_MAX_MS = 600_000;
/** Room for the events of a drop. */
const STEP_MIN_BYTES = 512;
/** Messages that one commit drops, give or take a chunk: what is over the limits then goes with the next ones. */
const DROP_MESSAGES = 65_536;

export function dropStepBytes(quotaBytes: number): number {
  return Math.max(STEP_MIN_BYTES, Math.floor(quotaBytes * STEP_FRACTION));
}

/** How much older than the limit the oldest message gets before all that is too old goes at once. */
export function ageStepMs(maxAgeSecs: number): number {
  return Math.min(maxAgeSecs * 1000 * STEP_FRACTION, AGE_STEP_MAX_MS);
}

/**
 * Looks up the chunk that the head stands in, so that `liveBytes` is exact. Returns it; undefined when nothing is wanted
 * or the head stands in a gap.
 */
export async function refreshHead(state: LogState, reader: LogReader): Promise<Chunk | undefined> {
  const head = headOffset(state);
  if (head === state.tail) {
    state.head = { first: state.tail, logBytes: state.logBytes, shelfMs: undefined };
    return undefined;
  }
  const cached = reader.cached(head);
  const located = cached === undefined ? await reader.locate(head, state.tail) : { chunk: cached };
  if (!('chunk' in located)) return undefined;
  const { chunk } = located;
  // Settlements may have moved it on meanwhile: what was found is then a safe lower bound. A commit that failed may have
  // moved it back: then it is none, and what stands below it is still wanted.
  if (chunk.firstOffset >= state.head.first && chunk.firstOffset <= headOffset(state)) {
    state.head = { first: chunk.firstOffset, logBytes: chunk.logBytesBefore, shelfMs: chunk.shelfMs };
  }
  return chunk;
}

/** Offsets of a chunk (or of a gap) that a queue still wants, lowest first. */
async function wantedIn(context: DropContext, queue: QueueState, from: number, to: number): Promise<number[]> {
  const wanted: number[] = [];
  let offset = Math.max(from, queue.cursor);
  while (offset < to) {
    const segment = queue.segmentAt(offset);
    const end = Math.min(segment.to, to);
    if (segment.takes === 'all') {
      for (; offset < end; offset += 1) if (!queue.isDone(offset)) wanted.push(offset);
    } else {
      const block = await context.reader.references(queue.id, offset, context.state.tail);
      const blockEnd = Math.min(block.to, end);
      for (const reference of block.offsets) {
        if (reference >= offset && reference < blockEnd && !queue.isDone(reference)) wanted.push(reference);
      }
      offset = blockEnd;
    }
  }
  return wanted;
}

function dropOffset(context: DropContext, queue: QueueState, offset: number, bytes: number): void {
  // Settled while the walk was waiting for the disk.
  if (queue.isDone(offset)) return;
  queue.drop(offset, bytes);
  context.onUndo(() => {
    queue.restore(offset, bytes);
    queue.dropped -= 1;
  });
}

function dropMessage(context: DropContext, queue: QueueState, chunk: Chunk, index: number, reason: DropReason): void {
  const offset = chunk.firstOffset + index;
  // Settled while the walk was waiting for the disk: delivered, not lost.
  if (queue.isDone(offset)) return;
  const { deviceId, epoch, seq, again } = decodeIdentity(chunk, index);
  const routed = queue.segmentAt(offset).takes === 'routed';
  context.ledger.add({ deviceId, seq, epoch, reason, queue: queue.name, routed, again });
  dropOffset(context, queue, offset, recordBytes(chunk, index));
}

function keepNews(context: DropContext, chunk: Chunk, index: number): void {
  if (decodeIdentity(chunk, index).deviceId !== context.gatewayId) return;
  const told = readToldLoss(decodeRecord(chunk, index).message);
  if (told !== undefined) context.ledger.tellAgain(told);
}

/** Takes the messages of a chunk below `to` out of the given queues. */
async function dropChunk(
  context: DropContext,
  queues: readonly QueueState[],
  chunk: Chunk,
  to: number,
  reason: DropReason,
): Promise<void> {
  const end = Math.min(to, chunk.firstOffset + chunk.count);
  /** Queues that lose it, by offset. */
  const losers = new Map<number, QueueState[]>();
  for (const queue of queues) {
    for (const offset of await wantedIn(context, queue, chunk.firstOffset, end)) {
      const list = losers.get(offset);
      if (list === undefined) losers.set(offset, [queue]);
      else list.push(queue);
    }
  }
  for (const offset of [...losers.keys()].sort((a, b) => a - b)) {
    const index = offset - chunk.firstOffset;
    for (const queue of losers.get(offset) ?? []) dropMessage(context, queue, chunk, index, reason);
    keepNews(context, chunk, index);
  }
  for (const queue of queues) passGap(queue, chunk.firstOffset, end);
}

/** Takes what lies in a gap of the log out of the queues: damaged, whatever the reason of the walk. */
export async function dropGap(
  context: DropContext,
  queues: readonly QueueState[],
  from: number,
  to: number,
): Promise<void> {
  let lost: LostRanges | undefined;
  for (const queue of queues) {
    const wanted = await wantedIn(context, queue, from, to);
    if (wanted.length > 0) {
      lost ??= await lostRanges(context.state, context.reader, from, to);
      // Nobody knows their sizes any more: the average keeps the sum near the truth, and exact when nothing is left.
      const bytes = Math.floor(queue.bytes / Math.max(1, queue.messages));
      for (const offset of wanted) dropOffset(context, queue, offset, bytes);
      tellGap(context, queue, lost, wanted);
    }
    passGap(queue, from, to);
  }
}

/**
 * Tells a queue's losses by device. Of a hole that it wanted only a part of, the ranges of several devices are the most
 * that it can have lost, and its count is shared out among them.
 */
function tellGap(context: DropContext, queue: QueueState, lost: LostRanges, wanted: readonly number[]): void {
  const [first = 0] = wanted;
  const last = wanted.at(-1) ?? first;
  const [only] = lost.ranges;
  let left = wanted.length;
  const tell = ({ deviceId }: LostRange, from: number, to: number, count: number): void => {
    if (count <= 0) return;
    context.ledger.addRange({ deviceId, epoch: lost.epoch, reason: 'damaged', queue: queue.name }, { from, to, count });
    left -= count;
  };
  if (only !== undefined && lost.ranges.length === 1 && lost.unknown === 0) {
    // One device: its numbers run with the offsets.
    tell(only, only.from + first - lost.from, only.from + last - lost.from, left);
  } else {
    for (const range of lost.ranges) tell(range, range.from, range.to, Math.min(left, range.to - range.from + 1));
  }
  if (left > 0) context.unreadable(queue, left);
}

/** Drops whole chunks from the head of the log until `enough` of the head chunk says so. */
export async function dropFromHead(
  context: DropContext,
  reason: DropReason,
  enough: (head: Chunk) => boolean,
): Promise<void> {
  const { state, reader } = context;
  const queues = [...state.queues.values()];
  for (let head = headOffset(state); head < state.tail; head = headOffset(state)) {
    const located = await reader.locate(head, state.tail);
    if (!('chunk' in located)) {
      await dropGap(context, queues, located.missing.from, located.missing.to);
      continue;
    }
    state.head = {
      first: located.chunk.firstOffset,
      logBytes: located.chunk.logBytesBefore,
      shelfMs: located.chunk.shelfMs,
    };
    if (enough(located.chunk) || context.ledger.messages >= DROP_MESSAGES) return;
    await dropChunk(context, queues, located.chunk, Number.MAX_SAFE_INTEGER, reason);
  }
  await refreshHead(state, reader);
}

/** Drops from the head until the log, with what comes in, fits the quota; then one step more. */
export async function dropToQuota(
  context: DropContext,
  quotaBytes: number,
  incomingBytes: number,
  reason: DropReason,
): Promise<void> {
  const { state } = context;
  const target = Math.max(0, quotaBytes - incomingBytes - dropStepBytes(quotaBytes));
  await dropFromHead(context, reason, () => liveBytes(state) + context.ledger.newsBytes <= target);
}

/** A queue over its own quota loses its own oldest, never another's. */
export async function dropFromQueue(context: DropContext, queue: QueueState, targetBytes: number): Promise<void> {
  const { ledger } = context;
  while (queue.bytes + ledger.newsBytes > targetBytes && queue.messages > 0 && ledger.messages < DROP_MESSAGES) {
    await dropOldestOfQueue(context, queue, targetBytes, 'queue_max_bytes');
  }
}

/**
 * Drops what a queue holds below `to`, at most a commit's share of it: `queue.cursor` tells how far it came. Returns how
 * many messages.
 */
export async function purgeQueue(context: DropContext, queue: QueueState, to: number): Promise<number> {
  const before = queue.messages;
  while (queue.messages > 0 && queue.cursor < to && context.ledger.messages < DROP_MESSAGES) {
    await dropOldestOfQueue(context, queue, 0, 'purged');
  }
  return before - queue.messages;
}

async function dropOldestOfQueue(
  context: DropContext,
  queue: QueueState,
  targetBytes: number,
  reason: DropReason,
): Promise<void> {
  const { state, reader } = context;
  const located = await reader.locate(queue.cursor, state.tail);
  if (!('chunk' in located)) {
    await dropGap(context, [queue], located.missing.from, located.missing.to);
    return;
  }
  const { chunk } = located;
  const end = chunk.firstOffset + chunk.count;
  for (const offset of await wantedIn(context, queue, chunk.firstOffset, end)) {
    if (queue.bytes + context.ledger.newsBytes <= targetBytes) return;
    dropMessage(context, queue, chunk, offset - chunk.firstOffset, reason);
    if (reason !== 'purged') keepNews(context, chunk, offset - chunk.firstOffset);
  }
  passGap(queue, chunk.firstOffset, end);
}

/** Nothing wanted is left in [from, to): lets the cursor pass what was never this queue's. */
function passGap(queue: QueueState, from: number, to: number): void {
  if (queue.messages > 0) queue.skip(from, to);
}
