// What the metrics of a Sparkplug payload say of points, and when that was measured.

import type { Reading } from '#sdk';
import type { Metric, SparkplugPayload } from './sparkplug-codec.ts';

/** The sequence of births and deaths, which is no point. */
export const BIRTH_DEATH = 'bdSeq';
/** 2001. A node whose clock was never set counts from its own start. */
const EARLIEST_MS = 1e12;

export interface KnownMetric {
  readonly name: string;
  readonly datatype: number | undefined;
  readonly unit: string | undefined;
}

/** The metrics that the last birth of a node or device told. */
export interface KnownMetrics {
  readonly byName: ReadonlyMap<string, KnownMetric>;
  readonly byAlias: ReadonlyMap<bigint, KnownMetric>;
}

/** Readings of one time, of each point one. */
export interface TimedReadings {
  readonly readings: readonly Reading[];
  readonly wallMs?: number;
  readonly isHistorical?: true;
}

/** Why a metric is no reading. */
type MetricFault = 'unknown_alias' | 'unnamed_metric' | 'unsupported_type';

export interface MetricReadings {
  readonly readings: readonly TimedReadings[];
  /** Of a metric that could not be used; the others are there all the same. An alias goes first, because births can mend it. */
  readonly fault?: MetricFault;
}

/**
 * The readings of data, by the times of their metrics, oldest first. A node that was cut off sends what it kept as many metrics of one
 * name, each with its own time and `is_historical` (6.4.6); what it measured at one time stays together.
 */
export function dataReadings({ wallMs: sentMs, metrics }: SparkplugPayload, known: KnownMetrics): MetricReadings {
  return byTime(metrics, known, ({ wallMs, isHistorical }) => ({
    wallMs: timeOf(wallMs) ?? timeOf(sentMs),
    isHistorical,
  }));
}

/** The readings of a birth: what is true when it is sent, whenever each value last changed. */
export function birthReadings({ wallMs, metrics }: SparkplugPayload, known: KnownMetrics): MetricReadings {
  return byTime(metrics, known, () => ({ wallMs: timeOf(wallMs), isHistorical: false }));
}

interface Moment {
  readonly wallMs: number | undefined;
  readonly isHistorical: boolean;
}

function byTime(metrics: readonly Metric[], known: KnownMetrics, momentOf: (metric: Metric) => Moment): MetricReadings {
  const groups = new Map<string, { readonly moment: Moment; readonly readings: Reading[] }>();
  const counts = new Map<string, number>();
  let fault: MetricFault | undefined;
  for (const metric of metrics) {
    const reading = readingOf(metric, known);
    if (reading === undefined) continue;
    if (typeof reading === 'string') {
      if (fault !== 'unknown_alias') fault = reading;
      continue;
    }
    const moment = momentOf(metric);
    const { wallMs, isHistorical } = moment;
    // A point that is told twice for one time is in two messages: in one, its name would stand twice.
    const place = `${wallMs} ${isHistorical} ${reading.point}`;
    const count = counts.get(place) ?? 0;
    counts.set(place, count + 1);
    const key = `${wallMs} ${isHistorical} ${count}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { moment, readings: [reading] });
    else group.readings.push(reading);
  }
  const readings = [...groups.values()]
    .sort(({ moment: a }, { moment: b }) => (a.wallMs ?? Number.MAX_VALUE) - (b.wallMs ?? Number.MAX_VALUE))
    .map(({ moment: { wallMs, isHistorical }, readings }) => ({
      readings,
      ...(wallMs !== undefined && { wallMs }),
      ...(isHistorical && { isHistorical }),
    }));
  return { readings, ...(fault !== undefined && { fault }) };
}

function readingOf(metric: Metric, { byName, byAlias }: KnownMetrics): Reading | MetricFault | undefined {
  const { name, datatype, unit } =
    (metric.name === undefined ? undefined : byName.get(metric.name)) ??
    (metric.alias === undefined ? undefined : byAlias.get(metric.alias)) ??
    metric;
  if (name === undefined) return metric.alias === undefined ? 'unnamed_metric' : 'unknown_alias';
  if (name === BIRTH_DEATH || name.startsWith('Node Control/')) return undefined;
  const head = { point: name, ...(unit !== undefined && { unit }) };
  if (metric.isNull) return { ...head, quality: { level: 'bad', reason: 'null' } };
  const value = metric.value(datatype);
  if (value === undefined) return 'unsupported_type';
  if (typeof value === 'number' && !Number.isFinite(value))
    return { ...head, quality: { level: 'bad', reason: 'not_a_number' } };
  return { ...head, value, quality: { level: 'good' } };
}

function timeOf(wallMs: number | undefined): number | undefined {
  return wallMs === undefined || wallMs < EARLIEST_MS ? undefined : wallMs;
}
