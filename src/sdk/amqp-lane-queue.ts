// Messages that wait for one address, in their order, taken one by one or several as one: a batch is a message of the format
// 0x80013700, each of whose data sections is a whole message (contract/device-amqp.md, section 6). It has one outcome.

import type { DeliveryResult } from '../core/delivery.ts';
import { encodeAmqpBatch } from '../wire/amqp-message.ts';

/** A message as it goes on the wire, or why it never will. */
export type AmqpOutgoing = { readonly bytes: Uint8Array } | { readonly rejected: string };

/** One message. */
export interface LaneEntry {
  /** Called when it is sent, so that what waits is not there twice. */
  readonly encode: () => AmqpOutgoing;
  /** Whether it was answered meanwhile, by a stop. */
  readonly isDone: () => boolean;
  readonly answer: (result: DeliveryResult) => void;
  /** On the wire; 0 before. */
  bytes: number;
  /** Of a message of the outbox: the same each time that it is sent. */
  readonly messageId?: string | undefined;
  /** It goes in no batch: one that it was in was rejected, or its link ended with it under way. */
  isAlone?: true;
}

/** Several messages with one outcome. */
export interface LaneBatch {
  readonly members: readonly LaneEntry[];
  readonly answer: (result: DeliveryResult) => void;
  bytes: number;
}

export interface AmqpBatchLimits {
  readonly messages: number;
  /** On the wire. */
  readonly bytes: number;
}

/** What is sent as one. */
interface Ready {
  readonly entry: LaneEntry | LaneBatch;
  readonly bytes: Uint8Array;
  /** AMQP 1.0, 2.7.5. */
  readonly format: number;
}

const BATCH_FORMAT = 0x8001_3700;
/** What a data section has besides its content, at most. */
const SECTION_BYTES = 8;

export class LaneQueue {
  readonly #limits: AmqpBatchLimits;
  /** From `#head` on. */
  #waiting: LaneEntry[] = [];
  #head = 0;
  /** Bytes of the first, made already: it did not go into the batch before it. */
  #encoded: Uint8Array | undefined;

  /** @param limits of a batch; undefined: each message goes by itself. */
  constructor(limits: AmqpBatchLimits | undefined) {
    this.#limits = limits ?? { messages: 1, bytes: 0 };
  }

  /** The one that is sent next. */
  get first(): LaneEntry | undefined {
    return this.#peek();
  }

  get size(): number {
    return this.#waiting.length - this.#head;
  }

  all(): LaneEntry[] {
    return this.#waiting.slice(this.#head);
  }

  push(entry: LaneEntry): void {
    this.#waiting.push(entry);
  }

  /** Takes all out. */
  clear(): LaneEntry[] {
    const entries = this.all();
    this.#replace([]);
    return entries;
  }

  /** Takes out what is sent next: `room` messages at most, which is one at least. Answers what can never be sent. */
  next(room: number): Ready | undefined {
    const most = Math.min(this.#limits.messages, room);
    let first: LaneEntry | undefined;
    const members: LaneEntry[] = [];
    const parts: Uint8Array[] = [];
    let total = 0;
    for (let entry = this.#peek(); entry !== undefined; entry = this.#peek()) {
      if (members.length > 0 && entry.isAlone === true) break;
      const bytes = this.#encode(entry);
      if (bytes === undefined) continue;
      total += bytes.byteLength + SECTION_BYTES;
      if (members.length > 0 && total > this.#limits.bytes) {
        this.#encoded = bytes;
        break;
      }
      this.#shift();
      if (most === 1 || entry.isAlone === true) return { entry, bytes, format: 0 };
      first ??= entry;
      members.push(entry);
      parts.push(bytes);
      if (members.length === most) break;
    }
    const [bytes] = parts;
    if (first === undefined || bytes === undefined) return undefined;
    if (members.length === 1) return { entry: first, bytes, format: 0 };
    return { entry: this.#batchOf(members), bytes: encodeAmqpBatch(parts), format: BATCH_FORMAT };
  }

  #peek(): LaneEntry | undefined {
    while (this.#waiting[this.#head]?.isDone() === true) this.#shift();
    return this.#waiting[this.#head];
  }

  /** Of the first; undefined when it is answered because it can never be sent. */
  #encode(entry: LaneEntry): Uint8Array | undefined {
    if (this.#encoded !== undefined) return this.#encoded;
    const outgoing = entry.encode();
    if ('bytes' in outgoing) return outgoing.bytes;
    this.#shift();
    entry.answer({ status: 'rejected', reason: outgoing.rejected });
    return undefined;
  }

  #batchOf(members: readonly LaneEntry[]): LaneBatch {
    return {
      members,
      bytes: 0,
      answer: (result) => {
        if (result.status !== 'rejected') for (const member of members) member.answer(result);
        else {
          // One of them was meant: each goes by itself, before what has waited behind them.
          for (const member of members) member.isAlone = true;
          this.#replace([...members, ...this.all()]);
        }
      },
    };
  }

  #replace(waiting: LaneEntry[]): void {
    this.#waiting = waiting;
    this.#head = 0;
    this.#encoded = undefined;
  }

  #shift(): void {
    this.#encoded = undefined;
    this.#head += 1;
    if (this.#head === this.#waiting.length) this.#replace([]);
  }
}
