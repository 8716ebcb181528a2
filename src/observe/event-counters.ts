// Counters that telemetry events feed. Counting is on the path of every message, so it is an addition on a plain object;
// Prometheus reads the sums when it asks.

import { LIMITS } from '../core/limits.ts';
import type { LogFields } from '../core/log.ts';
import { EVENTS, type CounterRow, type EventRow } from './events.ts';

export interface CounterSample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface EventCounters {
  count(rows: readonly CounterRow[], fields: LogFields): void;
  samples(name: string): readonly CounterSample[];
}

interface MutableSample {
  readonly labels: Record<string, string>;
  value: number;
}

const OTHER = 'other';

/** The counters of all events, by name: events may share one. */
export function counterRows(): readonly CounterRow[] {
  const rows = new Map<string, CounterRow>();
  for (const event of Object.values(EVENTS) as EventRow[]) {
    for (const row of event.counters ?? []) if (!rows.has(row.name)) rows.set(row.name, row);
  }
  return [...rows.values()];
}

export function createEventCounters(): EventCounters {
  const counters = new Map<string, Map<string, MutableSample>>();
  for (const row of counterRows()) {
    // A counter without labels exists from the start, so that a rate over it has a beginning.
    const first: [string, MutableSample][] = row.labels === undefined ? [['', { labels: {}, value: 0 }]] : [];
    counters.set(row.name, new Map(first));
  }

  function sample(row: CounterRow, fields: LogFields): MutableSample | undefined {
    const samples = counters.get(row.name);
    if (samples === undefined) return undefined;
    let id = '';
    for (const label of row.labels ?? []) id += `${labelText(fields[label])}\n`;
    const known = samples.get(id);
    if (known !== undefined) return known;
    // Labels have few values by design; should a peer's text slip into one, the table stays bounded all the same.
    const full = samples.size >= LIMITS.metric_label_sets;
    if (full && fields !== OTHER_FIELDS) return sample(row, OTHER_FIELDS);
    const labels: Record<string, string> = {};
    for (const label of row.labels ?? []) labels[label] = full ? OTHER : labelText(fields[label]);
    const added = { labels, value: 0 };
    samples.set(id, added);
    return added;
  }

  return {
    count(rows, fields) {
      for (const row of rows) {
        const by = row.by === undefined ? 1 : fields[row.by];
        const counter = sample(row, fields);
        if (counter !== undefined && typeof by === 'number' && by > 0) counter.value += by;
      }
    },
    samples: (name) => [...(counters.get(name)?.values() ?? [])],
  };
}

/** Labels are words; anything else is a fault of the emitter and shows as an empty label. */
function labelText(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

/** Stands for every label set past the bound. */
const OTHER_FIELDS: LogFields = new Proxy({}, { get: () => OTHER });
