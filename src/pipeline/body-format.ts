// What a body format can do: one message a poll, or several polls in one message.

import type { Message } from '../core/message.ts';
import type { ReadingBatch } from '../core/reading.ts';
import type { Timestamp } from '../core/time.ts';

/** One poll in the words of a format: bytes, or text in UTF-8. */
export type Piece = string | Uint8Array;

export interface EncodedFormat {
  /** One poll, one message. */
  readonly single: (batch: ReadingBatch) => Message;
  /** A poll of a packed message; `offsetMs` after the time of the message. */
  readonly piece: (batch: ReadingBatch, offsetMs: number) => Piece;
  /** Pieces of one device in order; `time` is that of the first. */
  readonly packed: (deviceId: Message['deviceId'], time: Timestamp, pieces: readonly Piece[]) => Message;
  /** Bytes of a packed message around its pieces, the identity included; an upper estimate. */
  readonly overheadBytes: (deviceId: string) => number;
  /** Bytes between two pieces. */
  readonly separatorBytes: number;
}
