// Modbus RTU: unit, function, data and a CRC; frames end by silence (Modbus over Serial Line V1.02, 2.5.1). No operating
// system shows silences of 1.5 characters to a program, so the end is known from the answer's length instead, and noise
// before an answer (turnaround glitches, a local echo) is passed over by looking for a place where everything fits.

import { crcHolds } from './crc.ts';
import { type FrameReason, frameFault } from './faults.ts';
import { type Framer, joined, NO_BYTES, type UnaskedFrame } from './framer.ts';
import { answerBytes, type ModbusRequest } from './pdu.ts';

const EXCEPTION_BYTES = 5;
/** The longest frame (2.5.1). */
const MAX_FRAME_BYTES = 256;
/** Noise, an echo of the request and an answer. */
const MAX_BUFFER_BYTES = 4 * MAX_FRAME_BYTES;
/** Unit, function, MEI type, read code, conformity, more follows, next object, number of objects (section 6.21). */
const IDENTIFICATION_HEADER_BYTES = 8;
const IDENTIFICATION_OBJECTS = 7;
const CRC_BYTES = 2;
/** Answers to writes, by function code. */
const ECHO_BYTES: ReadonlyMap<number, number> = new Map([
  [5, 8],
  [6, 8],
  [15, 8],
  [16, 8],
  [22, 10],
]);

export class RtuFramer implements Framer {
  #unitId = 0;
  #functionCode = 0;
  #answerBytes: number | undefined;
  #waiting = false;
  #rest: Buffer = NO_BYTES;
  surplus: Buffer = NO_BYTES;
  #foreign: UnaskedFrame[] = [];
  #foreignReason: FrameReason | undefined;
  readonly lost = false;

  request(unit: Buffer, request: ModbusRequest): Buffer {
    // Without a transaction id nothing but the order tells answers apart: what is left of earlier ones goes.
    this.#rest = NO_BYTES;
    this.#foreignReason = undefined;
    this.#unitId = unit[0] ?? 0;
    this.#functionCode = request.functionCode;
    this.#answerBytes = answerBytes(request);
    this.#waiting = true;
    return unit;
  }

  receive(bytes: Buffer): Buffer | undefined {
    if (!this.#waiting) return undefined;
    this.#rest = joined(this.#rest, bytes);
    this.#passForeign();
    const last = this.#rest.length - EXCEPTION_BYTES;
    let damaged: FrameReason | undefined;
    for (let start = 0; start <= last; start += 1) {
      const end = this.#endOfAnswer(start);
      if (end === undefined) continue;
      // The start of an answer whose end is still to come: nothing behind it counts. One of another length than asked
      // for may be an echo of the request, so what is behind it does count.
      if (end > this.#rest.length) {
        if (this.#isExpected(start, end)) return this.#needMore();
        continue;
      }
      if (crcHolds(this.#rest, start, end)) {
        const answer = this.#rest.subarray(start, end);
        this.surplus = this.#rest.subarray(end);
        this.#finish();
        if (answer[1] === this.#functionCode && end - start !== (this.#answerBytes ?? end - start)) {
          throw frameFault('length');
        }
        return answer;
      }
      if (this.#isExpected(start, end)) damaged ??= 'crc';
    }
    if (damaged !== undefined) {
      this.#finish();
      throw frameFault(damaged);
    }
    return this.#needMore();
  }

  giveUp(): FrameReason | 'timeout' {
    const reason = this.#leftover();
    this.#finish();
    return reason;
  }

  takeForeign(): readonly UnaskedFrame[] {
    const foreign = this.#foreign;
    this.#foreign = [];
    return foreign;
  }

  /** Late answers of other units or functions, whole and sound, that come before the one that is waited for. */
  #passForeign(): void {
    for (;;) {
      const frame = this.unaskedFrame(this.#rest);
      if (frame?.bytes === undefined || frame.bytes > this.#rest.length) return;
      const isOwnUnit = frame.unitId === this.#unitId;
      if (isOwnUnit && (frame.functionCode & 0x7f) === this.#functionCode) return;
      if (!crcHolds(this.#rest, 0, frame.bytes)) return;
      this.#foreign.push(frame);
      this.#foreignReason = isOwnUnit ? 'function' : 'unit_id';
      this.#rest = this.#rest.subarray(frame.bytes);
    }
  }

  /** Where an answer that starts here ends; undefined when none can start here. */
  #endOfAnswer(start: number): number | undefined {
    if (this.#rest[start] !== this.#unitId) return undefined;
    const functionCode = this.#rest[start + 1] ?? 0;
    if (functionCode === (this.#functionCode | 0x80)) return start + EXCEPTION_BYTES;
    if (functionCode !== this.#functionCode) return undefined;
    switch (functionCode) {
      case 1:
      case 2:
      case 3:
      case 4:
      case 23:
        return start + 3 + (this.#rest[start + 2] ?? 0) + CRC_BYTES;
      case 43:
        return this.#endOfIdentification(start);
      default:
        return start + (this.#answerBytes ?? EXCEPTION_BYTES);
    }
  }

  #isExpected(start: number, end: number): boolean {
    return this.#answerBytes === undefined || end - start === this.#answerBytes || (this.#rest[start + 1] ?? 0) > 0x80;
  }

  #endOfIdentification(start: number): number {
    const objects = this.#rest[start + IDENTIFICATION_OBJECTS];
    let end = start + IDENTIFICATION_HEADER_BYTES;
    for (let index = 0; index < (objects ?? 0); index += 1) {
      // Some devices give the number of objects of all answers together (the example of section 6.21 does): an end
      // where the CRC holds is the end.
      if (end + CRC_BYTES <= this.#rest.length && crcHolds(this.#rest, start, end + CRC_BYTES)) break;
      const length = this.#rest[end + 1];
      end += 2 + (length ?? 0);
      if (length === undefined) break;
    }
    return end + CRC_BYTES;
  }

  #needMore(): undefined {
    if (this.#rest.length <= MAX_BUFFER_BYTES) return;
    this.#finish();
    throw frameFault('oversized');
  }

  unaskedFrame(bytes: Buffer): UnaskedFrame | undefined {
    const [unitId, functionCode, count] = bytes;
    if (bytes.length < EXCEPTION_BYTES || unitId === undefined || functionCode === undefined) return undefined;
    if (functionCode >= 0x80) return { unitId, functionCode, bytes: EXCEPTION_BYTES };
    const isRead = functionCode <= 4 || functionCode === 23;
    return { unitId, functionCode, bytes: isRead ? 3 + (count ?? 0) + CRC_BYTES : ECHO_BYTES.get(functionCode) };
  }

  #leftover(): FrameReason | 'timeout' {
    const { length } = this.#rest;
    if (length === 0) return this.#foreignReason ?? 'timeout';
    if (this.#rest[0] === this.#unitId && ((this.#rest[1] ?? 0) & 0x7f) === this.#functionCode) return 'truncated';
    const otherUnit =
      this.#answerBytes !== undefined && length >= this.#answerBytes && crcHolds(this.#rest, 0, this.#answerBytes);
    const otherException = length >= EXCEPTION_BYTES && crcHolds(this.#rest, 0, EXCEPTION_BYTES);
    if (otherUnit || otherException) return this.#rest[0] === this.#unitId ? 'function' : 'unit_id';
    // One or two stray bytes are what a line driver makes when it is switched; they say nothing of the device.
    return length <= 2 ? 'timeout' : 'garbled';
  }

  #finish(): void {
    this.#waiting = false;
    this.#rest = NO_BYTES;
  }
}
