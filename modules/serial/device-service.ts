// Everything that serves one configured device: what it is asked for, what it says by itself, and its writes.

import {
  type AdapterContext,
  Breaker,
  type DeviceId,
  type DeviceInfo,
  type DeviceState,
  GatewayError,
  type PointValue,
  shapedDevice,
  systemRandom,
  type WriteResult,
} from '#sdk';
import { bytesOf } from './bytes.ts';
import type { DeviceConfig, SerialConfig } from './config.ts';
import type { FramingConfig } from './config-framing.ts';
import { planDevice, type Source } from './device-plan.ts';
import type { SerialLine } from './line.ts';
import type { LineListener } from './line-listener.ts';
import { PointWriter } from './point-writer.ts';
import { PolledSource } from './polled-source.ts';
import { SourceReport } from './source-report.ts';
import { StreamSource } from './stream-source.ts';

export interface DeviceServiceOptions {
  readonly deviceId: DeviceId;
  readonly config: DeviceConfig;
  readonly adapter: SerialConfig;
  readonly line: SerialLine;
  readonly waitingWrites: { count: number };
  readonly context: AdapterContext;
  readonly stop: AbortSignal;
}

/** How bad a state is: a device is as bad as the worst of its sources. */
const STATE_RANK: Readonly<Record<DeviceState, number>> = { unknown: 0, good: 1, degraded: 2, offline: 3 };

export class DeviceService {
  readonly info: DeviceInfo;
  readonly #options: DeviceServiceOptions;
  readonly #breaker: Breaker;
  readonly #polled: readonly PolledSource[];
  readonly #streams: readonly StreamSource[];
  readonly #writer: PointWriter;
  readonly #states = new Map<Source, { state: DeviceState; reason: string | undefined }>();
  #shown: { state: DeviceState; reason: string | undefined } = { state: 'unknown', reason: undefined };

  constructor(options: DeviceServiceOptions) {
    const { deviceId, config, adapter, line, context, waitingWrites } = options;
    this.#options = options;
    const plan = planDevice(config, adapter);
    const { failures, probe_interval_min_ms: probeMinMs, probe_interval_max_ms: probeMaxMs } = config.circuit_breaker;
    this.#breaker = new Breaker({ failures, probeMinMs, probeMaxMs, random: systemRandom });
    const polledMs = plan.sources.filter(({ request }) => request !== undefined).map(({ periodMs }) => periodMs);
    const info = shapedDevice({
      deviceId,
      points: [...plan.points.values()].map(({ info }) => info),
      // Decoding scales, so that what is written and read back is in the same unit.
      pointConfig: (name) => withoutScale(config.points[name]),
      device: config,
      adapter,
    });
    this.info = polledMs.length === 0 ? info : { ...info, pollIntervalMs: Math.min(...polledMs) };
    this.#polled = plan.sources.flatMap((source) => {
      const { request } = source;
      return request === undefined ? [] : [this.#polledSource({ ...source, request })];
    });
    this.#streams = plan.sources
      .filter(({ request }) => request === undefined)
      .map((source) => this.#streamSource(source));
    for (const stream of this.#streams) line.listen(stream);
    line.watchPort(this);
    this.#writer = new PointWriter({
      deviceId,
      plan,
      line,
      polled: this.#polled,
      clock: context.clock,
      timeoutMs: config.timeout_ms,
      marks: frameMarks(adapter.framing),
      offlineReason: () => this.#offlineReason(),
      waiting: waitingWrites,
    });
  }

  get state(): DeviceState {
    return this.#shown.state;
  }

  /** Whether it speaks by itself. */
  get isStream(): boolean {
    return this.#streams.length > 0;
  }

  start(): void {
    for (const stream of this.#streams) stream.start();
  }

  /** Resolves when nothing is under way any more, once the stop signal has aborted. */
  async settled(): Promise<void> {
    for (const stream of this.#streams) stream.stop();
    await Promise.all(this.#polled.map((polled) => polled.settled()));
  }

  portOpened(): void {
    this.#breaker.reconnected(this.#options.context.clock.monotonicMs());
    for (const stream of this.#streams) stream.portOpened();
    // What is played answers requests of its own.
    if (!this.#options.line.wire.isReplay) for (const polled of this.#polled) polled.portOpened();
  }

  portLost(reason: string): void {
    for (const source of [...this.#polled, ...this.#streams]) source.portLost(reason);
  }

  /** Of a replay: the source that a recorded request belongs to. */
  askerOf(request: Buffer): LineListener | undefined {
    return this.#polled.find(({ source }) => source.request.equals(request));
  }

  /** @throws GatewayError as `Adapter.checkWrite` does. */
  checkWrite(point: string, value: PointValue): void {
    if (this.#options.line.wire.isReplay) {
      const words = `"${this.#options.deviceId}" is a capture that is played; nothing can be written to it.`;
      throw new GatewayError('GW_WRITE_REFUSED', words);
    }
    this.#writer.check(point, value);
  }

  /** @throws GatewayError as `Adapter.write` does. */
  async write(point: string, value: PointValue, signal: AbortSignal): Promise<WriteResult> {
    this.checkWrite(point, value);
    return this.#writer.write(point, value, signal);
  }

  #offlineReason(): string | undefined {
    const { line } = this.#options;
    if (line.wire.isReplay) return `${line.wire.target} is played in place of the port.`;
    if (!line.wire.isOpen) return line.wire.error?.message ?? `${line.wire.target} is not open yet.`;
    return this.#breaker.isOpen
      ? `It did not answer (${this.#shown.reason}) and is probed from time to time.`
      : undefined;
  }

  #report(source: Source): SourceReport {
    const { deviceId, config, context } = this.#options;
    return new SourceReport({
      deviceId,
      context,
      points: source.points,
      heartbeatMs: config.heartbeat_secs * 1000,
      onState: (state, reason) => this.#onState(source, state, reason),
    });
  }

  #polledSource(source: Source & { readonly request: Buffer }): PolledSource {
    const { deviceId, config, line, context, stop } = this.#options;
    const breaker = this.#breaker;
    const report = this.#report(source);
    return new PolledSource({ deviceId, source, line, context, breaker, retries: config.retries, report, stop });
  }

  #streamSource(source: Source): StreamSource {
    const { deviceId, config, context, stop } = this.#options;
    return new StreamSource({
      deviceId,
      source,
      context,
      silentAfterMs: config.silent_after_ms,
      badAfterFrames: config.bad_after_frames,
      heartbeatMs: config.heartbeat_secs * 1000,
      report: this.#report(source),
      stop,
    });
  }

  #onState(source: Source, state: DeviceState, reason: string | undefined): void {
    this.#states.set(source, { state, reason });
    let worst = { state, reason };
    for (const other of this.#states.values()) {
      if (STATE_RANK[other.state] > STATE_RANK[worst.state]) worst = other;
    }
    if (worst.state === this.#shown.state && worst.reason === this.#shown.reason) return;
    this.#shown = worst;
    this.#options.context.reportDevice(this.#options.deviceId, worst.state, worst.reason);
  }
}

function withoutScale(point: DeviceConfig['points'][string] | undefined): DeviceConfig['points'][string] | undefined {
  if (point === undefined) return undefined;
  return { ...point, scale: undefined, offset: undefined, decimals: undefined };
}

function frameMarks(framing: FramingConfig): readonly Buffer[] {
  switch (framing.kind) {
    case 'delimiter':
      return [bytesOf(framing.delimiter)];
    case 'start_stop':
      return [bytesOf(framing.start), bytesOf(framing.stop)];
    default:
      return [];
  }
}
