// Modbus ASCII: `:`, two hexadecimal characters a byte, LRC, CR LF (Modbus over Serial Line V1.02, 2.5.2).

import { crc16, lrc } from './crc.ts';
import { type FrameReason, frameFault } from './faults.ts';
import { type Framer, joined, NO_BYTES, type UnaskedFrame } from './framer.ts';
import type { FrameSender } from './late-answers.ts';
import type { ModbusRequest } from './pdu.ts';

const COLON = 0x3a;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const CRC_BYTES = 2;
/** `:`, unit, function and LRC in hexadecimal: the least that can be parsed. */
const MIN_FRAME_CHARS = 7;
/** The longest frame (2.5.2.1), less CR LF. */
const MAX_FRAME_CHARS = 511;

export class AsciiFramer implements Framer {
  #unitId = 0;
  #functionCode = 0;
  #waiting = false;
  #rest: Buffer = NO_BYTES;
  #seen: FrameReason | 'timeout' = 'timeout';
  surplus: Buffer = NO_BYTES;
  #foreign: FrameSender[] = [];
  readonly lost = false;

  request(unit: Buffer, request: ModbusRequest): Buffer {
    this.#rest = NO_BYTES;
    this.#seen = 'timeout';
    this.#unitId = unit[0] ?? 0;
    this.#functionCode = request.functionCode;
    this.#waiting = true;
    const end = unit.length - CRC_BYTES;
    const check = lrc(unit, 0, end).toString(16).padStart(2, '0');
    return Buffer.from(`:${unit.toString('hex', 0, end)}${check}`.toUpperCase() + '\r\n', 'latin1');
  }

  receive(bytes: Buffer): Buffer | undefined {
    if (!this.#waiting) return undefined;
    this.#rest = joined(this.#rest, bytes);
    for (;;) {
      const end = this.#rest.indexOf(LINE_FEED);
      if (end < 0) break;
      // A colon always starts a frame anew (2.5.2.1), so the last one before the end counts.
      const start = this.#rest.lastIndexOf(COLON, end);
      const line = this.#rest.subarray(Math.max(start, 0), end);
      this.#rest = this.#rest.subarray(end + 1);
      const answer = this.#parse(line);
      if (answer !== undefined) return answer;
    }
    if (this.#rest.length > MAX_FRAME_CHARS + 2) {
      const start = this.#rest.lastIndexOf(COLON);
      this.#rest = start <= 0 ? NO_BYTES : this.#rest.subarray(start);
      this.#seen = 'oversized';
    }
    return undefined;
  }

  takeForeign(): readonly FrameSender[] {
    const foreign = this.#foreign;
    this.#foreign = [];
    return foreign;
  }

  unaskedFrame(bytes: Buffer): UnaskedFrame | undefined {
    const [unitId, functionCode] = Buffer.from(bytes.toString('latin1', 1, 5), 'hex');
    if (bytes[0] !== COLON || unitId === undefined || functionCode === undefined) return undefined;
    const end = bytes.indexOf(LINE_FEED);
    return { unitId, functionCode, bytes: (end < 0 ? bytes.length : end) + 1 };
  }

  giveUp(): FrameReason | 'timeout' {
    const reason = this.#rest.includes(COLON) ? 'truncated' : this.#seen;
    this.#finish();
    return reason;
  }

  /** The answer in a line; undefined when the line is not for this exchange. */
  #parse(line: Buffer): Buffer | undefined {
    const chars = line.at(-1) === CARRIAGE_RETURN ? line.length - 1 : line.length;
    const isFrame = line[0] === COLON && chars >= MIN_FRAME_CHARS && chars <= MAX_FRAME_CHARS && chars % 2 === 1;
    if (!isFrame) {
      if (chars > 0) this.#seen = chars > MAX_FRAME_CHARS ? 'oversized' : 'garbled';
      return undefined;
    }
    const decoded = Buffer.from(line.toString('latin1', 1, chars), 'hex');
    // Buffer.from stops at the first character that is not hexadecimal.
    if (decoded.length !== (chars - 1) / 2) {
      this.#seen = 'garbled';
      return undefined;
    }
    const end = decoded.length - 1;
    const isWhole = lrc(decoded, 0, end) === decoded[end];
    const [unitId = 0, functionCode = 0] = decoded;
    const isOwnUnit = unitId === this.#unitId;
    if (!isOwnUnit || (functionCode & 0x7f) !== this.#functionCode) {
      if (isWhole) {
        this.#seen = isOwnUnit ? 'function' : 'unit_id';
        this.#foreign.push({ unitId, functionCode });
      }
      return undefined;
    }
    this.surplus = this.#rest;
    this.#finish();
    if (!isWhole) throw frameFault('lrc');
    const answer = Buffer.allocUnsafe(end + CRC_BYTES);
    decoded.copy(answer, 0, 0, end);
    answer.writeUInt16LE(crc16(decoded, 0, end), end);
    return answer;
  }

  #finish(): void {
    this.#waiting = false;
    this.#rest = NO_BYTES;
  }
}
