// Whose messages stood in a hole of the log. `seq` of a device is gap-free and each offset is one message, so the last
// `seq` before the hole and the first behind it say what each device lost, and the sum of it must be the hole's size.
// What left the quarantine stands among them with an older number, and proves nothing.

import type { DeviceId } from '../core/device.ts';
import { decodeIdentity } from './chunk-decoder.ts';
import type { LogReader } from './log-reader.ts';
import type { LogState } from './log-state.ts';

export interface LostRange {
  readonly deviceId: DeviceId;
  /** First and last `seq`. */
  readonly from: number;
  readonly to: number;
}

export interface LostRanges {
  /** The whole hole: it may begin below the offset that was looked for. */
  readonly from: number;
  readonly to: number;
  /** Of the chunks around it. */
  readonly epoch: string;
  readonly ranges: readonly LostRange[];
  /** Messages of which nobody knows whose they were: more was lost around the hole than its neighbours can tell. */
  readonly unknown: number;
}

interface Before {
  /** Where the last chunk before the hole ends. */
  readonly end: number;
  readonly epoch: string | undefined;
  readonly seqs: ReadonlyMap<DeviceId, number>;
  /** A device that is not in `seqs` had no message before the hole. */
  readonly complete: boolean;
}

/** Reads around the hole [from, to), at most to the next snapshot before it and as far behind it as is needed. */
export async function lostRanges(state: LogState, reader: LogReader, from: number, to: number): Promise<LostRanges> {
  const before = await seqsBefore(state, reader, from);
  const size = to - before.end;
  const ranges = new Map<DeviceId, LostRange>();
  const seen = new Set<DeviceId>();
  let unknown = size;
  let { epoch } = before;
  const meet = (deviceId: DeviceId, seq: number): void => {
    if (seen.has(deviceId)) return;
    seen.add(deviceId);
    const last = before.seqs.get(deviceId) ?? (before.complete ? 0 : undefined);
    if (last === undefined || seq <= last + 1) return;
    ranges.set(deviceId, { deviceId, from: last + 1, to: seq - 1 });
    unknown -= seq - 1 - last;
  };
  let joined = to;
  for await (const chunk of reader.chunks(to, state.tail)) {
    // What is missing behind another hole may have been lost there.
    if (chunk.firstOffset !== joined || unknown <= 0) break;
    joined += chunk.count;
    epoch ??= chunk.epoch;
    for (let index = 0; index < chunk.count; index += 1) {
      const { deviceId, seq, again } = decodeIdentity(chunk, index);
      if (!again) meet(deviceId, seq);
    }
  }
  if (joined === state.tail && unknown > 0) for (const [deviceId, seq] of state.seqs) meet(deviceId, seq + 1);
  // Numbers that contradict the offsets prove nothing.
  const sound = unknown >= 0;
  return {
    from: before.end,
    to,
    epoch: epoch ?? state.epoch,
    ranges: sound ? [...ranges.values()] : [],
    unknown: sound ? unknown : size,
  };
}

async function seqsBefore(state: LogState, reader: LogReader, from: number): Promise<Before> {
  const snapshot = await reader.snapshotAt(from);
  const bottom = snapshot?.offset ?? state.clearedTo;
  const seqs = new Map<DeviceId, number>();
  let end: number | undefined;
  let epoch: string | undefined;
  let joined: number | undefined;
  for await (const chunk of reader.chunks(bottom, from, { reverse: true })) {
    const chunkEnd = chunk.firstOffset + chunk.count;
    // Beyond another hole nothing is certain.
    if (joined !== undefined && chunkEnd !== joined) break;
    end ??= chunkEnd;
    epoch ??= chunk.epoch;
    joined = chunk.firstOffset;
    for (let index = chunk.count - 1; index >= 0; index -= 1) {
      const { deviceId, seq, again } = decodeIdentity(chunk, index);
      if (!again && !seqs.has(deviceId)) seqs.set(deviceId, seq);
    }
  }
  // Without a chunk in between, the hole begins where the snapshot or the log does.
  const complete = (joined ?? bottom) === bottom && (snapshot !== undefined || bottom === 0);
  if (complete) for (const [deviceId, seq] of snapshot?.seqs ?? []) if (!seqs.has(deviceId)) seqs.set(deviceId, seq);
  return { end: end ?? (complete ? bottom : from), epoch, seqs, complete };
}
