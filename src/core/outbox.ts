// Contract of the durable store-and-forward buffer: one log of chunks in commit order, one queue an endpoint over it,
// streams that keep what was delivered, quarantine. Implemented on LevelDB and in memory; nothing outside `store/` may assume either.

import type { DeviceId } from './device.ts';
import type { Message, StoredMessage } from './message.ts';

/** `$upstream`, or the name of an endpoint. */
export type QueueName = string;

/** A retained queue: what is appended to it has been delivered, and is read from any place until its retention is over. */
export type StreamName = string;

export interface QueueDefinition {
  readonly name: QueueName;
  /** `all`: every message, at the cost of a cursor. `routed`: what the routes name, with its own index of references. */
  readonly takes: 'all' | 'routed';
  /** `live_first`: after an outage fresh messages overtake the history, which drains in a second lane. */
  readonly order: 'live_first' | 'strict';
  /** Own quota in bytes of referenced messages; a queue over it loses its own oldest references, never another's. */
  readonly maxBytes?: number;
}

/**
 * A stream keeps what it takes for its readers, each of which keeps its own place. Its messages are numbered in each
 * partition from 0, without gaps, in the commit that stores them; what is lost to damage leaves its numbers unused.
 */
export interface StreamDefinition {
  readonly name: StreamName;
  /** 1 to `stream_partitions`; fixed when the stream is made, a later value changes nothing. */
  readonly partitions: number;
  /** How long messages are kept at least, unless `maxBytes` or the outbox's own limits want room before. */
  readonly retentionSecs: number;
  /** Over this the stream gives up its own oldest, never a queue's. */
  readonly maxBytes: number;
}

/** Where in a stream a message goes. */
export interface StreamPlace {
  readonly name: StreamName;
  readonly partition: number;
}

export type WhenFull = 'drop_oldest' | 'drop_newest' | 'reject';

/** The limits that the user sets (`outbox:`). Each may change while running. */
export interface OutboxSettings {
  readonly maxBytes: number;
  /** Undefined or 0: no age limit. */
  readonly maxAgeSecs: number;
  /** The free-space floor of the file system. */
  readonly minFreeBytes: number;
  readonly whenFull: WhenFull;
  /** Delay of every commit, to spare flash. 0: as soon as the disk is idle. */
  readonly commitIntervalMs: number;
  /** How long polled values may gather for a commit of their own. */
  readonly pollCommitIntervalMs: number;
}

export interface OutboxEntry {
  readonly message: Message;
  /** The `routed` queues that take it; queues that take all need no mention. */
  readonly queues: readonly QueueName[];
  /** The stream that keeps it, beside the queues that deliver it. One that does not exist keeps nothing. */
  readonly stream?: StreamPlace;
}

export interface AppendReceipt {
  readonly offset: number;
  readonly seq: number;
}

export interface AppendOptions {
  /** `poll`: nobody waits, may gather for `pollCommitIntervalMs`. Default `acknowledged`. */
  readonly class?: 'poll' | 'acknowledged';
  /** Gives up waiting. What was already handed to a commit is stored all the same. */
  readonly signal?: AbortSignal;
}

/** Two cursors on one queue. A `strict` queue has `live` only. */
export type Lane = 'live' | 'history';

export interface TakeLimit {
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** What was given back (`retry`) below this offset is left for a later take. Default 0. */
  readonly returnedFrom?: number;
}

/** How taken messages ended. `retry` gives one back to its place; `rejected` moves it to the quarantine. */
export type Settlement =
  /** `count` (default 1) messages from the offset on. */
  | { readonly offset: number; readonly outcome: 'accepted'; readonly count?: number }
  | { readonly offset: number; readonly outcome: 'retry' }
  | { readonly offset: number; readonly outcome: 'rejected'; readonly reason: string };

export interface LaneStats {
  readonly messages: number;
  readonly bytes: number;
}

export interface QueueStats {
  readonly name: QueueName;
  /** Not yet accepted, those in flight included. */
  readonly messages: number;
  readonly bytes: number;
  readonly inFlight: number;
  readonly live: LaneStats;
  readonly history: LaneStats;
  /** Age in ms of the oldest message not accepted; undefined when empty. */
  readonly oldestAgeMs: number | undefined;
  /** This and all other totals count since the outbox was opened, as counters of metrics do. */
  readonly acceptedTotal: number;
  readonly droppedTotal: number;
  readonly quarantinedTotal: number;
  /** The queue exists on disk, but no endpoint is configured for it: it keeps its backlog until it is purged. */
  readonly detached: boolean;
}

export interface OutboxQueue {
  readonly name: QueueName;
  /**
   * Leases the next messages of a lane in offset order; empty when there are none. A leased message is not given out
   * again until it is settled. May return fewer than asked; at least one when there is one, whatever its size.
   */
  take(lane: Lane, limit: TakeLimit): Promise<readonly StoredMessage[]>;
  /** Resolves when `take` of that lane would give something. @throws GatewayError GW_ABORTED. */
  available(lane: Lane, signal: AbortSignal): Promise<void>;
  /** Resolves at once for `accepted` and `retry` (durable with the next checkpoint), for `rejected` after the sync. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Makes everything waiting now the history lane's; the live lane begins at the tail. No effect on `strict`. */
  split(): void;
  stats(): QueueStats;
}

/** Where to begin in a partition. A place that is gone already begins at what is left. */
export type StreamPosition =
  | { readonly kind: 'earliest' | 'latest' }
  /** `offset`: the log's. Both are about the first message above it, or at it where `inclusive`. */
  | { readonly kind: 'offset' | 'sequence'; readonly value: number; readonly inclusive: boolean }
  /** The first message enqueued after that wall clock; where the clock was set back meanwhile, one such place. */
  | { readonly kind: 'time'; readonly afterMs: number };

export interface StreamMessage {
  /** From 0, in its partition. */
  readonly sequence: number;
  /** Wall clock of the commit that stored it, corrected where the clock was not known then. */
  readonly enqueuedMs: number;
  readonly stored: StoredMessage;
}

export interface StreamPartition {
  /** Of the oldest that is kept; when nothing is, of the next to come. */
  readonly firstSequence: number;
  /** -1: there never was one, and so for the next two. */
  readonly lastSequence: number;
  readonly lastOffset: number;
  readonly lastEnqueuedMs: number;
}

export interface OutboxStream {
  readonly name: StreamName;
  readonly partitions: number;
  /** Wall clock. */
  readonly createdAtMs: number;
  /** @throws GatewayError GW_NOT_FOUND for a partition that does not exist; so do the other three. */
  partition(partition: number): StreamPartition;
  /** The sequence number to begin with. */
  locate(partition: number, position: StreamPosition): Promise<number>;
  /**
   * The messages from a sequence number on, in order, without a wait; empty when there are none yet. What is gone is
   * passed over. At least one when there is one, whatever its size.
   */
  read(
    partition: number,
    from: number,
    limit: { readonly maxMessages: number; readonly maxBytes: number },
  ): Promise<readonly StreamMessage[]>;
  /** Resolves when there is a message at or above that sequence number. @throws GatewayError GW_ABORTED, GW_STORE_CLOSED. */
  available(partition: number, from: number, signal: AbortSignal): Promise<void>;
}

export interface StreamStats {
  readonly name: StreamName;
  readonly messages: number;
  readonly bytes: number;
  /** Age in ms of the oldest that is kept. */
  readonly oldestAgeMs: number | undefined;
  /** Messages given up before their time, because the outbox needed the room. */
  readonly shortenedTotal: number;
  /** The stream exists on disk, but is not configured: it keeps what it has until its retention is over. */
  readonly detached: boolean;
}

export interface QuarantinedMessage {
  readonly id: string;
  readonly queue: QueueName;
  readonly reason: string;
  /** Wall clock at the time of quarantine. */
  readonly atMs: number;
  readonly stored: StoredMessage;
}

/** Messages that were lost before the outbox had them, and so never got a `seq`. */
export interface Loss {
  readonly deviceId: DeviceId;
  readonly count: number;
  /** `outbox_full`: refused by `drop_newest`. `busy`: more waited in memory than may. `store_error`: the disk failed to the end. */
  readonly reason: 'outbox_full' | 'busy' | 'store_error';
}

export type DropReason =
  Loss['reason'] | 'max_bytes' | 'max_age' | 'min_free_bytes' | 'queue_max_bytes' | 'damaged' | 'purged';

/** Told to the listener after it is durable where it has to be. Drops and quarantines are also messages in the log. */
export type OutboxEvent =
  | {
      readonly kind: 'dropped';
      readonly reason: DropReason;
      readonly deviceId: DeviceId;
      readonly epoch: string;
      /** First and last `seq`; absent when the message never got one (a `Loss`). */
      readonly from?: number;
      readonly to?: number;
      readonly count: number;
      /** Undefined: every queue. */
      readonly queue?: QueueName;
    }
  | {
      readonly kind: 'quarantined';
      readonly reason: string;
      readonly deviceId: DeviceId;
      readonly epoch: string;
      readonly seq: number;
      readonly queue: QueueName;
    }
  /** A stream gave up messages before their time, because the outbox's own limits needed the room. They were delivered. */
  | {
      readonly kind: 'retention_shortened';
      readonly reason: 'max_bytes' | 'min_free_bytes';
      readonly stream: StreamName;
      readonly count: number;
    }
  | { readonly kind: 'committed'; readonly messages: number; readonly bytes: number; readonly syncMs: number }
  | { readonly kind: 'write_failed'; readonly reason: string }
  | { readonly kind: 'reopened' }
  | { readonly kind: 'salvaged'; readonly report: SalvageReport };

/** What recovery found and did. Nothing is deleted: the damaged directory stands at `copiedTo`. */
export interface SalvageReport {
  readonly store: 'log' | 'state';
  readonly copiedTo: string;
  readonly repaired: boolean;
  readonly chunksRead: number;
  readonly chunksDamaged: number;
  readonly messagesKept: number;
  /** Offsets missing between chunks. */
  readonly messagesLost: number;
  readonly reason: string;
}

export interface OutboxStats {
  readonly epoch: string;
  readonly messages: number;
  /** Bytes of chunks in the log that some queue still needs. */
  readonly bytes: number;
  /** Bytes that the store takes on disk. */
  readonly diskBytes: number;
  readonly freeBytes: number;
  readonly headOffset: number;
  readonly tailOffset: number;
  readonly oldestAgeMs: number | undefined;
  readonly quarantined: number;
  readonly waitingAppends: number;
  readonly commitsTotal: number;
  readonly appendedTotal: number;
  readonly droppedTotal: number;
  /** Ranges that a limit took and no message tells yet: durable, and told together within about a minute. */
  readonly untoldLosses: number;
  /** Monotonic ms at which the last commit was answered, with success or error; feeds the watchdog. */
  readonly lastCommitAnsweredMs: number;
  /** `reject` or `drop_newest` refuses for want of room. With `drop_oldest` there is always room: see `droppedTotal`. */
  readonly full: boolean;
  readonly queues: readonly QueueStats[];
  readonly streams: readonly StreamStats[];
}

export interface Outbox {
  readonly epoch: string;
  /**
   * Stores all or none, in one commit, and resolves after its sync: only then may a sender be told.
   * @throws GatewayError GW_OUTBOX_FULL (`reject`, `drop_newest`), GW_OUTBOX_BUSY, GW_STORE_WRITE, GW_STORE_CLOSED, GW_ABORTED.
   */
  append(entries: readonly OutboxEntry[], options?: AppendOptions): Promise<readonly AppendReceipt[]>;
  /** Tells the listener and, when it can, the log of messages that the caller could not keep. */
  reportLost(losses: readonly Loss[]): void;
  /** @throws GatewayError GW_NOT_FOUND. */
  queue(name: QueueName): OutboxQueue;
  /** Opens the queues of the configured endpoints. A new queue begins at the tail; one not named becomes detached. */
  setQueues(definitions: readonly QueueDefinition[]): Promise<void>;
  /** @throws GatewayError GW_NOT_FOUND. */
  stream(name: StreamName): OutboxStream;
  /** Opens the configured streams. A new one is empty; one not named becomes detached. Resolves after the sync. */
  setStreams(definitions: readonly StreamDefinition[]): Promise<void>;
  setSettings(settings: OutboxSettings): void;
  /**
   * Remembers a boot's true wall clock minus its monotonic clock, known once the clock is synchronised:
   * corrected = monotonicMs + offsetMs, whatever the wall clock said before. Survives restarts.
   */
  recordClockOffset(bootId: string, offsetMs: number): Promise<void>;
  /** Undefined while it is unknown. */
  clockOffset(bootId: string): number | undefined;
  /** Reads without leasing, for people and exports, in offset order from `fromOffset`. */
  browse(options: { queue?: QueueName; fromOffset?: number; limit: number }): Promise<readonly StoredMessage[]>;
  quarantined(options: { afterId?: string; limit: number }): Promise<readonly QuarantinedMessage[]>;
  /** Appends the quarantined messages again for their queue; those not found are skipped. Returns how many. */
  requeue(ids: readonly string[]): Promise<number>;
  /** Deletes from the quarantine for good, with a drop event. Returns how many. */
  discard(ids: readonly string[]): Promise<number>;
  /** Drops what a queue holds, with drop events; removes the queue when it is detached. Returns how many messages. */
  purge(queue: QueueName): Promise<number>;
  stats(): OutboxStats;
  /** Writes checkpoints, marks a clean shutdown and closes. Idempotent. */
  close(): Promise<void>;
}
