// The one error class of Fieldpost and the catalogue of its stable codes. Code decides by `code` or `kind`, never by
// message text; a test proves that the catalogue, the code and the documentation list the same set.

import type { FailureKind } from './delivery.ts';

/** Process exit codes (design, section 6). 0 means stopped on request. */
export const EXIT_CODES = { ok: 0, configuration: 1, usage: 2, internal: 70, store: 75 } as const;

/**
 * Every code with what it means to an operator. `exit` is the process exit code when the error ends a command, `kind`
 * the default decision for whoever may retry.
 */
export const ERROR_CATALOGUE = {
  GW_INTERNAL: { meaning: 'A fault of Fieldpost itself.', exit: 70, kind: 'transient' },
  GW_USAGE: { meaning: 'The command line was not understood.', exit: 2, kind: 'invalid' },
  GW_CONFIG_INVALID: {
    meaning: 'The configuration has faults; each is listed with file and line.',
    exit: 1,
    kind: 'invalid',
  },
  GW_CONFIG_CONFLICT: {
    meaning: 'The change was based on a generation that is no longer the newest.',
    exit: 1,
    kind: 'invalid',
  },
  GW_CONFIG_IO: { meaning: 'The configuration could not be read or written.', exit: 1, kind: 'transient' },
  GW_DATA_DIRECTORY: { meaning: 'The data directory cannot be created or written.', exit: 75, kind: 'invalid' },
  GW_DATA_LOCKED: { meaning: 'Another Fieldpost already uses the data directory.', exit: 75, kind: 'invalid' },
  GW_STORE_OPEN: { meaning: 'A store could not be opened, repaired or salvaged.', exit: 75, kind: 'transient' },
  GW_STORE_WRITE: {
    meaning: 'A write or sync failed; the store is being reopened and verified.',
    exit: 75,
    kind: 'transient',
  },
  GW_STORE_FORMAT: {
    meaning: 'The store was written by a newer release that this one cannot read.',
    exit: 75,
    kind: 'invalid',
  },
  GW_SEALED: {
    meaning: 'A sealed secret cannot be opened: the master key is missing or another one, or the secret is damaged.',
    exit: 75,
    kind: 'invalid',
  },
  GW_UNSEAL: {
    meaning:
      'A sealed message cannot be opened: it is for another key, was changed, or is not by the signer asked for.',
    exit: 1,
    kind: 'invalid',
  },
  GW_STORE_CLOSED: { meaning: 'The store is closed.', exit: 75, kind: 'transient' },
  GW_STATE_FULL: {
    meaning: 'An entry is too large for the state store, or its owner keeps as much as the bound allows.',
    exit: 75,
    kind: 'throttled',
  },
  GW_OUTBOX_FULL: {
    meaning: 'The outbox reached a limit and its policy refuses new messages.',
    exit: 75,
    kind: 'throttled',
  },
  GW_OUTBOX_BUSY: {
    meaning: 'More appends are waiting for a commit than the bound allows.',
    exit: 75,
    kind: 'throttled',
  },
  GW_MESSAGE_INVALID: { meaning: 'A message breaks the rules for ids, properties or size.', exit: 70, kind: 'invalid' },
  GW_NOT_FOUND: { meaning: 'No device, point, queue or message of that name.', exit: 2, kind: 'invalid' },
  GW_NOT_RUNNING: { meaning: 'No running gateway answers on the control socket.', exit: 2, kind: 'transient' },
  GW_ABORTED: { meaning: 'The operation was stopped on request.', exit: 0, kind: 'transient' },
  GW_TIMEOUT: { meaning: 'No answer within the time limit.', exit: 70, kind: 'timeout' },
  GW_CONNECT: { meaning: 'A connection could not be made.', exit: 70, kind: 'transient' },
  GW_DISCONNECTED: { meaning: 'The connection was lost.', exit: 70, kind: 'transient' },
  GW_TLS: {
    meaning: 'The TLS handshake failed; the reason names certificate, name, date or cipher.',
    exit: 70,
    kind: 'unauthorized',
  },
  GW_UNAUTHORIZED: { meaning: 'The peer refused the credentials.', exit: 70, kind: 'unauthorized' },
  GW_THROTTLED: { meaning: 'The peer asks to slow down.', exit: 70, kind: 'throttled' },
  GW_PROTOCOL: { meaning: 'The peer broke its protocol.', exit: 70, kind: 'transient' },
  GW_IOTHUB: {
    meaning: "The local hub refused a request; `details` have the code of Azure IoT Hub's own catalogue.",
    exit: 2,
    kind: 'invalid',
  },
  GW_PORT_IN_USE: { meaning: 'The address and port to listen on are in use.', exit: 70, kind: 'transient' },
  GW_PORT_DENIED: { meaning: 'The address and port to listen on may not be opened.', exit: 70, kind: 'transient' },
  GW_SERIAL_MISSING: { meaning: 'The serial port does not exist.', exit: 70, kind: 'transient' },
  GW_SERIAL_BUSY: { meaning: 'The serial port is held by another program.', exit: 70, kind: 'transient' },
  GW_SERIAL_DENIED: { meaning: 'The serial port may not be opened by this user.', exit: 70, kind: 'transient' },
  GW_MODBUS_EXCEPTION: { meaning: 'The Modbus server answered with an exception code.', exit: 70, kind: 'invalid' },
  GW_MODBUS_FRAME: {
    meaning: 'A Modbus answer was truncated, oversized, or had a wrong CRC, LRC, unit or transaction id.',
    exit: 70,
    kind: 'transient',
  },
  GW_SERIAL_ANSWER: {
    meaning: 'An answer on a serial line was cut off, had a wrong checksum, could not be decoded, or was a refusal.',
    exit: 70,
    kind: 'transient',
  },
  GW_MQTT_ANSWER: { meaning: 'An MQTT device answered a write with a refusal.', exit: 70, kind: 'invalid' },
  GW_BUS_BUSY: { meaning: 'More writes wait for the bus than the bound allows.', exit: 70, kind: 'throttled' },
  GW_CAPTURE_INVALID: { meaning: 'A capture of raw bytes cannot be read, or is none.', exit: 1, kind: 'invalid' },
  GW_WRITE_REFUSED: { meaning: 'A value may not be written to this point.', exit: 2, kind: 'invalid' },
  GW_WRITE_VERIFY: { meaning: 'The value read back is not the value written.', exit: 70, kind: 'transient' },
  GW_COMMAND_EXPIRED: {
    meaning: 'A command came, or would have been done, past its deadline.',
    exit: 70,
    kind: 'invalid',
  },
  GW_COMMAND_UNKNOWN: {
    meaning: 'The gateway ended while it carried out a command; nobody knows whether the device did it.',
    exit: 70,
    kind: 'invalid',
  },
  GW_ADAPTER_STARTING: {
    meaning: 'The adapter of the device has not started yet, or is started anew after a change of the configuration.',
    exit: 70,
    kind: 'transient',
  },
  GW_DEVICE_OFFLINE: { meaning: 'The device does not answer.', exit: 70, kind: 'transient' },
} as const satisfies Record<string, { meaning: string; exit: number; kind: FailureKind }>;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

export interface GatewayErrorOptions {
  /** What caused it; kept for logs. */
  readonly cause?: unknown;
  /** Overrides the catalogue's default decision. */
  readonly kind?: FailureKind;
  /** Machine-readable facts; never secrets. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The world's errors. Programmer errors are assertions. The message says what, where and what to do. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly kind: FailureKind;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: GatewayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'GatewayError';
    this.code = code;
    this.kind = options.kind ?? ERROR_CATALOGUE[code].kind;
    this.details = options.details ?? {};
  }
}

/** True for a `GatewayError`, with that code when one is given. */
export function isGatewayError(error: unknown, code?: ErrorCode): error is GatewayError {
  return error instanceof GatewayError && (code === undefined || error.code === code);
}

/** The operating system's error code (`ENOENT`, `ECONNREFUSED`, …) of an error or of its causes, else undefined. */
export function systemCode(error: unknown): string | undefined {
  let current: unknown = error;
  for (let depth = 0; depth < 8 && typeof current === 'object' && current !== null; depth += 1) {
    const code = (current as { code?: unknown }).code;
    if (typeof code === 'string' && !code.startsWith('GW_')) return code;
    current = (current as { cause?: unknown }).cause;
  }
  return undefined;
}

/** The text of anything thrown, for a log field or a message to a user. */
export function errorText(error: unknown): string {
  if (error instanceof Error) return error.message === '' ? error.name : error.message;
  return String(error);
}
