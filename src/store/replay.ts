// From what is on disk to what is in memory: the newest snapshot, then every record behind it in key order.

import type { DeviceId } from '../core/device.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import { decodeChunk, decodeIdentity } from './chunk-decoder.ts';
import { chunkRecordBytes, recordBytes, type Chunk } from './chunk-format.ts';
import { LOG_END, logFrom, parseLogKey, RECORD } from './keys.ts';
import { applyCheckpoint, type CheckpointRecord, type LogState, type SnapshotRecord } from './log-state.ts';
import { decodeReferences, type References } from './references.ts';
import { unseal } from './sealed.ts';
import type { ShelfReading } from './shelf-clock.ts';
import { decodeStreamBlock, type StreamBlock } from './stream-block.ts';

/** Missing offsets. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** What a replay found; damage is reported, never skipped in silence. */
export interface ReplayReport {
  checkpointsRead: number;
  chunksRead: number;
  chunksDamaged: number;
  /** Where it began. */
  readonly from: number;
  /** Offsets between chunks that are missing, or lost with a damaged chunk. */
  readonly gaps: Gap[];
  /** The newest reading of the shelf clock. */
  lastShelf: ShelfReading | undefined;
}

export interface ReplayOptions {
  readonly from: number;
  /** Whether checkpoints are applied; not where the state knows more than they do. */
  readonly checkpoints: boolean;
}

/** A chunk, and what stands behind it of queues and streams. */
interface Pending {
  readonly chunk: Chunk;
  readonly references: Map<number, readonly number[]>;
  readonly blocks: Map<number, StreamBlock | undefined>;
}

type QueueReferences = ReadonlyMap<number, readonly number[]>;

/** Takes a committed chunk over into the state: tail, sizes, what each queue has to do. */
export function applyChunk(
  state: LogState,
  chunk: Chunk,
  references: QueueReferences,
  exclusive: ReadonlyMap<number, readonly number[]>,
): void {
  const { firstOffset: first } = chunk;
  const tail = first + chunk.count;
  const allBytes = chunkRecordBytes(chunk);
  for (const queue of state.queues.values()) {
    if (queue.segmentAt(first).takes === 'all') {
      const skipped: number[] = [];
      let bytes = allBytes;
      for (const [offset, ids] of exclusive) {
        if (ids.includes(queue.id)) continue;
        skipped.push(offset);
        bytes -= recordBytes(chunk, offset - first);
      }
      queue.append(first, tail, chunk.count - skipped.length, bytes, skipped);
    } else {
      const offsets = references.get(queue.id) ?? [];
      let bytes = 0;
      for (const offset of offsets) bytes += recordBytes(chunk, offset - first);
      queue.append(first, tail, offsets.length, bytes);
    }
  }
  if (state.head.shelfMs === undefined) {
    state.head = { first, logBytes: chunk.logBytesBefore, shelfMs: chunk.shelfMs };
  }
  state.tail = tail;
  state.logBytes = chunk.logBytesBefore + chunk.bytes.length;
}

/** What a chunk says of devices and of messages that are not for every queue. */
function readIdentities(
  chunk: Chunk,
  seqs: Map<DeviceId, number>,
): { readonly exclusive: Map<number, readonly number[]> } {
  const exclusive = new Map<number, readonly number[]>();
  for (let index = 0; index < chunk.count; index += 1) {
    const { deviceId, seq, again, onlyQueues } = decodeIdentity(chunk, index);
    if (!again && seq > (seqs.get(deviceId) ?? 0)) seqs.set(deviceId, seq);
    if (onlyQueues !== undefined) exclusive.set(chunk.firstOffset + index, onlyQueues);
  }
  return { exclusive };
}

/** The offset of the newest readable snapshot; 0 when there is none. Takes its numbers over. */
async function loadSnapshot(level: LevelHandle, state: LogState): Promise<number> {
  for await (const key of level.keys({ gte: logFrom(0), lt: LOG_END, reverse: true })) {
    const parsed = parseLogKey(key);
    if (parsed?.kind !== RECORD.snapshot) continue;
    const record = unseal(await level.get(key)) as SnapshotRecord | undefined;
    if (record === undefined) continue;
    for (const [deviceId, seq] of record.seqs) state.seqs.set(deviceId, seq);
    state.snapshotLogBytes = record.logBytes;
    return parsed.offset;
  }
  return 0;
}

/** Fills an empty state from the store. */
export async function replay(level: LevelHandle, state: LogState): Promise<ReplayReport> {
  const from = await loadSnapshot(level, state);
  state.tail = from;
  return replayChunks(level, state, { from, checkpoints: true });
}

/** Applies all records from an offset on. */
export async function replayChunks(level: LevelHandle, state: LogState, options: ReplayOptions): Promise<ReplayReport> {
  const { from, checkpoints } = options;
  const report: ReplayReport = {
    checkpointsRead: 0,
    chunksRead: 0,
    chunksDamaged: 0,
    from,
    gaps: [],
    lastShelf: undefined,
  };
  // Up to here the offsets join, gaps noted apart.
  let joined = from;
  // References stand behind their chunk, so a chunk is applied when the next one comes, or at the end.
  let pending: Pending | undefined;
  const flush = (): void => {
    if (pending === undefined) return;
    const { chunk, references, blocks } = pending;
    pending = undefined;
    const { exclusive } = readIdentities(chunk, state.seqs);
    if (chunk.firstOffset > joined) report.gaps.push({ from: joined, to: chunk.firstOffset });
    passMissing(state, chunk);
    applyChunk(state, chunk, references, exclusive);
    applyBlocks(state, chunk, blocks);
    joined = state.tail;
    report.chunksRead += 1;
    report.lastShelf = { shelfMs: chunk.shelfMs, time: chunk.time };
  };
  for await (const { key, value } of level.entries({ gte: logFrom(from), lt: LOG_END })) {
    const parsed = parseLogKey(key);
    if (parsed === undefined) continue;
    // An index whose chunk is gone must not be taken for that of the chunk before.
    if (pending?.chunk.firstOffset !== parsed.offset) flush();
    if (parsed.kind === RECORD.references) {
      const references = decodeReferences(value, parsed.offset) ?? everything(pending?.chunk);
      pending?.references.set(parsed.ownerId, references.offsets);
      continue;
    }
    if (parsed.kind === RECORD.stream) {
      pending?.blocks.set(parsed.ownerId, decodeStreamBlock(value, parsed.offset));
      continue;
    }
    flush();
    if (parsed.kind === RECORD.chunk) {
      const chunk = parsed.offset >= state.tail ? decodeChunk(value, parsed.offset) : undefined;
      if (chunk !== undefined) pending = { chunk, references: new Map(), blocks: new Map() };
      else if (parsed.offset >= state.tail) report.chunksDamaged += 1;
    } else if (parsed.kind === RECORD.checkpoint && checkpoints) {
      const record = unseal(value) as CheckpointRecord | undefined;
      if (record === undefined) continue;
      report.checkpointsRead += 1;
      report.lastShelf = applyCheckpoint(state, record);
    }
  }
  flush();
  if (state.tail > joined) report.gaps.push({ from: joined, to: state.tail });
  return report;
}

function applyBlocks(state: LogState, chunk: Chunk, blocks: Pending['blocks']): void {
  for (const stream of state.streams.values()) {
    const block = blocks.get(stream.id);
    if (block !== undefined) stream.append(block, chunk.time.wallMs);
    else if (blocks.has(stream.id)) stream.skip(chunk.count);
  }
}

/** An index that cannot be read: better everything of its commit once more than something not at all. */
function everything(chunk: Chunk | undefined): References {
  const offsets =
    chunk === undefined ? [] : Array.from({ length: chunk.count }, (_, index) => chunk.firstOffset + index);
  return { to: (chunk?.firstOffset ?? 0) + (chunk?.count ?? 0), offsets, bytes: 0 };
}

/** Offsets that are missing before a chunk count as waiting, so that the queues find the gap and report it. */
function passMissing(state: LogState, chunk: Chunk): void {
  const missing = chunk.firstOffset - state.tail;
  if (missing <= 0) return;
  for (const queue of state.queues.values()) {
    const takesAll = queue.segmentAt(state.tail).takes === 'all';
    queue.append(state.tail, chunk.firstOffset, takesAll ? missing : 0, 0);
  }
  for (const stream of state.streams.values()) stream.skip(missing);
  state.tail = chunk.firstOffset;
}
