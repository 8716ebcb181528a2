// What one queue knows about its messages: offsets only, no I/O.
//
// Invariants
// - `cursor` is the lowest offset that may still be wanted; everything below is settled or was never this queue's.
// - Above it an offset is in exactly one of these: `done` (settled, dropped or not ours), leased, `returned` (given back),
//   or untouched. Fresh messages are untouched ones at or above the `next` of their lane.
// - `messages` and `bytes` count what is leased, returned or untouched and ours.
// - A lane gives the lowest of what was returned and what is fresh, so that a retry keeps the order.
// - While `held` nothing is given: a commit under way drops messages, and until that is durable a failure or a crash
//   brings them back, which would then come behind what followed them.

import { LIMITS } from '../core/limits.ts';
import type { Lane, QueueDefinition, QueueName, QueueStats } from '../core/outbox.ts';
import { Leases } from './leases.ts';
import { RangeSet } from './range-set.ts';

/** From an offset on a queue takes all messages or those routed to it; a change of configuration begins another one. */
export interface Segment {
  readonly from: number;
  readonly takes: QueueDefinition['takes'];
}

/** What a checkpoint keeps of a queue. */
export interface QueueRecord {
  readonly id: number;
  readonly name: QueueName;
  readonly segments: readonly Segment[];
  readonly cursor: number;
  readonly done: readonly (readonly [number, number])[];
  readonly messages: number;
  readonly bytes: number;
  /** The lanes were apart: what waits at the next start is history. */
  readonly split: boolean;
}

interface LaneCount {
  messages: number;
  bytes: number;
  leased: number;
}

export class QueueState {
  readonly id: number;
  readonly name: QueueName;
  order: QueueDefinition['order'] = 'live_first';
  maxBytes: number | undefined;
  detached = true;
  #held = false;
  #segments: Segment[];
  #cursor: number;
  #tail: number;
  readonly #done = new RangeSet();
  readonly #leased = new Leases();
  readonly #returned = new RangeSet();
  readonly #live: LaneCount = { messages: 0, bytes: 0, leased: 0 };
  readonly #history: LaneCount = { messages: 0, bytes: 0, leased: 0 };
  /** Where the live lane begins; below it is history. 0 while the lanes are one. */
  #splitAt: number;
  #nextLive: number;
  #nextHistory: number;
  accepted = 0;
  dropped = 0;
  quarantined = 0;

  private constructor(record: QueueRecord, tail: number) {
    this.id = record.id;
    this.name = record.name;
    this.#segments = [...record.segments];
    this.#cursor = record.cursor;
    this.#tail = tail;
    for (const [from, to] of record.done) this.#done.add(from, to);
    const lane = record.split ? this.#history : this.#live;
    lane.messages = record.messages;
    lane.bytes = record.bytes;
    this.#splitAt = record.split ? tail : 0;
    this.#nextHistory = this.#cursor;
    this.#nextLive = record.split ? tail : this.#cursor;
  }

  /** A new queue begins at the tail. */
  static create(id: number, definition: QueueDefinition, tail: number): QueueState {
    const state = new QueueState(
      {
        id,
        name: definition.name,
        segments: [{ from: tail, takes: definition.takes }],
        cursor: tail,
        done: [],
        messages: 0,
        bytes: 0,
        split: false,
      },
      tail,
    );
    state.configure(definition);
    return state;
  }

  static restore(record: QueueRecord, tail: number): QueueState {
    return new QueueState(record, tail);
  }

  record(): QueueRecord {
    return {
      id: this.id,
      name: this.name,
      segments: this.#segments,
      cursor: this.#cursor,
      done: [...this.#done],
      messages: this.messages,
      bytes: this.bytes,
      split: this.#history.messages > 0,
    };
  }

  /** Takes what the configuration says; messages already in the log keep to what it said before. */
  configure(definition: QueueDefinition): void {
    this.detached = false;
    this.order = definition.order;
    this.maxBytes = definition.maxBytes;
    if (definition.order === 'strict') this.#join();
    const last = this.#segments.at(-1);
    if (last?.takes === definition.takes) return;
    if (last?.from === this.#tail) this.#segments.pop();
    this.#segments.push({ from: this.#tail, takes: definition.takes });
  }

  /** Makes one lane of two. */
  #join(): void {
    if (this.#splitAt === 0) return;
    this.#live.messages += this.#history.messages;
    this.#live.bytes += this.#history.bytes;
    this.#live.leased += this.#history.leased;
    Object.assign(this.#history, { messages: 0, bytes: 0, leased: 0 });
    this.#splitAt = 0;
    this.#nextLive = this.#cursor;
  }

  get cursor(): number {
    return this.#cursor;
  }

  get messages(): number {
    return this.#live.messages + this.#history.messages;
  }

  get bytes(): number {
    return this.#live.bytes + this.#history.bytes;
  }

  /** Whether the queue took all messages at that offset, and up to which offset that holds. */
  segmentAt(offset: number): { readonly takes: QueueDefinition['takes']; readonly to: number } {
    let takes: QueueDefinition['takes'] = 'all';
    let to = Number.MAX_SAFE_INTEGER;
    for (const segment of this.#segments) {
      if (segment.from <= offset) takes = segment.takes;
      else {
        to = segment.from;
        break;
      }
    }
    return { takes, to };
  }

  #laneOf(offset: number): LaneCount {
    return offset < this.#splitAt ? this.#history : this.#live;
  }

  /** [first, tail) was committed; `messages` of it with `bytes` are ours, `skipped` (of a queue that takes all) are not. */
  append(first: number, tail: number, messages: number, bytes: number, skipped: readonly number[] = []): void {
    const wasEmpty = this.messages === 0;
    this.#tail = tail;
    this.#live.messages += messages;
    this.#live.bytes += bytes;
    for (const offset of skipped) this.#done.add(offset);
    if (wasEmpty && messages > 0) this.#cursor = Math.max(this.#cursor, first);
    this.#advance();
  }

  /** Marks what lies between our messages, so that the cursor can pass it. */
  skip(from: number, to: number): void {
    this.#done.add(Math.max(from, this.#cursor), to);
    this.#advance();
  }

  #advance(): void {
    if (this.messages === 0) {
      this.#cursor = this.#tail;
      this.#done.clear();
      this.#live.bytes = 0;
      this.#history.bytes = 0;
      this.#nextLive = this.#tail;
      this.#splitAt = 0;
      if (this.#segments.length > 1) this.#segments.splice(0, this.#segments.length - 1);
      return;
    }
    const cursor = this.#done.nextGap(this.#cursor);
    if (cursor === this.#cursor) return;
    this.#done.remove(0, cursor);
    this.#moveCursor(cursor);
  }

  #moveCursor(cursor: number): void {
    this.#cursor = cursor;
    while ((this.#segments[1]?.from ?? Number.MAX_SAFE_INTEGER) <= cursor) this.#segments.shift();
  }

  /** Where fresh messages of a lane may begin and where the lane ends. */
  fresh(lane: Lane): { readonly from: number; readonly to: number } {
    if (lane === 'live') return { from: Math.max(this.#nextLive, this.#cursor), to: this.#tail };
    return { from: Math.max(this.#nextHistory, this.#cursor), to: this.#splitAt };
  }

  /** The lowest offset at or above `from` given back to that lane. */
  nextReturned(lane: Lane, from: number): number | undefined {
    const next = this.#returned.next(lane === 'live' ? Math.max(from, this.#splitAt) : from);
    return next !== undefined && (lane === 'live' || next < this.#splitAt) ? next : undefined;
  }

  /** The lowest offset at or above `from` that nobody has touched. */
  nextUntouched(from: number): number {
    let offset = from;
    for (;;) {
      const gap = this.#returned.nextGap(this.#done.nextGap(offset));
      if (!this.#leased.has(gap)) {
        if (gap === offset) return gap;
        offset = gap;
      } else offset = gap + 1;
    }
  }

  lease(lane: Lane, offset: number, bytes: number): void {
    this.#leased.add(offset, bytes);
    if (this.#returned.size > 0) this.#returned.remove(offset);
    this.#laneOf(offset).leased += 1;
    if (lane === 'live') this.#nextLive = Math.max(this.#nextLive, offset + 1);
    else this.#nextHistory = Math.max(this.#nextHistory, offset + 1);
  }

  isLeased(offset: number): boolean {
    return this.#leased.has(offset);
  }

  isDone(offset: number): boolean {
    return offset < this.#cursor || this.#done.has(offset);
  }

  /** False when the offset is not leased (settled before, or dropped meanwhile): then nothing happens. */
  settle(offset: number): boolean {
    const bytes = this.#leased.get(offset);
    if (bytes === undefined) return false;
    this.#leased.delete(offset);
    const lane = this.#laneOf(offset);
    lane.leased -= 1;
    this.#finish(offset, bytes);
    return true;
  }

  giveBack(offset: number): void {
    if (!this.#leased.delete(offset)) return;
    this.#laneOf(offset).leased -= 1;
    this.#returned.add(offset);
  }

  /** Takes one of ours out for good, leased or not; holds the queue until `release`. */
  drop(offset: number, bytes: number): void {
    this.#held = true;
    if (this.#leased.delete(offset)) this.#laneOf(offset).leased -= 1;
    else this.#returned.remove(offset);
    this.#finish(offset, bytes);
    this.dropped += 1;
  }

  get held(): boolean {
    return this.#held;
  }

  /** The commit that dropped messages is durable, or undone. */
  release(): void {
    this.#held = false;
  }

  #finish(offset: number, bytes: number): void {
    const lane = this.#laneOf(offset);
    lane.messages -= 1;
    lane.bytes -= bytes;
    // In order, as nearly always, no range has to be made for it.
    if (offset === this.#cursor && this.#done.ranges === 0) this.#moveCursor(offset + 1);
    else this.#done.add(offset);
    this.#advance();
  }

  /** Undoes `settle` or `drop` of a commit that failed; the message waits again. */
  restore(offset: number, bytes: number): void {
    if (offset < this.#cursor) {
      this.#done.add(offset + 1, this.#cursor);
      this.#cursor = offset;
    } else this.#done.remove(offset);
    this.#returned.add(offset);
    const lane = this.#laneOf(offset);
    lane.messages += 1;
    lane.bytes += bytes;
  }

  /** Makes everything that waits the history lane's. */
  split(): boolean {
    if (this.order === 'strict' || this.messages === 0) return false;
    this.#history.messages += this.#live.messages;
    this.#history.bytes += this.#live.bytes;
    this.#history.leased += this.#live.leased;
    this.#live.messages = 0;
    this.#live.bytes = 0;
    this.#live.leased = 0;
    this.#splitAt = this.#tail;
    this.#nextHistory = this.#cursor;
    this.#nextLive = this.#tail;
    return true;
  }

  /** Room for another lease: in flight, and ranges done above the cursor (each costs memory and checkpoint). */
  hasRoom(): boolean {
    return (
      this.#leased.size < LIMITS.queue_in_flight_messages &&
      (this.#done.ranges < LIMITS.queue_done_ranges || this.#leased.size === 0)
    );
  }

  hasAvailable(lane: Lane): boolean {
    const count = lane === 'live' ? this.#live : this.#history;
    return count.messages > count.leased && this.hasRoom();
  }

  stats(oldestAgeMs: number | undefined): QueueStats {
    return {
      name: this.name,
      messages: this.messages,
      bytes: this.bytes,
      inFlight: this.#leased.size,
      live: { messages: this.#live.messages, bytes: this.#live.bytes },
      history: { messages: this.#history.messages, bytes: this.#history.bytes },
      oldestAgeMs: this.messages === 0 ? undefined : oldestAgeMs,
      acceptedTotal: this.accepted,
      droppedTotal: this.dropped,
      quarantinedTotal: this.quarantined,
      detached: this.detached,
    };
  }
}
