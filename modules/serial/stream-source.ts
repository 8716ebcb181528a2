// A device that speaks by itself: its frames, its faulty frames, and its silence.

import type { AdapterContext, DeviceId } from '#sdk';
import type { Source } from './device-plan.ts';
import type { FrameFault } from './framer.ts';
import type { LineListener } from './line-listener.ts';
import type { SourceReport } from './source-report.ts';

export interface StreamSourceOptions {
  readonly deviceId: DeviceId;
  readonly source: Source;
  readonly context: AdapterContext;
  readonly silentAfterMs: number;
  readonly badAfterFrames: number;
  readonly heartbeatMs: number;
  readonly report: SourceReport;
  readonly stop: AbortSignal;
}

export class StreamSource implements LineListener {
  readonly #options: StreamSourceOptions;
  #heardMs = 0;
  /** Faulty frames since the last sound one. */
  #faults = 0;
  /** Why nothing comes, once that is so. */
  #failure: { readonly state: 'degraded' | 'offline'; readonly reason: string } | undefined;
  #cancel = (): void => {};

  constructor(options: StreamSourceOptions) {
    this.#options = options;
  }

  start(): void {
    this.#heardMs = this.#nowMs();
    this.#watch(this.#options.silentAfterMs);
  }

  stop(): void {
    this.#cancel();
  }

  accepts(frame: Buffer): boolean {
    return this.#options.source.accepts(frame);
  }

  take(frame: Buffer): void {
    const { source, report } = this.#options;
    const decoded = source.decoder.decode(frame);
    if (decoded.kind === 'fault') return this.#faulty(decoded.reason);
    this.#count('ok');
    this.#heardMs = this.#nowMs();
    this.#faults = 0;
    this.#failure = undefined;
    if (decoded.kind === 'values') report.values(decoded.values);
  }

  fault(reason: FrameFault): void {
    if (reason === 'garbage') this.#count(reason);
    else this.#faulty(reason);
  }

  portOpened(): void {
    this.#heardMs = this.#nowMs();
    this.#failure = undefined;
    this.#watch(this.#options.silentAfterMs);
  }

  portLost(reason: string): void {
    this.#fail('offline', reason);
  }

  #nowMs(): number {
    return this.#options.context.clock.monotonicMs();
  }

  #count(outcome: string): void {
    const { context, deviceId } = this.#options;
    context.reportExchange({ deviceId, operation: 'frame', durationMs: 0, outcome });
  }

  #faulty(reason: string): void {
    this.#count(reason);
    this.#heardMs = this.#nowMs();
    this.#faults += 1;
    if (this.#faults >= this.#options.badAfterFrames) this.#fail('degraded', reason);
  }

  #fail(state: 'degraded' | 'offline', reason: string): void {
    if (this.#options.stop.aborted) return;
    this.#failure = { state, reason };
    this.#options.report.fail(state, reason);
    this.#watch(this.#options.heartbeatMs);
  }

  /** Looks again after that time whether something was heard. */
  #watch(ms: number): void {
    const { context, silentAfterMs, stop } = this.#options;
    this.#cancel();
    if (stop.aborted) return;
    this.#cancel = context.clock.after(Math.ceil(ms), () => {
      const silentMs = this.#nowMs() - this.#heardMs;
      if (this.#failure?.reason === 'disconnected') this.#fail('offline', 'disconnected');
      else if (silentMs >= silentAfterMs) this.#fail('offline', 'timeout');
      else this.#watch(silentAfterMs - silentMs);
    });
  }
}
