// What a bench file is: a module that exports `run` and answers with rows of the table. Each file runs in a process of its
// own (child.ts), so that what one leaves in memory does not weigh on the next.

export interface BenchContext {
  /** Shorter measurements; what is left out says so in its row. */
  readonly quick: boolean;
  /** The longest ones too: the whole hour, 300 s away. */
  readonly full: boolean;
  /** An empty directory on the machine's own disk, removed afterwards. */
  readonly directory: string;
  /** The built daemon: a copy, so that a build meanwhile does not change it under the bench. */
  readonly daemon: string;
  /** Tells the terminal what goes on. */
  progress(text: string): void;
}

export interface Bar {
  readonly kind: 'at_least' | 'at_most';
  readonly value: number;
}

export interface BenchRow {
  /** What was measured, in the words of the requirement. */
  readonly what: string;
  /** What stands in the table beside the value: both sides of a ratio, medians, rounds. */
  readonly measured: string;
  /** The figure that the bar is for. */
  readonly value: number;
  readonly unit: '×' | '%' | 'MB' | 's';
  readonly bar?: Bar;
  /** Why this row does not count in this run; it is then neither met nor missed. */
  readonly doesNotCount?: string;
}

export interface BenchModule {
  readonly run: (context: BenchContext) => Promise<readonly BenchRow[]>;
}

export function atLeast(value: number): Bar {
  return { kind: 'at_least', value };
}

export function atMost(value: number): Bar {
  return { kind: 'at_most', value };
}

/** Undefined when the row has no bar, or does not count. */
export function isMet({ bar, value, doesNotCount }: BenchRow): boolean | undefined {
  if (bar === undefined || doesNotCount !== undefined) return undefined;
  return bar.kind === 'at_least' ? value >= bar.value : value <= bar.value;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The smallest value that `share` (0 to 1) of the values do not exceed. @throws Error without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (value === undefined) throw new Error('No values were measured.');
  return value;
}

/**
 * Runs the alternatives in turn, `rounds` times, so that what else the machine does falls on all of them alike.
 * Returns the results of each by its place.
 */
export async function interleave<T>(rounds: number, alternatives: readonly (() => Promise<T>)[]): Promise<T[][]> {
  const results: T[][] = alternatives.map(() => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, alternative] of alternatives.entries()) results[index]?.push(await alternative());
  }
  return results;
}

/** Median of the ratios of the rounds: what slows the whole machine for a while weighs on both sides of a round alike. */
export function ratioOf(subject: readonly number[], baseline: readonly number[]): number {
  return median(subject.map((value, round) => value / (baseline[round] ?? Number.NaN)));
}

export function perSecond(count: number, elapsedMs: number): number {
  return (count / elapsedMs) * 1000;
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US').replaceAll(',', ' ');
}
