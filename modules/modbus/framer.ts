// How RTU application data units travel: contract of the three framers (Modbus TCP, RTU, ASCII). A framer is pure: it
// sees bytes and knows neither sockets nor time.

import type { FrameReason } from './faults.ts';
import type { FrameSender } from './late-answers.ts';
import type { ModbusRequest } from './pdu.ts';

export interface UnaskedFrame extends FrameSender {
  /** Of the whole frame; undefined: nobody knows. */
  readonly bytes: number | undefined;
}

export interface Framer {
  /**
   * Starts an exchange: the bytes to send for an application data unit. What belongs to earlier exchanges is never
   * taken for the answer of this one, as far as the protocol lets them be told apart.
   */
  request(unit: Buffer, request: ModbusRequest): Buffer;
  /**
   * Takes bytes from the wire; the answer, as an RTU application data unit, once it is whole.
   * @throws GatewayError GW_MODBUS_FRAME when what arrived can only be a damaged answer.
   */
  receive(bytes: Buffer): Buffer | undefined;
  /** What came together with the answer, behind it; empty where that says nothing. */
  readonly surplus: Buffer;
  /** Whose whole frames were passed over meanwhile, and not told yet. */
  takeForeign(): readonly FrameSender[];
  /** Ends the exchange without an answer; why none was found in what arrived. */
  giveUp(): FrameReason | 'timeout';
  /** What frame begins with these bytes, where none was asked for; undefined when they say nothing of it. */
  unaskedFrame(bytes: Buffer): UnaskedFrame | undefined;
  /** True when the place in the byte stream is lost, so that the connection has to be made anew. */
  readonly lost: boolean;
}

/** Keeps what a stream delivered and is not yet used; small, so copying is cheaper than a list of pieces. */
export function joined(rest: Buffer, bytes: Buffer): Buffer {
  return rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
}

export const NO_BYTES: Buffer = Buffer.alloc(0);
