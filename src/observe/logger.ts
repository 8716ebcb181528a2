// The process's log: one JSON object a line for journald and collectors, readable lines on a terminal. Fields that could
// hold a secret are masked by name, whoever logs them.

import { pino, type Logger as PinoLogger } from 'pino';
import type { LogFields, Logger } from '../core/log.ts';
import { formatLine } from './log-line.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LoggerOptions {
  /** Default `info`. */
  readonly level?: LogLevel;
  /** `lines` for people, `json` for machines. */
  readonly format: 'json' | 'lines';
  /** Where the lines go; called with each line, its end included. Must not throw. */
  readonly write: (line: string) => void;
}

/** Names of fields that are masked at the top of a line and one level below, compared without case. */
export const SECRET_FIELD =
  /password|passwd|secret|token|credential|authorization|private_?key|shared_?access|connection_?string|^sas$/i;
const MASK = '***';
const MASK_DEPTH = 4;

/** A copy in which every field with the name of a secret is masked; itself when there is none. */
export function maskSecrets(fields: LogFields, depth = 0): LogFields {
  let copy: Record<string, unknown> | undefined;
  for (const [name, value] of Object.entries(fields)) {
    let masked: unknown = value;
    if (SECRET_FIELD.test(name)) masked = value === undefined ? undefined : MASK;
    else if (depth < MASK_DEPTH && isPlainObject(value)) masked = maskSecrets(value, depth + 1);
    if (masked !== value) (copy ??= { ...fields })[name] = masked;
  }
  return copy ?? fields;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function wrap(log: PinoLogger): Logger {
  return {
    debug: (fields, sentence) => log.debug(maskSecrets(fields), sentence),
    info: (fields, sentence) => log.info(maskSecrets(fields), sentence),
    warn: (fields, sentence) => log.warn(maskSecrets(fields), sentence),
    error: (fields, sentence) => log.error(maskSecrets(fields), sentence),
    child: (fields) => wrap(log.child(maskSecrets(fields))),
  };
}

export function createLogger(options: LoggerOptions): Logger {
  const { format, write } = options;
  const destination = { write: format === 'json' ? write : (line: string) => write(formatLine(line)) };
  const log = pino(
    {
      level: options.level ?? 'info',
      base: null,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // A field `error` may hold an Error: its text and code are enough on a line, the stack only at debug.
      serializers: { error: (value: unknown) => (value instanceof Error ? value.message : value) },
    },
    destination,
  );
  return wrap(log);
}

/** A logger for parts that nobody listens to. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
};
