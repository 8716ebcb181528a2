// Windows over the values of one point: sums while they go, so that a tumbling window costs the same for any length.
// Time is the monotonic clock of the readings; steps of the wall clock do not count.

import type { PointValue, Quality, Reading } from '../core/reading.ts';
import { GOOD } from '../core/reading.ts';
import { type WindowFunction, windowOutputs, type WindowShape } from '../core/shape.ts';
import type { Timestamp } from '../core/time.ts';
import { LIMITS } from '../core/limits.ts';

const NOT_A_NUMBER: Quality = Object.freeze({ level: 'bad', reason: 'not_a_number' });

/** What one window gives; undefined: nothing was in it. */
export interface WindowResult {
  readonly readings: readonly Reading[];
  /** Of the last sample in it. */
  readonly time: Timestamp;
}

/** How long a window stays open for the reading that ends it, before it is ended without one. */
const GRACE_MAX_MS = 5000;

interface Sample {
  readonly value: PointValue;
  readonly quality: Quality;
  readonly atMs: number;
}

export class TumblingWindow {
  readonly #shape: WindowShape;
  readonly #outputs: readonly string[];
  #startMs: number | undefined;
  #count = 0;
  #sum = 0;
  #min: number | bigint = Number.POSITIVE_INFINITY;
  #max: number | bigint = Number.NEGATIVE_INFINITY;
  #allNumbers = true;
  #quality: Quality = GOOD;
  #last: Reading | undefined;
  #lastTime: Timestamp | undefined;

  /** @param name of the point in messages */
  constructor(name: string, shape: WindowShape) {
    this.#shape = shape;
    this.#outputs = windowOutputs(name, shape.functions);
  }

  /** Monotonic ms at which it ends by itself; undefined while nothing is in it or only samples end it. */
  get endsMs(): number | undefined {
    const { durationMs } = this.#shape;
    if (this.#startMs === undefined || durationMs === undefined || this.#last === undefined) return undefined;
    return this.#startMs + durationMs + Math.min(durationMs, GRACE_MAX_MS);
  }

  /** Takes a reading; gives the windows that it ended, at most two. */
  add(reading: Reading, time: Timestamp): readonly WindowResult[] {
    const { durationMs, samples } = this.#shape;
    const atMs = time.monotonicMs;
    const results: WindowResult[] = [];
    const startMs = this.#startMs;
    if (startMs === undefined || atMs < startMs) {
      // The monotonic clock began anew (readings of a replay): so does the window.
      if (startMs !== undefined) results.push(...this.end());
      this.#startMs = atMs;
    } else if (durationMs !== undefined && atMs >= startMs + durationMs) {
      results.push(...this.end());
      // Windows follow each other without drift; what fell silent begins anew.
      this.#startMs = startMs + Math.floor((atMs - startMs) / durationMs) * durationMs;
    }
    this.#take(reading, time);
    if (samples !== undefined && this.#count >= samples) {
      results.push(...this.end());
      this.#startMs = durationMs === undefined ? undefined : this.#startMs;
    }
    return results;
  }

  /** Ends what is open: nothing or one window. The next begins where it began, or later. */
  end(): readonly WindowResult[] {
    const [last, time] = [this.#last, this.#lastTime];
    if (last === undefined || time === undefined) return [];
    const readings = this.#outputs.map((point, index): Reading => {
      const called = this.#shape.functions[index] ?? 'last';
      return { ...shared(last), point, ...this.#result(called, last) };
    });
    this.#count = 0;
    this.#sum = 0;
    this.#min = Number.POSITIVE_INFINITY;
    this.#max = Number.NEGATIVE_INFINITY;
    this.#allNumbers = true;
    this.#quality = GOOD;
    this.#last = undefined;
    this.#lastTime = undefined;
    return [{ readings, time }];
  }

  #take(reading: Reading, time: Timestamp): void {
    this.#lastTime = time;
    const { value, quality } = reading;
    if (value === undefined || quality.level === 'bad') {
      // Counts only where nothing better is in the window.
      if (this.#count === 0) this.#last = reading;
      return;
    }
    this.#last = reading;
    this.#count += 1;
    if (quality.level !== 'good') this.#quality = quality;
    if (typeof value !== 'number' && typeof value !== 'bigint') {
      this.#allNumbers = false;
      return;
    }
    this.#sum += Number(value);
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  #result(called: WindowFunction, last: Reading): Pick<Reading, 'value' | 'quality'> {
    if (called === 'count') return { value: this.#count, quality: GOOD };
    if (this.#count === 0) return { quality: last.quality };
    if (called === 'last') return { value: last.value as PointValue, quality: this.#quality };
    if (!this.#allNumbers) return { quality: NOT_A_NUMBER };
    const value = called === 'mean' ? this.#sum / this.#count : called === 'min' ? this.#min : this.#max;
    // A sum of numbers may be beyond what a number holds.
    if (typeof value === 'number' && !Number.isFinite(value)) return { quality: NOT_A_NUMBER };
    return { value, quality: this.#quality };
  }
}

/** One value a sample over the samples before it; nothing waits in it. */
export class MovingWindow {
  readonly #shape: WindowShape;
  readonly #outputs: readonly string[];
  readonly #samples: Sample[] = [];

  /** @param name of the point in messages */
  constructor(name: string, shape: WindowShape) {
    this.#shape = shape;
    this.#outputs = windowOutputs(name, shape.functions);
  }

  add(reading: Reading, time: Timestamp): readonly Reading[] {
    const { durationMs = Number.POSITIVE_INFINITY, samples: most = LIMITS.window_samples, functions } = this.#shape;
    const samples = this.#samples;
    const atMs = time.monotonicMs;
    const { value, quality } = reading;
    if (value === undefined || quality.level === 'bad') {
      return this.#outputs.map((point) => ({ ...shared(reading), point, quality }));
    }
    while (samples[0] !== undefined && (samples.length >= most || Math.abs(atMs - samples[0].atMs) >= durationMs)) {
      samples.shift();
    }
    samples.push({ value, quality, atMs });
    return functions.map((called, index) => ({
      ...shared(reading),
      point: this.#outputs[index] ?? reading.point,
      ...movingResult(called, samples),
    }));
  }
}

function movingResult(called: WindowFunction, samples: readonly Sample[]): Pick<Reading, 'value' | 'quality'> {
  if (called === 'count') return { value: samples.length, quality: GOOD };
  const quality = samples.findLast((sample) => sample.quality.level !== 'good')?.quality ?? GOOD;
  const last = samples.at(-1)?.value;
  if (called === 'last') return last === undefined ? { quality: NOT_A_NUMBER } : { value: last, quality };
  let sum = 0;
  let best: number | bigint | undefined;
  for (const { value } of samples) {
    if (typeof value !== 'number' && typeof value !== 'bigint') return { quality: NOT_A_NUMBER };
    sum += Number(value);
    if (best === undefined || (called === 'min' ? value < best : value > best)) best = value;
  }
  const value = called === 'mean' ? sum / samples.length : best;
  if (value === undefined || (typeof value === 'number' && !Number.isFinite(value))) return { quality: NOT_A_NUMBER };
  return { value, quality };
}

function shared({ unit }: Reading): Pick<Reading, 'unit'> {
  return unit === undefined ? {} : { unit };
}
