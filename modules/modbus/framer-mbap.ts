// Modbus TCP: the MBAP header with a transaction id (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3).

import { crc16 } from './crc.ts';
import { type FrameReason, frameFault } from './faults.ts';
import { type Framer, joined, NO_BYTES } from './framer.ts';
import type { FrameSender } from './late-answers.ts';

/** Transaction id, protocol id, length. */
const HEADER_BYTES = 6;
/** Unit id and function code at least. */
const MIN_LENGTH = 2;
/** Unit id and a protocol data unit of 253 bytes. */
const MAX_LENGTH = 254;
const CRC_BYTES = 2;

export class MbapFramer implements Framer {
  #transactionId = 0;
  #unitId: number | undefined;
  #rest: Buffer = NO_BYTES;
  #seen: FrameReason | 'timeout' = 'timeout';
  #lost = false;

  get lost(): boolean {
    return this.#lost;
  }

  request(unit: Buffer): Buffer {
    this.#transactionId = (this.#transactionId + 1) & 0xffff;
    this.#unitId = unit[0];
    this.#seen = 'timeout';
    const length = unit.length - CRC_BYTES;
    const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
    frame.writeUInt16BE(this.#transactionId, 0);
    frame.writeUInt16BE(0, 2);
    frame.writeUInt16BE(length, 4);
    unit.copy(frame, HEADER_BYTES, 0, length);
    return frame;
  }

  receive(bytes: Buffer): Buffer | undefined {
    let rest = joined(this.#rest, bytes);
    let answer: Buffer | undefined;
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt16BE(4);
      if (rest.readUInt16BE(2) !== 0 || length < MIN_LENGTH || length > MAX_LENGTH) {
        this.#rest = NO_BYTES;
        this.#lost = true;
        throw frameFault(length > MAX_LENGTH && rest.readUInt16BE(2) === 0 ? 'oversized' : 'protocol_id');
      }
      const end = HEADER_BYTES + length;
      if (rest.length < end) break;
      const isAnswer = this.#unitId !== undefined && rest.readUInt16BE(0) === this.#transactionId;
      // Frames of earlier exchanges come late; they are passed over and named only if nothing else comes.
      if (isAnswer) answer = rest.subarray(HEADER_BYTES, end);
      else if (this.#unitId !== undefined) this.#seen = 'transaction_id';
      rest = rest.subarray(end);
      if (isAnswer) break;
    }
    this.#rest = rest;
    if (answer === undefined) return undefined;
    const unitId = this.#unitId;
    this.#unitId = undefined;
    if (answer[0] !== unitId) throw frameFault('unit_id');
    return withCrc(answer);
  }

  // Transaction ids tell late answers apart.
  readonly surplus = NO_BYTES;

  takeForeign(): readonly FrameSender[] {
    return [];
  }

  unaskedFrame(): undefined {
    return undefined;
  }

  giveUp(): FrameReason | 'timeout' {
    this.#unitId = undefined;
    if (this.#rest.length === 0) return this.#seen;
    // The middle of a frame: what comes next may belong to it or not.
    this.#lost = true;
    return 'truncated';
  }
}

function withCrc(unit: Buffer): Buffer {
  const result = Buffer.allocUnsafe(unit.length + CRC_BYTES);
  unit.copy(result);
  result.writeUInt16LE(crc16(unit, 0, unit.length), unit.length);
  return result;
}
