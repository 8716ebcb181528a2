// What one source of values is doing, and what is published of it.
//
// A source that fails gives one batch at the transition and then one each heartbeat; one that works gives one a frame.

import type { AdapterContext, DeviceId, DeviceState, Reading } from '#sdk';
import type { Decoded } from './decoded.ts';
import type { Point } from './point.ts';

export interface SourceReportOptions {
  readonly deviceId: DeviceId;
  readonly context: AdapterContext;
  readonly points: readonly Point[];
  readonly heartbeatMs: number;
  readonly onState: (state: DeviceState, reason?: string) => void;
}

export class SourceReport {
  readonly #options: SourceReportOptions;
  /** Undefined until the first frame or failure. */
  #isFailing: boolean | undefined;
  #publishedMs = Number.NEGATIVE_INFINITY;

  constructor(options: SourceReportOptions) {
    this.#options = options;
  }

  get isFailing(): boolean {
    return this.#isFailing === true;
  }

  /** A frame was decoded. */
  values(values: ReadonlyMap<string, Decoded>): void {
    const { points, onState } = this.#options;
    const readings = points.flatMap((point) => {
      const decoded = values.get(point.name);
      return decoded === undefined ? [] : [point.read(decoded)];
    });
    if (readings.length === 0) return;
    this.#isFailing = false;
    this.#publish(readings);
    // A device that tells nothing of use answers, but is not well.
    const [first] = readings;
    const isUseless = readings.every(({ quality }) => quality.level === 'bad');
    if (isUseless && first?.quality.level === 'bad') onState('degraded', first.quality.reason);
    else onState('good');
  }

  /** There are no values, for that reason. */
  fail(state: 'degraded' | 'offline', reason: string): void {
    const { context, points, heartbeatMs, onState } = this.#options;
    onState(state, reason);
    if (this.#isFailing === true && context.clock.monotonicMs() - this.#publishedMs < heartbeatMs) return;
    this.#isFailing = true;
    this.#publish(points.map((point) => point.bad(reason)));
  }

  #publish(readings: readonly Reading[]): void {
    const { context, deviceId } = this.#options;
    this.#publishedMs = context.clock.monotonicMs();
    context.publishReadings({ deviceId, time: context.clock.now(), readings });
  }
}
