// Tells what happened: counts, logs and remembers an event in one place, as its row in the catalogue says.
//
// A row with `everyMs` is said at once, then at most once per that time for each `key`; what was held back is counted,
// and its last occurrence is said when the time is over, so that the last word is always the present state.

import type { RecentEvent } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import { LIMITS } from '../core/limits.ts';
import type { LogFields, Logger } from '../core/log.ts';
import { isoTime } from '../core/time.ts';
import { EVENTS, type EventName, type EventRow, type Telemetry } from './events.ts';
import { maskSecrets } from './logger.ts';
import type { EventCounters } from './event-counters.ts';

export interface TelemetryOptions {
  readonly log: Logger;
  readonly clock: Clock;
  readonly counters: EventCounters;
}

export interface TelemetryHub extends Telemetry {
  /** The last events whose row says `recent`, newest first; at most LIMITS.recent_events. */
  recent(): readonly RecentEvent[];
  /** Says what is still held back and ends its timers. What is told later is said at once. */
  close(): void;
}

interface Held {
  /** Fields of the last occurrence that was held back. */
  fields: LogFields | undefined;
  repeats: number;
  readonly cancel: () => void;
}

export function createTelemetry({ log, clock, counters }: TelemetryOptions): TelemetryHub {
  const rows: Record<EventName, EventRow> = EVENTS;
  const held = new Map<string, Held>();
  const recent: RecentEvent[] = [];
  let isClosed = false;

  function remember(name: EventName, row: EventRow, fields: LogFields): void {
    recent.push({
      time: isoTime(clock.wallMs()),
      name,
      level: row.level === 'none' ? 'info' : row.level,
      text: row.text,
      fields: plainFields(fields),
    });
    if (recent.length > LIMITS.recent_events) recent.shift();
  }

  function say(name: EventName, row: EventRow, fields: LogFields): void {
    if (row.level !== 'none') log[row.level]({ event: name, ...fields }, row.text);
    if (row.recent === true) remember(name, row, fields);
  }

  function release(id: string, name: EventName, row: EventRow): void {
    const entry = held.get(id);
    if (entry === undefined) return;
    held.delete(id);
    entry.cancel();
    if (entry.fields === undefined) return;
    // Said again, so the next of its kind waits again.
    hold(id, name, row);
    say(name, row, entry.repeats > 1 ? { ...entry.fields, repeats: entry.repeats } : entry.fields);
  }

  function hold(id: string, name: EventName, row: EventRow): void {
    held.set(id, {
      fields: undefined,
      repeats: 0,
      cancel: clock.after(row.everyMs ?? 0, () => release(id, name, row)),
    });
  }

  return {
    emit(name, fields = {}) {
      const row = rows[name];
      if (row.counters !== undefined) counters.count(row.counters, fields);
      if (row.level === 'none' && row.recent !== true) return;
      if (row.everyMs === undefined) {
        say(name, row, shownFields(fields));
        return;
      }
      const key = typeof fields['key'] === 'string' ? fields['key'] : '';
      const id = `${name} ${key}`;
      const entry = held.get(id);
      if (entry !== undefined) {
        entry.fields = shownFields(fields);
        entry.repeats += 1;
        return;
      }
      // Past the bound an event is said without being held: a long log is better than an endless table. After the
      // close, too: a timer would keep the process alive for what is still under way, such as the check of a password.
      if (!isClosed && held.size < LIMITS.telemetry_keys) hold(id, name, row);
      say(name, row, shownFields(fields));
    },
    recent: () => recent.toReversed(),
    close() {
      isClosed = true;
      for (const [id, entry] of held) {
        entry.cancel();
        const name = id.slice(0, id.indexOf(' ')) as EventName;
        if (entry.fields !== undefined) say(name, rows[name], { ...entry.fields, repeats: entry.repeats });
      }
      held.clear();
    },
  };
}

/** Without the key, and with whole milliseconds: nobody reads a jittered wait to its last digit. */
function shownFields(fields: LogFields): LogFields {
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (name !== 'key') shown[name] = typeof value === 'number' && name.endsWith('Ms') ? Math.round(value) : value;
  }
  return shown;
}

/** Fields that can be sent as JSON, without secrets. */
function plainFields(fields: LogFields): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(maskSecrets(fields))) {
    if (value === undefined) continue;
    if (value instanceof Error) plain[name] = value.message;
    else plain[name] = typeof value === 'bigint' ? value.toString() : value;
  }
  return plain;
}
