// Everything that the outbox knows in memory, and how it is kept in checkpoints and snapshots. A checkpoint holds the
// queues and rides in commits; a snapshot adds the last `seq` of every device and is written every few MB and at close.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import type { DropReason, QueueName, StreamName } from '../core/outbox.ts';
import type { Timestamp } from '../core/time.ts';
import type { DropEvent } from './drop-ledger.ts';
import { QueueState, type QueueRecord } from './queue-state.ts';
import { ShelfClock, type ShelfReading } from './shelf-clock.ts';
import { StreamState, type StreamRecord } from './stream-state.ts';

export interface QuarantineState {
  nextId: number;
  messages: number;
  bytes: number;
}

/** The chunk in which the lowest offset stands that some queue still wants. */
export interface HeadChunk {
  /** Its first offset; everything below is dead. */
  first: number;
  /** Log bytes before it. */
  logBytes: number;
  /** Undefined when the log is empty. */
  shelfMs: number | undefined;
}

export interface LogState {
  epoch: string;
  /** Offset of the next message. */
  tail: number;
  /** Bytes of all chunks since the log began. */
  logBytes: number;
  head: HeadChunk;
  /** Everything below was deleted. */
  clearedTo: number;
  clearedLogBytes: number;
  /** The last `seq` given to each device. */
  readonly seqs: Map<DeviceId, number>;
  readonly queues: Map<QueueName, QueueState>;
  nextQueueId: number;
  readonly streams: Map<StreamName, StreamState>;
  readonly quarantine: QuarantineState;
  /** Corrected wall clock minus believed wall clock of each boot, oldest first. */
  readonly clockOffsets: Map<string, number>;
  /** Log bytes at the newest snapshot. */
  snapshotLogBytes: number;
  shelf: ShelfClock;
  droppedTotal: number;
  /** Lost to a limit and not told by a message yet; replaced, never changed. */
  untold: readonly DropEvent[];
}

/** Short, because every checkpoint has them. */
type UntoldRecord = readonly [
  reason: DropReason,
  queue: QueueName | null,
  epoch: string,
  deviceId: DeviceId,
  from: number,
  to: number,
];

export interface CheckpointRecord {
  readonly tail: number;
  readonly logBytes: number;
  readonly head: HeadChunk;
  readonly clearedTo: number;
  readonly clearedLogBytes: number;
  readonly queues: readonly QueueRecord[];
  /** Absent in what earlier releases wrote. */
  readonly streams?: readonly StreamRecord[];
  readonly nextQueueId: number;
  readonly quarantine: QuarantineState;
  readonly shelfMs: number;
  readonly time: Timestamp;
  /** Absent when there is none, and in what earlier releases wrote. */
  readonly untold?: readonly UntoldRecord[];
}

export interface SnapshotRecord {
  readonly seqs: readonly (readonly [DeviceId, number])[];
  readonly logBytes: number;
}

export function emptyState(epoch: string, clock: Clock): LogState {
  return {
    epoch,
    tail: 0,
    logBytes: 0,
    head: { first: 0, logBytes: 0, shelfMs: undefined },
    clearedTo: 0,
    clearedLogBytes: 0,
    seqs: new Map(),
    queues: new Map(),
    nextQueueId: 1,
    streams: new Map(),
    quarantine: { nextId: 1, messages: 0, bytes: 0 },
    clockOffsets: new Map(),
    snapshotLogBytes: 0,
    shelf: new ShelfClock(clock, undefined, 0),
    droppedTotal: 0,
    untold: [],
  };
}

export function checkpointOf(state: LogState, clock: Clock): CheckpointRecord {
  return {
    tail: state.tail,
    logBytes: state.logBytes,
    head: state.head,
    clearedTo: state.clearedTo,
    clearedLogBytes: state.clearedLogBytes,
    queues: [...state.queues.values()].map((queue) => queue.record()),
    streams: [...state.streams.values()].map((stream) => stream.record()),
    nextQueueId: state.nextQueueId,
    quarantine: state.quarantine,
    shelfMs: state.shelf.nowMs(),
    time: clock.now(),
    ...(state.untold.length === 0 ? {} : { untold: state.untold.map(untoldRecord) }),
  };
}

function untoldRecord({ reason, queue, epoch, deviceId, from = 0, to = 0 }: DropEvent): UntoldRecord {
  return [reason, queue ?? null, epoch, deviceId, from, to];
}

function untoldEvent([reason, queue, epoch, deviceId, from, to]: UntoldRecord): DropEvent {
  const event = { kind: 'dropped', reason, epoch, deviceId, from, to, count: to - from + 1 } as const;
  return queue === null ? event : { ...event, queue };
}

export function snapshotOf(state: LogState): SnapshotRecord {
  return { seqs: [...state.seqs], logBytes: state.logBytes };
}

/** Takes over what a checkpoint says; returns the reading of the shelf clock in it. */
export function applyCheckpoint(state: LogState, record: CheckpointRecord): ShelfReading {
  state.tail = Math.max(state.tail, record.tail);
  state.logBytes = Math.max(state.logBytes, record.logBytes);
  state.head = { ...record.head };
  state.clearedTo = record.clearedTo;
  state.clearedLogBytes = record.clearedLogBytes;
  state.nextQueueId = record.nextQueueId;
  Object.assign(state.quarantine, record.quarantine);
  state.untold = (record.untold ?? []).map(untoldEvent);
  state.queues.clear();
  for (const queue of record.queues) state.queues.set(queue.name, QueueState.restore(queue, state.tail));
  for (const stream of record.streams ?? []) {
    const known = state.streams.get(stream.name) ?? new StreamState(stream);
    known.restore(stream, record.tail);
    state.streams.set(stream.name, known);
  }
  return { shelfMs: record.shelfMs, time: record.time };
}

/** The lowest offset that some queue still wants; the tail when none does. */
export function headOffset(state: LogState): number {
  let head = state.tail;
  for (const queue of state.queues.values()) head = Math.min(head, queue.cursor);
  return head;
}

/** Where the log begins that a queue still wants or a stream keeps: everything below is dead. */
export function keptHead(state: LogState): Pick<HeadChunk, 'first' | 'logBytes'> {
  let kept: Pick<HeadChunk, 'first' | 'logBytes'> = state.head;
  for (const { oldest } of state.streams.values()) {
    if (oldest !== undefined && oldest.first < kept.first)
      kept = { first: oldest.first, logBytes: oldest.logBytesBefore };
  }
  return kept;
}

/** The oldest that a queue still wants or a stream keeps. */
export function wantedHead(state: LogState): number {
  let head = headOffset(state);
  for (const { oldest } of state.streams.values()) head = Math.min(head, oldest?.first ?? head);
  return head;
}

/** Bytes of chunks that a queue wants or a stream keeps. */
export function keptBytes(state: LogState): number {
  return state.logBytes - keptHead(state).logBytes;
}

/** Bytes of chunks that some queue still wants, as far as the head was looked up. */
export function liveBytes(state: LogState): number {
  return headOffset(state) === state.tail ? 0 : state.logBytes - state.head.logBytes;
}
