// How an exchange on a serial line fails: each fault is a GatewayError whose `details.reason` is the stable word that
// becomes the quality of a point (`bad:REASON`) and the outcome of an exchange.

import { GatewayError, isGatewayError } from '#sdk';

const REASON_TEXT: Readonly<Record<string, string>> = {
  checksum: 'its checksum is wrong: check wiring, baud rate, parity and the kind of checksum',
  oversized: 'it is longer than max_frame_bytes: check framing and baud rate',
  truncated: 'it ended in the middle: check framing, partial_timeout_ms and wiring',
  garbled: 'it is no frame: check baud rate, parity and framing',
  garbage: 'only bytes outside of frames came: check baud rate, parity and framing',
  no_match: 'it does not match the pattern',
  fields: 'it has another number of fields',
  not_json: 'it is not JSON',
  not_nmea: 'it is not an NMEA 0183 sentence',
  short: 'it is shorter than the layout',
  ignored: 'it is a sentence of which nothing is configured',
};

/** Something came, and it was not a sound answer. */
export function answerFault(reason: string): GatewayError {
  const text = REASON_TEXT[reason] ?? reason;
  return new GatewayError('GW_SERIAL_ANSWER', `Bad answer: ${text}.`, { details: { reason } });
}

export function timeoutFault(timeoutMs: number): GatewayError {
  return new GatewayError('GW_TIMEOUT', `No answer within ${Math.round(timeoutMs)} ms.`, {
    details: { reason: 'timeout' },
  });
}

export function disconnectedFault(text: string, cause?: unknown): GatewayError {
  return new GatewayError('GW_DISCONNECTED', text, { cause, details: { reason: 'disconnected' } });
}

export function stoppedFault(): GatewayError {
  return new GatewayError('GW_ABORTED', 'The line stops.', { details: { reason: 'stopped' } });
}

/** A write that ended before its turn on the line had come. */
export function notSentFault(target: string, cause: unknown): GatewayError {
  const text = `Nothing was sent: the write was ended before its turn on ${target} had come.`;
  return new GatewayError('GW_ABORTED', text, { cause, details: { reason: 'not_sent' } });
}

/** The stable word for anything that an exchange threw. */
export function reasonOf(error: unknown): string {
  if (!isGatewayError(error)) return 'internal';
  const reason = error.details['reason'];
  if (typeof reason === 'string') return reason;
  return error.code === 'GW_TIMEOUT' ? 'timeout' : 'disconnected';
}
