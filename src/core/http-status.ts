// How errors look over HTTP: one status for each code, so that the web server, the control socket and later heads agree.

import { isGatewayError, type ErrorCode } from './errors.ts';

/** Codes that are not a plain 500. */
const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  GW_USAGE: 400,
  GW_MESSAGE_INVALID: 400,
  GW_IOTHUB: 400,
  GW_CONFIG_INVALID: 422,
  GW_CONFIG_CONFLICT: 409,
  GW_NOT_FOUND: 404,
  GW_WRITE_REFUSED: 403,
  GW_THROTTLED: 429,
  GW_OUTBOX_BUSY: 429,
  GW_STATE_FULL: 507,
  GW_OUTBOX_FULL: 507,
  GW_STORE_WRITE: 503,
  GW_STORE_CLOSED: 503,
  GW_DEVICE_OFFLINE: 503,
  GW_NOT_RUNNING: 503,
  GW_ABORTED: 503,
  GW_COMMAND_EXPIRED: 408,
  GW_MODBUS_EXCEPTION: 502,
  GW_MODBUS_FRAME: 502,
  GW_SERIAL_ANSWER: 502,
  GW_MQTT_ANSWER: 502,
  GW_WRITE_VERIFY: 502,
  GW_TIMEOUT: 504,
};

/** HTTP status (RFC 9110, section 15) for anything thrown; what is not a GatewayError is 500. */
export function httpStatus(error: unknown): number {
  return isGatewayError(error) ? (STATUS[error.code] ?? 500) : 500;
}

/** The body of an error answer. */
export interface ErrorBody {
  readonly code: ErrorCode;
  readonly message: string;
}

/** What may be told to the caller: the texts of GatewayErrors are written for people, others may hold anything. */
export function errorBody(error: unknown): ErrorBody {
  if (isGatewayError(error)) return { code: error.code, message: error.message };
  return { code: 'GW_INTERNAL', message: 'Fieldpost failed at this request. Its log says why.' };
}
