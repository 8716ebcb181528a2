// What a stream gives up: what is older than its retention, or over its own quota; and before its time what the outbox's
// limits need the room of, where only streams hold it. None of it is a loss: the append was the delivery. It changes
// memory alone: the checkpoint that goes before a deletion makes it durable, and after a crash it is given up again.

import { keptBytes, keptHead, type LogState } from './log-state.ts';
import { dropStepBytes } from './retention.ts';
import type { StreamState } from './stream-state.ts';
import { StreamIndex } from './stream-index.ts';
import type { LevelHandle } from '../platform/level-handle.ts';
import type { OutboxEvent, OutboxSettings } from '../core/outbox.ts';

/** What it needs of the engine. */
export interface StreamRetentionHost {
  readonly state: LogState;
  readonly settings: OutboxSettings;
  quotaBytes(): number;
  emit(event: OutboxEvent): void;
  read<T>(work: (level: LevelHandle) => Promise<T>): Promise<T>;
}

/** Whether there is something to give up, as far as can be seen without a look at the disk. */
export function streamsAreOver(host: StreamRetentionHost): boolean {
  const { state } = host;
  if (state.streams.size === 0) return false;
  for (const stream of state.streams.values()) {
    if (isExpired(stream, state.shelf.nowMs()) || stream.bytes > stream.maxBytes) return true;
  }
  return isHeldByStreams(state) && keptBytes(state) > host.quotaBytes();
}

function isExpired({ oldest, retentionSecs }: StreamState, nowMs: number): boolean {
  return oldest !== undefined && nowMs - oldest.shelfMs > retentionSecs * 1000;
}

/** Streams keep what no queue wants. */
function isHeldByStreams(state: LogState): boolean {
  return keptHead(state).first < state.head.first;
}

export async function retainStreams(host: StreamRetentionHost): Promise<void> {
  const { state } = host;
  for (const stream of state.streams.values()) {
    while (isExpired(stream, state.shelf.nowMs())) await giveUpOldest(host, stream);
    if (stream.bytes <= stream.maxBytes) continue;
    const target = Math.max(0, stream.maxBytes - dropStepBytes(stream.maxBytes));
    while (stream.bytes > target) await giveUpOldest(host, stream);
  }
  await shorten(host);
}

/** The outbox is over its own limits: streams shorten before a queue loses anything. */
async function shorten(host: StreamRetentionHost): Promise<void> {
  const { state } = host;
  const quotaBytes = host.quotaBytes();
  if (keptBytes(state) <= quotaBytes) return;
  const reason = quotaBytes < host.settings.maxBytes ? 'min_free_bytes' : 'max_bytes';
  const target = quotaBytes - dropStepBytes(quotaBytes);
  const before = new Map<StreamState, number>();
  while (isHeldByStreams(state) && keptBytes(state) > target) {
    let eldest: StreamState | undefined;
    for (const stream of state.streams.values()) {
      if ((stream.oldest?.first ?? Infinity) < (eldest?.oldest?.first ?? Infinity)) eldest = stream;
    }
    if (eldest === undefined) break;
    if (!before.has(eldest)) before.set(eldest, eldest.messages);
    await giveUpOldest(host, eldest);
  }
  for (const [stream, messages] of before) {
    const count = messages - stream.messages;
    if (count <= 0) continue;
    stream.shortened += count;
    host.emit({ kind: 'retention_shortened', reason, stream: stream.name, count });
  }
}

async function giveUpOldest(host: StreamRetentionHost, stream: StreamState): Promise<void> {
  const { oldest } = stream;
  if (oldest === undefined) return;
  if (oldest.first === stream.newestFirst) {
    stream.keepFrom(undefined);
    return;
  }
  const index = new StreamIndex(stream, (work) => host.read(work));
  const { tail } = host.state;
  const block = await index.at(oldest.first, tail);
  const next = await index.at(block?.first === oldest.first ? block.to : oldest.first + 1, tail);
  // What was committed meanwhile is the newest, and is looked for at the next step.
  if (next === undefined && stream.newestFirst >= tail) return;
  stream.keepFrom(next);
}
