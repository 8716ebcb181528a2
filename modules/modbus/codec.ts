// The one file that knows `modbus-serial`: its client encodes requests, and checks and parses answers, as RTU
// application data units (unit, function, data, CRC) in memory.
//
// Only its codec is used. Its ports (read at 8.0.25) were left out: the serial ones never deliver an answer to functions
// 22 and 23 and take a late answer for the next one; the TCP one leaves a rejected promise behind when a write fails and
// tells nobody of a connection that ended with an error; and when function 43 continues and the continuation stays out,
// the library throws in a timer. Frames, timeouts and connections are therefore ours.

import { EventEmitter } from 'node:events';
import modbusSerial from 'modbus-serial';
import { exceptionFault, frameFault } from './faults.ts';
import type { ModbusRequest } from './pdu.ts';

/** Smallest answer: unit, function, one byte, CRC. */
const MIN_ANSWER_BYTES = 5;
const NO_DATA = new Uint8Array(0);

/** What `modbus-serial` takes for a port: an emitter of whole answers with a transaction id of its own choice. */
class MemoryPort extends EventEmitter {
  readonly isOpen = true;
  // Names given by the library. One exchange at a time, so one id; it numbers transactions itself only over TCP.
  readonly _transactionIdRead = 1;
  readonly _transactionIdWrite = 1;
  written: Buffer = Buffer.alloc(0);

  open(callback: (error?: Error) => void): void {
    callback();
  }

  close(callback?: () => void): void {
    callback?.();
  }

  write(bytes: Buffer): void {
    this.written = bytes;
  }
}

/** Encodes one request at a time and decodes its answer. */
export class Codec {
  readonly #port = new MemoryPort();
  readonly #client: InstanceType<typeof modbusSerial.default>;
  #request: ModbusRequest | undefined;
  #answer: unknown;
  #error: unknown;
  readonly #settle = (error: unknown, answer: unknown): void => {
    this.#error = error;
    this.#answer = answer;
  };

  constructor() {
    this.#client = new modbusSerial.default(this.#port);
    this.#client.open(() => {});
  }

  /** The RTU application data unit of a request. */
  encode(unitId: number, request: ModbusRequest): Buffer {
    this.#request = request;
    this.#call(unitId, request);
    return this.#port.written;
  }

  /**
   * What the answer to the last encoded request says: bytes of registers, packed bits, or of the identification; nothing
   * for writes. @throws GatewayError GW_MODBUS_EXCEPTION, GW_MODBUS_FRAME.
   */
  decode(answer: Buffer): Uint8Array {
    const request = this.#request;
    if (request === undefined || answer.length < MIN_ANSWER_BYTES) throw frameFault('length');
    const functionCode = answer[1] ?? 0;
    if (functionCode === (request.functionCode | 0x80)) throw exceptionFault(answer[2] ?? 0);
    if (functionCode !== request.functionCode) throw frameFault('function');
    // Without the CRC; parsed by identification.ts, see the head of this file.
    if (request.functionCode === 43) return answer.subarray(2, -2);
    if (!this.#repeatsRequest(request, answer)) throw frameFault('echo');
    this.#error = frameFault('length');
    this.#port.emit('data', answer);
    if (this.#error !== null && this.#error !== undefined) throw frameFault('length', this.#error);
    // Functions 1 to 4 give the bytes; function 23 gives numbers only, of which the bytes are these.
    const bytes = (this.#answer as { buffer?: Uint8Array } | undefined)?.buffer;
    return bytes ?? (request.functionCode === 23 ? answer.subarray(3, -2) : NO_DATA);
  }

  #call(unitId: number, request: ModbusRequest): void {
    const client = this.#client;
    switch (request.functionCode) {
      case 1:
        return client.writeFC1(unitId, request.address, request.quantity, this.#settle);
      case 2:
        return client.writeFC2(unitId, request.address, request.quantity, this.#settle);
      case 3:
        return client.writeFC3(unitId, request.address, request.quantity, this.#settle);
      case 4:
        return client.writeFC4(unitId, request.address, request.quantity, this.#settle);
      case 5:
        return client.writeFC5(unitId, request.address, request.on, this.#settle);
      case 6:
        return client.writeFC6(unitId, request.address, request.value, this.#settle);
      case 15:
        return client.writeFC15(unitId, request.address, [...request.states], this.#settle);
      case 16:
        return client.writeFC16(unitId, request.address, [...request.values], this.#settle);
      case 22:
        return client.writeFC22(unitId, request.address, request.andMask, request.orMask, this.#settle);
      case 23:
        return client.writeFC23(
          unitId,
          request.readAddress,
          request.readQuantity,
          request.writeAddress,
          request.values.length,
          [...request.values],
          this.#settle,
        );
      case 43:
        return (client as unknown as IdentifyingClient).writeFC43(
          unitId,
          request.readCode,
          request.objectId,
          this.#settle,
        );
    }
  }

  /** Writes are confirmed by repeating address and value or quantity (sections 6.5, 6.6, 6.11, 6.12, 6.16). */
  #repeatsRequest(request: ModbusRequest, answer: Buffer): boolean {
    switch (request.functionCode) {
      case 5:
      case 6:
      case 15:
      case 16:
        return this.#port.written.compare(answer, 2, 6, 2, 6) === 0;
      case 22:
        return this.#port.written.compare(answer, 2, 8, 2, 8) === 0;
      default:
        return true;
    }
  }
}

/** Missing from the library's types. */
interface IdentifyingClient {
  writeFC43(unitId: number, readCode: number, objectId: number, next: (error: unknown, answer: unknown) => void): void;
}
