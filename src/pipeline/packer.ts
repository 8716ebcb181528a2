// Gathers polls of a device into one message, up to a size or a time. What waits here is not stored: it is bounded by both
// and by LIMITS.packing_bytes over all devices, and leaves at once when the gateway stops.

import { LIMITS } from '../core/limits.ts';
import type { Message } from '../core/message.ts';
import type { ReadingBatch } from '../core/reading.ts';
import type { BodyFormat, MessageShape, PackShape } from '../core/shape.ts';
import type { Timestamp } from '../core/time.ts';
import type { Piece } from './body-format.ts';
import { formatOf } from './encode.ts';

/** A wall clock that moved by more than this between two polls gives them different messages. */
const STEP_MS = 1000;

interface Pack {
  readonly format: BodyFormat;
  readonly shape: PackShape;
  readonly deviceId: Message['deviceId'];
  /** Of the first poll. */
  readonly time: Timestamp;
  readonly pieces: Piece[];
  bytes: number;
}

export class Packer {
  readonly #packs = new Map<string, Pack>();
  #bytes = 0;

  /** Bytes that wait, of all devices. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  get waits(): boolean {
    return this.#packs.size > 0;
  }

  /** Takes a poll; gives the messages that are complete now. */
  add(batch: ReadingBatch, { format = 'json', pack }: MessageShape): readonly Message[] {
    const { deviceId } = batch;
    const messages: Message[] = [];
    let open = this.#packs.get(deviceId);
    if (pack === undefined || pack === 'off') {
      if (open !== undefined) messages.push(this.#close(open));
      messages.push(formatOf(format).single(batch));
      return messages;
    }
    if (open !== undefined && !this.#fits(open, batch, format, pack)) {
      messages.push(this.#close(open));
      open = undefined;
    }
    const encoder = formatOf(format);
    const offsetMs = open === undefined ? 0 : Math.round(batch.time.monotonicMs - open.time.monotonicMs);
    let piece = encoder.piece(batch, offsetMs);
    let bytes = byteLength(piece) + encoder.separatorBytes;
    if (open !== undefined && open.bytes + bytes > pack.maxBytes) {
      messages.push(this.#close(open));
      open = undefined;
      piece = encoder.piece(batch, 0);
      bytes = byteLength(piece) + encoder.separatorBytes;
    }
    if (open === undefined) {
      open = { format, shape: pack, deviceId, time: batch.time, pieces: [], bytes: encoder.overheadBytes(deviceId) };
      this.#packs.set(deviceId, open);
      this.#bytes += open.bytes;
    }
    open.pieces.push(piece);
    open.bytes += bytes;
    this.#bytes += bytes;
    if (open.bytes >= pack.maxBytes || this.#bytes > LIMITS.packing_bytes) messages.push(this.#close(open));
    return messages;
  }

  /** Messages whose first poll is old enough at `nowMs` (monotonic); all at infinity. */
  due(nowMs: number): readonly Message[] {
    const messages: Message[] = [];
    for (const pack of this.#packs.values()) {
      if (nowMs - pack.time.monotonicMs >= pack.shape.maxMs) messages.push(this.#close(pack));
    }
    return messages;
  }

  /** Whether a poll may join: the same format, and one clock for all. */
  #fits(
    { time, format: before, shape }: Pack,
    { time: next }: ReadingBatch,
    format: BodyFormat,
    pack: PackShape,
  ): boolean {
    if (before !== format || shape.maxBytes !== pack.maxBytes || shape.maxMs !== pack.maxMs) return false;
    if (time.bootId !== next.bootId || time.clock !== next.clock) return false;
    const movedMs = next.wallMs - next.monotonicMs - (time.wallMs - time.monotonicMs);
    return Math.abs(movedMs) <= STEP_MS;
  }

  #close(pack: Pack): Message {
    this.#packs.delete(pack.deviceId);
    this.#bytes -= pack.bytes;
    return formatOf(pack.format).packed(pack.deviceId, pack.time, pack.pieces);
  }
}

function byteLength(piece: Piece): number {
  return typeof piece === 'string' ? Buffer.byteLength(piece) : piece.byteLength;
}
