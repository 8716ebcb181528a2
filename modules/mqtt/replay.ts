// A capture in place of a device: its publishes come in again at their pace, from the beginning again after the last, and
// are understood as if they came from the wire. Nothing is asked of anybody, and nothing is written.

import {
  capturePath,
  errorText,
  GatewayError,
  loadPublishPackets,
  readCapture,
  type AdapterContext,
  type CaptureRecord,
  type DeviceId,
} from '#sdk';
import type { Dialect } from './dialect.ts';
import { refusalReason, type Intake } from './intake.ts';

/** Pause before the capture begins again, and before one that cannot be read is tried again. */
const AGAIN_MS = 1000;

export interface ReplayOptions {
  readonly deviceId: DeviceId;
  readonly file: string;
  readonly context: AdapterContext;
  /** A way in that knows of nothing yet: each round begins as the capture began. */
  readonly createIntake: () => Intake;
}

export class Replay {
  readonly #options: ReplayOptions;
  readonly #path: string;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #fault: string | undefined;

  constructor(options: ReplayOptions) {
    this.#options = options;
    this.#path = capturePath(options.context.captureDirectory, options.file);
  }

  /** Why nothing is played. */
  get fault(): string | undefined {
    return this.#fault;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { deviceId, context } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const records = await readCapture(this.#path);
        this.#fault = undefined;
        await this.#play(records);
      } catch (error) {
        if (signal.aborted) return;
        const fault = errorText(error);
        if (fault !== this.#fault) {
          context.log.warn({ device: deviceId, error: fault }, 'A capture cannot be played; it is tried again.');
          context.reportDevice(deviceId, 'offline', 'capture');
        }
        this.#fault = fault;
      }
      await context.clock.sleep(AGAIN_MS, signal).catch(() => {});
    }
  }

  /** @throws GatewayError GW_CAPTURE_INVALID when it holds no publish, GW_ABORTED. */
  async #play(records: readonly CaptureRecord[]): Promise<void> {
    const { context, createIntake } = this.#options;
    const { signal } = this.#stop;
    const packets = await loadPublishPackets();
    const intake = createIntake();
    const startMs = context.clock.monotonicMs();
    let count = 0;
    for (const { atMs, direction, bytes } of records) {
      const packet = direction === 'rx' ? packets.decode(bytes) : undefined;
      if (packet === undefined) continue;
      count += 1;
      await context.clock.sleep(Math.max(0, startMs + atMs - context.clock.monotonicMs()), signal);
      await context.ready(signal);
      try {
        const { topic, payload, retain } = packet;
        await intake.take({ topic, payload, replayed: retain, isAwaited: false }, undefined);
      } catch (error) {
        context.reportRefusal(refusalReason(error), { topic: packet.topic });
      }
    }
    if (count === 0) throw new GatewayError('GW_CAPTURE_INVALID', `${this.#path} holds no MQTT publish.`);
  }
}

/** The dialect as one device alone speaks it. */
export function onlyOf(deviceId: DeviceId, dialect: Dialect): Dialect {
  return {
    ...dialect,
    understand(arrival) {
      const understood = dialect.understand(arrival);
      return understood === undefined
        ? undefined
        : { told: understood.told.filter(({ device }) => device === deviceId) };
    },
  };
}
