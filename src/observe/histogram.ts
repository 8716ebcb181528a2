// The sums of a histogram: how many observations were at most each bound.

import type { CounterSample } from './event-counters.ts';

export interface HistogramSums {
  observe(value: number): void;
  /** Cumulative buckets, sum and count as Prometheus has them. */
  samples(name: string): readonly (CounterSample & { readonly metricName: string })[];
}

/** @param bounds upper bounds, inclusive, ascending. */
export function createHistogram(bounds: readonly number[]): HistogramSums {
  /** Observations in each bucket alone; the last is for what is above every bound. */
  const counts = Array.from({ length: bounds.length + 1 }, () => 0);
  let sum = 0;
  return {
    observe(value) {
      const found = bounds.findIndex((bound) => value <= bound);
      const index = found === -1 ? bounds.length : found;
      counts[index] = (counts[index] ?? 0) + 1;
      sum += value;
    },
    samples(name) {
      let below = 0;
      const buckets = counts.map((count, index) => {
        below += count;
        const le = String(bounds[index] ?? '+Inf');
        return { metricName: `${name}_bucket`, labels: { le }, value: below };
      });
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels: {}, value: sum },
        { metricName: `${name}_count`, labels: {}, value: below },
      ];
    },
  };
}
