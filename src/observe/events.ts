// The catalogue of telemetry events: each decides level, sentence, fields and counters in one place. A part emits an
// event by name and never logs or counts the same fact a second time. Rows are added by whoever emits them.

import type { LogFields } from '../core/log.ts';

export interface CounterRow {
  /** Prometheus name, `_total` at the end. */
  readonly name: string;
  readonly help: string;
  /** Fields of the event that become labels; low cardinality only (never device ids or texts of peers). */
  readonly labels?: readonly string[];
  /** Field that holds the increment; default 1. */
  readonly by?: string;
}

export interface EventRow {
  /** `error`: data was lost or a person is needed. `none`: counted only. */
  readonly level: 'none' | 'debug' | 'info' | 'warn' | 'error';
  /** A sentence for people: capitalised, ends with a full stop, no data in it. */
  readonly text: string;
  readonly counters?: readonly CounterRow[];
  /** At most one log line per this many ms for the same `key` field; repeats are counted and told with the next. */
  readonly everyMs?: number;
  /** Kept among the recent events that the status page shows. */
  readonly recent?: boolean;
}

export const EVENTS = {
  gateway_started: { level: 'info', text: 'The gateway runs.', recent: true },
  gateway_stopping: { level: 'info', text: 'The gateway stops.' },
} as const satisfies Record<string, EventRow>;

export type EventName = keyof typeof EVENTS;

/** What parts are handed to tell what happened. */
export interface Telemetry {
  emit(name: EventName, fields?: LogFields): void;
}
