// Whether a value is worth a message: report by exception with deadband and heartbeat, then the rate limit. All times are
// monotonic, so no step of the wall clock makes a heartbeat late or a silence longer.

import type { PointValue, Quality, Reading } from '../core/reading.ts';
import type { PointShape } from '../core/shape.ts';
import type { Timestamp } from '../core/time.ts';

/** Readings that no message will carry, by reason. */
export interface Suppressed {
  deadband: number;
  rate: number;
  window: number;
}

/** A reading so much older than the last report is of another run of the clock (a replay): nothing before it counts. */
const ANEW_MS = 1000;

export interface PendingReading {
  readonly reading: Reading;
  readonly time: Timestamp;
}

function sameQuality(a: Quality, b: Quality): boolean {
  if (a.level === 'good' || b.level === 'good') return a.level === b.level;
  return a.level === b.level && a.reason === b.reason;
}

/** The rules of one value of one point; undefined where everything is reported. */
export function reportRule(shape: PointShape): ReportRule | undefined {
  const { report, deadband, deadbandPercent, minIntervalMs } = shape;
  const onChange = report === 'on_change' || deadband !== undefined || deadbandPercent !== undefined;
  return onChange || minIntervalMs !== undefined ? new ReportRule(shape, onChange) : undefined;
}

export class ReportRule {
  readonly #onChange: boolean;
  readonly #deadband: number;
  readonly #deadbandShare: number;
  readonly #heartbeatMs: number;
  readonly #minIntervalMs: number;
  #hasReported = false;
  #value: PointValue | undefined;
  #quality: Quality | undefined;
  #atMs = 0;
  #pending: PendingReading | undefined;

  constructor(shape: PointShape, onChange: boolean) {
    this.#onChange = onChange;
    this.#deadband = shape.deadband ?? 0;
    this.#deadbandShare = (shape.deadbandPercent ?? 0) / 100;
    this.#heartbeatMs = shape.heartbeatMs ?? Number.POSITIVE_INFINITY;
    this.#minIntervalMs = shape.minIntervalMs ?? 0;
  }

  /** Monotonic ms at which what waits for the rate limit is due; undefined when nothing waits. */
  get dueMs(): number | undefined {
    return this.#pending === undefined ? undefined : this.#atMs + this.#minIntervalMs;
  }

  /** Whether to report it now; what is not reported and never will be is counted. */
  judge(reading: Reading, time: Timestamp, suppressed: Suppressed): boolean {
    const sinceMs = time.monotonicMs - this.#atMs;
    const beganAnew = sinceMs < -ANEW_MS;
    // Whatever waited is old news now: replaced, or its value is back where it was.
    if (this.#pending !== undefined) suppressed.rate += 1;
    this.#pending = undefined;
    if (!beganAnew && !this.#isWorth(reading, sinceMs)) {
      suppressed.deadband += 1;
      return false;
    }
    if (this.#hasReported && !beganAnew && sinceMs < this.#minIntervalMs) {
      this.#pending = { reading, time };
      return false;
    }
    this.#reported(reading, time);
    return true;
  }

  /** What waited for the rate limit, if its time has come by `nowMs`. */
  take(nowMs: number): PendingReading | undefined {
    const pending = this.#pending;
    if (pending === undefined || nowMs < this.#atMs + this.#minIntervalMs) return undefined;
    this.#reported(pending.reading, pending.time);
    // The interval runs from the report, not from the measurement.
    if (Number.isFinite(nowMs)) this.#atMs = nowMs;
    return pending;
  }

  #reported(reading: Reading, time: Timestamp): void {
    this.#hasReported = true;
    this.#value = reading.value;
    this.#quality = reading.quality;
    this.#atMs = time.monotonicMs;
    this.#pending = undefined;
  }

  #isWorth(reading: Reading, sinceMs: number): boolean {
    if (!this.#onChange || !this.#hasReported || this.#quality === undefined) return true;
    if (!sameQuality(reading.quality, this.#quality)) return true;
    return sinceMs >= this.#heartbeatMs || !this.#isWithin(reading.value, this.#value);
  }

  #isWithin(value: PointValue | undefined, last: PointValue | undefined): boolean {
    if (typeof value === 'number' && typeof last === 'number') {
      return Math.abs(value - last) <= this.#band(last);
    }
    if (typeof value === 'bigint' && typeof last === 'bigint') {
      return Number(value > last ? value - last : last - value) <= this.#band(Number(last));
    }
    // Integers that cross 2^53 change their type.
    if (isNumeric(value) && isNumeric(last)) return Math.abs(Number(value) - Number(last)) <= this.#band(Number(last));
    if (value instanceof Uint8Array && last instanceof Uint8Array) return Buffer.compare(value, last) === 0;
    return value === last;
  }

  #band(last: number): number {
    return Math.max(this.#deadband, Math.abs(last) * this.#deadbandShare);
  }
}

function isNumeric(value: PointValue | undefined): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}
