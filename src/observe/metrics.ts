// Prometheus text from the catalogues. Nothing is computed before Prometheus asks, but for the sums of counters and the
// buckets of histograms.

import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Exchange, PollTiming } from '../core/adapter.ts';
import { counterRows, createEventCounters, type EventCounters } from './event-counters.ts';
import { GAUGES, HISTOGRAMS, type HistogramName, type MetricsSnapshot } from './metric-rows.ts';
import type { Telemetry } from './events.ts';

export interface Metrics {
  /** What telemetry counts into. */
  readonly counters: EventCounters;
  observe(name: HistogramName, seconds: number): void;
  /** Where gauges are read from when Prometheus asks; until it is set they are absent. */
  setSnapshot(snapshot: () => MetricsSnapshot): void;
  /** Prometheus text format, version 0.0.4. */
  render(): Promise<string>;
  /** Names of all metrics, as exported. */
  names(): readonly string[];
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  const counters = createEventCounters();
  let snapshot: (() => MetricsSnapshot) | undefined;
  // One snapshot a scrape, whatever the number of gauges.
  let current: MetricsSnapshot | undefined;

  for (const { name, help, labels = [] } of counterRows()) {
    const counter = new Counter({ name, help, labelNames: [...labels], registers: [registry] });
    onCollect(counter, () => {
      for (const { labels, value } of counters.samples(name)) counter.inc(labels, value);
    });
  }
  for (const row of GAUGES) {
    const { name, help, labels = [] } = row;
    const read = () => (current === undefined ? [] : row.read(current));
    if (row.type === 'counter') {
      const counter = new Counter({ name, help, labelNames: [...labels], registers: [registry] });
      onCollect(counter, () => read().forEach(({ labels, value }) => counter.inc(labels, value)));
    } else {
      const gauge = new Gauge({ name, help, labelNames: [...labels], registers: [registry] });
      onCollect(gauge, () => read().forEach(({ labels, value }) => gauge.set(labels, value)));
    }
  }
  const histograms = new Map<HistogramName, Histogram>();
  for (const [key, { name, help, buckets }] of Object.entries(HISTOGRAMS)) {
    const histogram = new Histogram({ name, help, buckets: [...buckets], registers: [registry] });
    histograms.set(key as HistogramName, histogram);
  }

  return {
    counters,
    observe: (name, seconds) => histograms.get(name)?.observe(seconds),
    setSnapshot(read) {
      snapshot = read;
    },
    async render() {
      current = snapshot?.();
      return registry.metrics();
    },
    names: () => registry.getMetricsAsArray().map(({ name }) => name),
  };
}

/** Fills a metric anew at each scrape, so that a label set that is gone is not exported any more. */
function onCollect(metric: { reset(): void }, fill: () => void): void {
  Object.assign(metric, {
    collect: () => {
      metric.reset();
      // reset() gives a metric without labels a 0, which stands until there is a value.
      fill();
    },
  });
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
