// Something a device is asked for again and again: when, with which retries, and what came of it.

import { type AdapterContext, type Breaker, type DeviceId, errorText, isGatewayError, PollLoop, spread } from '#sdk';
import type { Decoded } from './decoded.ts';
import type { Source } from './device-plan.ts';
import { answerFault, reasonOf } from './faults.ts';
import type { FrameFault } from './framer.ts';
import type { SerialLine } from './line.ts';
import type { LineJob } from './line-job.ts';
import type { LineListener } from './line-listener.ts';
import type { SourceReport } from './source-report.ts';

export interface PolledSourceOptions {
  readonly deviceId: DeviceId;
  readonly source: Source & { readonly request: Buffer };
  readonly line: SerialLine;
  readonly context: AdapterContext;
  /** Of the device: shared by its sources. */
  readonly breaker: Breaker;
  readonly retries: number;
  readonly report: SourceReport;
  readonly stop: AbortSignal;
}

export class PolledSource implements LineListener {
  readonly #options: PolledSourceOptions;
  readonly #loop: PollLoop;

  constructor(options: PolledSourceOptions) {
    this.#options = options;
    const { breaker, context, stop } = options;
    this.#loop = new PollLoop({
      clock: context.clock,
      stop,
      poll: (dueMs) => this.#poll(dueMs),
      // A dead device is probed sooner than a long period would have it, and less often than a short one.
      atMs: (dueMs, nowMs) => (breaker.isOpen ? Math.max(breaker.nextProbeMs, nowMs) : dueMs),
    });
  }

  get source(): Source & { readonly request: Buffer } {
    return this.#options.source;
  }

  /** Resolves when the poll under way has ended; no other one starts after `stop`. */
  settled(): Promise<void> {
    return this.#loop.settled();
  }

  /** The port is open: polls begin, or what failed is asked for at once. */
  portOpened(): void {
    if (this.#options.stop.aborted) return;
    if (!this.#loop.isStarted) {
      const { context, deviceId, source } = this.#options;
      const { periodMs } = source;
      this.#loop.start({
        periodMs,
        firstMs: this.#nowMs(),
        phase: spread(`${context.adapterId}/${deviceId}/${periodMs}`),
      });
    } else if (this.#options.report.isFailing) this.#loop.pollNow();
  }

  portLost(reason: string): void {
    if (!this.#options.stop.aborted) this.#options.report.fail('offline', reason);
  }

  /**
   * Asks once and decodes the answer.
   * @throws GatewayError GW_TIMEOUT, GW_SERIAL_ANSWER, GW_DISCONNECTED, GW_ABORTED.
   */
  async ask(
    options: Pick<LineJob, 'priority' | 'dueMs' | 'onSent'>,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, Decoded>> {
    const { line, context, deviceId, source, breaker } = this.#options;
    let sentMs: number | undefined;
    let outcome = 'ok';
    const onSent = (nowMs: number): void => {
      sentMs = nowMs;
      options.onSent?.(nowMs);
    };
    try {
      const { request: bytes, accepts, understands, alike, timeoutMs } = source;
      const job = { ...options, deviceId, bytes, accepts, understands, alike, timeoutMs, onSent };
      const frame = await line.ask(job, signal);
      const decoded = source.decoder.decode(frame);
      if (decoded.kind !== 'values') throw answerFault(decoded.kind === 'fault' ? decoded.reason : 'ignored');
      breaker.answered();
      return decoded.values;
    } catch (error) {
      outcome = reasonOf(error);
      // A lost port says nothing of the device.
      if (isGatewayError(error, 'GW_TIMEOUT') || isGatewayError(error, 'GW_SERIAL_ANSWER')) {
        breaker.silent(this.#nowMs());
      }
      throw error;
    } finally {
      if (sentMs !== undefined) {
        context.reportExchange({ deviceId, operation: 'poll', durationMs: this.#nowMs() - sentMs, outcome });
      }
    }
  }

  // Of a replay: the answer to a request that was recorded.
  accepts(frame: Buffer): boolean {
    return this.#options.source.accepts(frame);
  }

  take(frame: Buffer): void {
    const { context, deviceId, source, report } = this.#options;
    const decoded = source.decoder.decode(frame);
    const outcome = decoded.kind === 'fault' ? decoded.reason : 'ok';
    context.reportExchange({ deviceId, operation: 'replay', durationMs: 0, outcome });
    if (decoded.kind === 'values') report.values(decoded.values);
    else if (decoded.kind === 'fault') report.fail('degraded', decoded.reason);
  }

  fault(reason: FrameFault): void {
    const { context, deviceId, report } = this.#options;
    context.reportExchange({ deviceId, operation: 'replay', durationMs: 0, outcome: reason });
    if (reason !== 'garbage') report.fail('degraded', reason);
  }

  #nowMs(): number {
    return this.#options.context.clock.monotonicMs();
  }

  async #poll(dueMs: number): Promise<void> {
    const { context, stop, deviceId, report } = this.#options;
    let sentMs: number | undefined;
    try {
      await context.ready(stop);
      const onSent = (nowMs: number): void => {
        sentMs ??= nowMs;
      };
      const values = await this.#askWithRetries({ priority: 'read', dueMs, onSent });
      if (!stop.aborted) report.values(values);
    } catch (error) {
      if (stop.aborted) return;
      if (!isGatewayError(error)) {
        context.log.error({ device: deviceId, error: errorText(error) }, 'A poll ended with a fault of the gateway.');
      }
      report.fail('offline', reasonOf(error));
    }
    if (sentMs !== undefined) context.reportPoll({ deviceId, ...this.#loop.timing(dueMs, sentMs) });
  }

  async #askWithRetries(
    options: Pick<LineJob, 'priority' | 'dueMs' | 'onSent'>,
  ): Promise<ReadonlyMap<string, Decoded>> {
    const { breaker, retries, stop } = this.#options;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.ask(options, stop);
      } catch (error) {
        const isWorthIt = isGatewayError(error, 'GW_TIMEOUT') || isGatewayError(error, 'GW_SERIAL_ANSWER');
        if (!isWorthIt || attempt >= retries || breaker.isOpen) throw error;
      }
    }
  }
}
