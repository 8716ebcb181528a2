// What one commit is put together from: messages, other writes, and how to undo what it changed in memory if it fails.

import type { DeviceId } from '../core/device.ts';
import type { AppendReceipt, OutboxEntry, OutboxEvent, StreamPlace } from '../core/outbox.ts';
import type { Message, StoredMessage } from '../core/message.ts';
import type { Timestamp } from '../core/time.ts';
import type { LevelWrite } from '../platform/level-handle.ts';
import type { ChunkEncoder, SentAgain } from './chunk-encoder.ts';
import type { LogState } from './log-state.ts';
import type { StreamState } from './stream-state.ts';

export class CommitBatch {
  readonly first: number;
  readonly writes: LevelWrite[] = [];
  /** Told to the listener once the commit is durable. */
  readonly events: OutboxEvent[] = [];
  /** By queue id: offsets of this commit. */
  readonly references = new Map<number, number[]>();
  /** Offsets that queues which take all must pass over, because the message is for others only. */
  readonly exclusive = new Map<number, readonly number[]>();
  /** What streams keep: by message of this commit, its partition plus 1. */
  readonly places = new Map<StreamState, number[]>();
  /** Write a checkpoint even when no queue changed; with all devices. */
  checkpoint = false;
  snapshot = false;
  readonly #state: LogState;
  readonly #encoder: ChunkEncoder;
  readonly #undo: (() => void)[] = [];
  /** The last `seq` of each device before this commit. */
  readonly #previousSeqs = new Map<DeviceId, number | undefined>();

  constructor(state: LogState, encoder: ChunkEncoder, time: Timestamp) {
    this.#state = state;
    this.#encoder = encoder;
    this.first = state.tail;
    encoder.start({ epoch: state.epoch, shelfMs: state.shelf.nowMs(), time });
  }

  get count(): number {
    return this.#encoder.count;
  }

  /** Encodes an entry behind the others. */
  add(entry: OutboxEntry): AppendReceipt {
    const receipt = this.#add(entry.message, entry.queues, this.#nextSeq(entry.message.deviceId));
    if (entry.stream !== undefined) this.#keep(entry.stream, receipt.offset);
    return receipt;
  }

  #keep({ name, partition }: StreamPlace, offset: number): void {
    const stream = this.#state.streams.get(name);
    if (stream === undefined || partition >= stream.partitions) return;
    let places = this.places.get(stream);
    if (places === undefined) {
      places = [];
      this.places.set(stream, places);
    }
    places[offset - this.first] = partition + 1;
  }

  /**
   * Encodes a message of the log once more, for one queue alone. It keeps epoch, `seq` and id: a new number would stand in
   * no body, and every consumer would miss it.
   */
  addAgain({ message, epoch, seq }: StoredMessage, queue: string): void {
    const id = this.#state.queues.get(queue)?.id;
    this.#add(message, [queue], seq, { epoch, onlyQueues: id === undefined ? [] : [id] });
  }

  #add(message: Message, queues: readonly string[], seq: number, again?: SentAgain): AppendReceipt {
    const offset = this.first + this.#encoder.count;
    this.#encoder.add(message, seq, again);
    if (again !== undefined) this.exclusive.set(offset, again.onlyQueues);
    // No iterator for the usual none.
    if (queues.length > 0) this.#refer(queues, offset);
    return { offset, seq };
  }

  #refer(queues: readonly string[], offset: number): void {
    for (const name of queues) {
      const queue = this.#state.queues.get(name);
      if (queue === undefined || queue.segmentAt(offset).takes === 'all') continue;
      const references = this.references.get(queue.id);
      if (references === undefined) this.references.set(queue.id, [offset]);
      else if (references.at(-1) !== offset) references.push(offset);
    }
  }

  #nextSeq(deviceId: DeviceId): number {
    const { seqs } = this.#state;
    const last = seqs.get(deviceId);
    if (!this.#previousSeqs.has(deviceId)) this.#previousSeqs.set(deviceId, last);
    const seq = (last ?? 0) + 1;
    seqs.set(deviceId, seq);
    return seq;
  }

  /** Registers what takes back a change of the state when the commit fails. */
  onUndo(undo: () => void): void {
    this.#undo.push(undo);
  }

  undo(): void {
    for (const undo of this.#undo.toReversed()) undo();
    this.#undo.length = 0;
    for (const [deviceId, last] of this.#previousSeqs) {
      if (last === undefined) this.#state.seqs.delete(deviceId);
      else this.#state.seqs.set(deviceId, last);
    }
    this.#previousSeqs.clear();
  }
}
