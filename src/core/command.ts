// Commands: what somebody, near or far, wants a leaf device to do, and how that ended. Commands move machines, so each is
// done at most once, in time, and answered by what the device says.

import { isGatewayError, type ErrorCode } from './errors.ts';
import type { JsonValue, PointValue } from './reading.ts';

/** What a device is to do. `deviceId` may be any text: no such device is an answer like another. */
export type DeviceCommand =
  | { readonly kind: 'write'; readonly deviceId: string; readonly values: Readonly<Record<string, PointValue>> }
  | { readonly kind: 'action'; readonly deviceId: string; readonly action: string; readonly payload?: unknown };

export interface CommandOptions {
  /** Who asks, for log and audit: `cli:root`, `upstream:$upstream`, … */
  readonly actor: string;
  /**
   * Names the command, with its device: one whose id was seen in the last 24 h is answered from its record and never done
   * again. 1 to COMMAND_ID_MAX_BYTES bytes. Without it the command is done each time it comes.
   */
  readonly id?: string | undefined;
  /** UTC wall clock in ms; refused once it is past, and while the clock is unknown. */
  readonly expiresAtMs?: number | undefined;
  /** From its arrival to its end, waiting included. */
  readonly timeoutMs?: number | undefined;
  /** Called before the device is touched; a command that failed without it has done nothing. Must not throw. */
  readonly onBegun?: (() => void) | undefined;
}

/** 200 done · 400 refused · 404 no such device or point · 408 past its deadline · 429, 503 not taken, may be sent again · 500 outcome unknown · 502 the device's own error · 504 no answer. */
export type CommandStatus = 200 | 400 | 404 | 408 | 429 | 500 | 502 | 503 | 504;

export interface CommandAnswer {
  readonly status: CommandStatus;
  /** Of the points that were written: what the device says it holds now, or confirmed without telling. */
  readonly values?: Readonly<Record<string, JsonValue>>;
  /** Of what was written and is not confirmed: `uncertain:unconfirmed`, … */
  readonly quality?: Readonly<Record<string, string>>;
  /** What an action answered. */
  readonly payload?: unknown;
  /** The device's own code (`exception_2`) or the gateway's. */
  readonly code?: string;
  /** Why it is not 200, in words for a person. */
  readonly reason?: string;
}

/** One command in the audit. */
export interface AuditRecord {
  readonly number: number;
  readonly time: string;
  readonly clock: string;
  readonly actor: string;
  readonly device: string;
  /** `write`, or the name of an action. */
  readonly command: string;
  readonly id?: string;
  /** What was asked for, as JSON; cut off where it is long. */
  readonly request: string;
  readonly answer: CommandAnswer;
  readonly durationMs: number;
}

export const COMMAND_ID_MAX_BYTES = 128;

/** Codes that are not 500. What is left to a retry with the same id is 429 or 503. */
const STATUS: Partial<Readonly<Record<ErrorCode, CommandStatus>>> = {
  GW_USAGE: 400,
  GW_MESSAGE_INVALID: 400,
  GW_WRITE_REFUSED: 400,
  GW_CONFIG_INVALID: 400,
  GW_CONFIG_CONFLICT: 400,
  GW_NOT_FOUND: 404,
  GW_COMMAND_EXPIRED: 408,
  GW_THROTTLED: 429,
  GW_BUS_BUSY: 429,
  GW_STATE_FULL: 429,
  GW_ADAPTER_STARTING: 503,
  GW_STORE_WRITE: 503,
  GW_STORE_OPEN: 503,
  GW_STORE_CLOSED: 503,
  GW_MODBUS_EXCEPTION: 502,
  GW_MODBUS_FRAME: 502,
  GW_SERIAL_ANSWER: 502,
  GW_MQTT_ANSWER: 502,
  GW_WRITE_VERIFY: 502,
  GW_PROTOCOL: 502,
  GW_DEVICE_OFFLINE: 504,
  GW_DISCONNECTED: 504,
  GW_TIMEOUT: 504,
};

/** What an error means to whoever sent the command. The texts of GatewayErrors are written for people, others may hold anything. */
export function answerOf(error: unknown): CommandAnswer & { readonly code: string; readonly reason: string } {
  if (!isGatewayError(error)) {
    return { status: 500, code: 'GW_INTERNAL', reason: 'Fieldpost failed at this command. Its log says why.' };
  }
  const { reason } = error.details;
  const own = STATUS[error.code] === 502 && typeof reason === 'string' ? reason : error.code;
  return { status: STATUS[error.code] ?? 500, code: own, reason: error.message };
}
