// How a Modbus exchange fails: each fault is a GatewayError whose `details.reason` is the stable word that becomes the
// quality of a point (`bad:REASON`) and the outcome of an exchange.

import { GatewayError, isGatewayError } from '#sdk';

/** What may be wrong with an answer. */
export type FrameReason =
  | 'crc'
  | 'lrc'
  | 'truncated'
  | 'oversized'
  | 'length'
  | 'unit_id'
  | 'transaction_id'
  | 'protocol_id'
  | 'function'
  | 'echo'
  | 'late_answer'
  | 'garbled';

const FRAME_TEXT: Readonly<Record<FrameReason, string>> = {
  crc: 'the CRC is wrong: check wiring, termination, baud rate and parity',
  lrc: 'the LRC is wrong: check wiring, termination, baud rate and parity',
  truncated: 'the answer ended in the middle',
  oversized: 'more bytes came than a frame may have',
  length: 'the answer has not the length that was asked for',
  unit_id: 'another unit id answered',
  transaction_id: 'the answer has another transaction id',
  protocol_id: 'the answer is not Modbus TCP (protocol id or length): check host, port and transport kind',
  function: 'the answer has another function code',
  echo: 'the answer does not repeat the address and value that were written',
  late_answer:
    'it may be the late answer to an earlier request: set timeout_ms above what the line and its converters take',
  garbled: 'the answer is not a Modbus frame: check baud rate, parity and transport kind',
};

export function frameFault(reason: FrameReason, cause?: unknown): GatewayError {
  return new GatewayError('GW_MODBUS_FRAME', `Bad answer: ${FRAME_TEXT[reason]}.`, { cause, details: { reason } });
}

/** Exception codes of section 7 of the application protocol specification. */
const EXCEPTIONS: Readonly<Record<number, string>> = {
  1: 'illegal function',
  2: 'illegal data address',
  3: 'illegal data value',
  4: 'server device failure',
  5: 'acknowledge, still working',
  6: 'server device busy',
  7: 'negative acknowledge',
  8: 'memory parity error',
  10: 'gateway path unavailable',
  11: 'gateway target device failed to respond',
};

export function exceptionFault(exception: number): GatewayError {
  const name = EXCEPTIONS[exception] ?? 'unknown exception';
  return new GatewayError('GW_MODBUS_EXCEPTION', `The device answered exception ${exception} (${name}).`, {
    // Busy devices may be asked again (section 7: 5 and 6 ask the client to come back).
    kind: exception === 5 || exception === 6 || exception >= 10 ? 'transient' : 'invalid',
    details: { reason: `exception_${exception}`, exception },
  });
}

/** `reason` tells more than silence when something arrived that was not the answer. */
export function timeoutFault(timeoutMs: number, reason: FrameReason | 'timeout'): GatewayError {
  if (reason !== 'timeout') return frameFault(reason);
  return new GatewayError('GW_TIMEOUT', `No answer within ${Math.round(timeoutMs)} ms.`, { details: { reason } });
}

export function disconnectedFault(text: string, cause?: unknown): GatewayError {
  return new GatewayError('GW_DISCONNECTED', text, { cause, details: { reason: 'disconnected' } });
}

/** The stable word for anything that an exchange threw. */
export function reasonOf(error: unknown): string {
  if (!isGatewayError(error)) return 'internal';
  const reason = error.details['reason'];
  if (typeof reason === 'string') return reason;
  switch (error.code) {
    case 'GW_TIMEOUT':
      return 'timeout';
    case 'GW_ABORTED':
      return 'stopped';
    case 'GW_MODBUS_FRAME':
      return 'garbled';
    default:
      return 'disconnected';
  }
}

/** The exception code of the answer; undefined when the fault was another one. */
export function exceptionOf(error: unknown): number | undefined {
  if (!isGatewayError(error, 'GW_MODBUS_EXCEPTION')) return undefined;
  const exception = error.details['exception'];
  return typeof exception === 'number' ? exception : undefined;
}

/** Silence, garbage and a server that hangs up say only that nobody sound is there. */
export function isNoAnswer(error: unknown): boolean {
  return (
    isGatewayError(error, 'GW_TIMEOUT') ||
    isGatewayError(error, 'GW_MODBUS_FRAME') ||
    isGatewayError(error, 'GW_DISCONNECTED')
  );
}
