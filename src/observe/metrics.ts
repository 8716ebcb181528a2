// Metrics from the catalogues. Counting and observing are additions on plain numbers; everything else, the Prometheus
// library included, is touched only when somebody asks, so that a gateway that nobody scrapes pays nothing for it.

import type { Metric } from 'prom-client';
import type { Exchange, PollTiming } from '../core/adapter.ts';
import { counterRows, createEventCounters, type CounterSample, type EventCounters } from './event-counters.ts';
import type { Telemetry } from './events.ts';
import { createHistogram, type HistogramSums } from './histogram.ts';
import { GAUGES, HISTOGRAMS, type HistogramName, type MetricsSnapshot } from './metric-rows.ts';

export interface Metrics {
  /** What telemetry counts into. */
  readonly counters: EventCounters;
  observe(name: HistogramName, seconds: number): void;
  /** Where gauges are read from when Prometheus asks; until it is set they have no samples. */
  setSnapshot(snapshot: () => MetricsSnapshot): void;
  /** Prometheus text format, version 0.0.4. */
  render(): Promise<string>;
}

/** One metric with its samples at the time of asking. */
interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly values: readonly (CounterSample & { readonly metricName?: string })[];
}

export function createMetrics(): Metrics {
  const counters = createEventCounters();
  const histograms = new Map<string, HistogramSums>(
    Object.entries(HISTOGRAMS).map(([key, { buckets }]) => [key, createHistogram(buckets)]),
  );
  let readSnapshot: (() => MetricsSnapshot) | undefined;

  function families(): readonly Family[] {
    // One snapshot a scrape, whatever the number of gauges.
    const snapshot = readSnapshot?.();
    return [
      ...counterRows().map(
        ({ name, help }) => ({ name, help, type: 'counter', values: counters.samples(name) }) as const,
      ),
      ...GAUGES.map(({ name, help, type, read }) => ({
        name,
        help,
        type,
        values: snapshot === undefined ? [] : read(snapshot),
      })),
      ...Object.entries(HISTOGRAMS).map(
        ([key, { name, help }]) =>
          ({ name, help, type: 'histogram', values: histograms.get(key)?.samples(name) ?? [] }) as const,
      ),
    ];
  }

  return {
    counters,
    observe: (name, seconds) => histograms.get(name)?.observe(seconds),
    setSnapshot(read) {
      readSnapshot = read;
    },
    async render() {
      // By the default export, which is all that a bundle gives of a CommonJS package.
      const { default: library } = await import('prom-client');
      const registry = new library.Registry();
      for (const family of families()) {
        // The registry asks a metric for nothing but `get`; its own classes would keep a second set of sums.
        registry.registerMetric({ ...family, get: () => Promise.resolve(family) } as unknown as Metric);
      }
      return registry.metrics();
    },
  };
}

/** What adapters report of their work, into metrics: nothing per device. */
export interface FieldMeters {
  exchange(adapterId: string, exchange: Exchange): void;
  poll(adapterId: string, timing: PollTiming): void;
}

export function createFieldMeters(metrics: Metrics, telemetry: Telemetry): FieldMeters {
  return {
    exchange: (_adapterId, { outcome }) => telemetry.emit('field_exchange', { outcome }),
    poll(_adapterId, { latenessMs, durationMs, missedPolls }) {
      metrics.observe('pollLateness', latenessMs / 1000);
      metrics.observe('pollDuration', durationMs / 1000);
      telemetry.emit('device_polled', { missed: missedPolls });
    },
  };
}

/** The reference of all metrics in Markdown, for the documentation. */
export function renderMetricsReference(): string {
  const rows = [
    ...counterRows().map(({ name, help, labels = [] }) => ({ name, type: 'counter', help, labels })),
    ...GAUGES.map(({ name, type, help, labels = [] }) => ({ name, type, help, labels })),
    ...Object.values(HISTOGRAMS).map(({ name, help }) => ({ name, type: 'histogram', help, labels: [] })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  const lines = rows.map(({ name, type, help, labels }) => {
    const labelText = labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${type} | ${labelText} | ${help} |`;
  });
  return `| name | type | labels | meaning |\n| --- | --- | --- | --- |\n${lines.join('\n')}\n`;
}
