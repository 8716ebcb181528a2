// What of one point's readings becomes part of a message: its window, then the rule of each value that comes out of it.

import type { Reading } from '../core/reading.ts';
import { type PointShape, windowOutputs } from '../core/shape.ts';
import type { Timestamp } from '../core/time.ts';
import { reportRule, type ReportRule, type Suppressed } from './report-rule.ts';
import { MovingWindow, TumblingWindow } from './window.ts';

/** A reading with a time of its own, because it waited. */
export interface LateReading {
  readonly reading: Reading;
  readonly time: Timestamp;
}

export class PointTrack {
  readonly #name: string;
  readonly #tumbling: TumblingWindow | undefined;
  readonly #moving: MovingWindow | undefined;
  readonly #rules: ReadonlyMap<string, ReportRule> | undefined;
  /** Whether a reading may wait in it for its time. */
  readonly canWait: boolean;

  /** @param name of the point, unless it is renamed */
  constructor(name: string, shape: PointShape) {
    const { window, rename = name } = shape;
    this.#name = rename;
    this.canWait = window?.mode === 'tumbling' || shape.minIntervalMs !== undefined;
    if (window?.mode === 'tumbling') this.#tumbling = new TumblingWindow(rename, window);
    if (window?.mode === 'moving') this.#moving = new MovingWindow(rename, window);
    const outputs = windowOutputs(rename, window?.functions);
    const rules = outputs.map((output) => [output, reportRule(shape)] as const);
    const ruled = rules.filter((rule): rule is readonly [string, ReportRule] => rule[1] !== undefined);
    if (ruled.length > 0) this.#rules = new Map(ruled);
  }

  /** Monotonic ms at which something that waits is due; undefined when nothing does. */
  get dueMs(): number | undefined {
    let dueMs = this.#tumbling?.endsMs;
    if (this.#rules === undefined) return dueMs;
    for (const rule of this.#rules.values()) {
      if (rule.dueMs !== undefined) dueMs = Math.min(dueMs ?? rule.dueMs, rule.dueMs);
    }
    return dueMs;
  }

  /** Puts what is to be reported now into `out`, under its name in messages. */
  take(reading: Reading, time: Timestamp, out: Reading[], suppressed: Suppressed): void {
    if (this.#tumbling !== undefined) {
      suppressed.window += 1;
      for (const { readings } of this.#tumbling.add(reading, time)) {
        for (const result of readings) this.#judge(result, time, out, suppressed);
      }
    } else if (this.#moving !== undefined) {
      for (const result of this.#moving.add(reading, time)) this.#judge(result, time, out, suppressed);
    } else {
      this.#judge(this.named(reading), time, out, suppressed);
    }
  }

  /** The reading under its name in messages. */
  named(reading: Reading): Reading {
    return reading.point === this.#name ? reading : { ...reading, point: this.#name };
  }

  /** What waited and is due by `nowMs`; everything that waits at infinity. */
  late(nowMs: number, suppressed: Suppressed): readonly LateReading[] {
    const late: LateReading[] = [];
    const endsMs = this.#tumbling?.endsMs;
    if (
      this.#tumbling !== undefined &&
      ((endsMs !== undefined && nowMs >= endsMs) || nowMs === Number.POSITIVE_INFINITY)
    ) {
      for (const { readings, time } of this.#tumbling.end()) {
        const due: Reading[] = [];
        for (const reading of readings) this.#judge(reading, time, due, suppressed);
        late.push(...due.map((reading) => ({ reading, time })));
      }
    }
    for (const rule of this.#rules?.values() ?? []) {
      const pending = rule.take(nowMs);
      if (pending !== undefined) late.push(pending);
    }
    return late;
  }

  #judge(reading: Reading, time: Timestamp, out: Reading[], suppressed: Suppressed): void {
    const rule = this.#rules?.get(reading.point);
    if (rule === undefined || rule.judge(reading, time, suppressed)) out.push(reading);
  }
}

/** Whether a shape changes anything about what is reported. */
export function isTracked(shape: PointShape): boolean {
  return shape.window !== undefined || shape.rename !== undefined || reportRule(shape) !== undefined;
}
