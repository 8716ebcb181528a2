// Plays a capture in place of a port: what was received goes through the same framing and decoding; what was sent says
// which request an answer belongs to.

import { type Clock, errorText, type GatewayError, isGatewayError, type Logger, readCapture } from '#sdk';
import { disconnectedFault } from './faults.ts';
import type { Wire, WireEvents } from './wire.ts';

export interface ReplayWireOptions {
  readonly path: string;
  readonly pace: 'recorded' | 'fast';
  readonly repeat: boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** Resolves when more can be taken. */
  readonly ready: (signal: AbortSignal) => Promise<void>;
}

/** Pause before the capture begins again, and before one that cannot be read is tried again. */
const AGAIN_MS = 1000;
/** Records of a fast replay between two looks at the rest of the world. */
const FAST_RECORDS = 64;

export class ReplayWire implements Wire {
  readonly isReplay = true;
  readonly devicePath = undefined;
  readonly #options: ReplayWireOptions;
  readonly #stop = new AbortController();
  #isOpen = false;
  #error: GatewayError | undefined;
  #running: Promise<void> | undefined;

  constructor(options: ReplayWireOptions) {
    this.#options = options;
  }

  get target(): string {
    return this.#options.path;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get error(): GatewayError | undefined {
    return this.#error;
  }

  start(events: WireEvents): void {
    this.#running ??= this.#run(events);
  }

  write(): void {}

  suspect(): void {}

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(events: WireEvents): Promise<void> {
    const { clock, log, repeat } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#play(events);
        if (!repeat && !signal.aborted) {
          this.#isOpen = false;
          this.#error = disconnectedFault(`${this.target}: the capture is over.`);
          events.onLost(this.#error);
          return;
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#isOpen = false;
        this.#error = isGatewayError(error) ? error : disconnectedFault(errorText(error), error);
        log.warn({ target: this.target, error: this.#error.message }, 'A capture cannot be played; it is tried again.');
        events.onLost(this.#error);
      }
      await clock.sleep(AGAIN_MS, signal).catch(() => {});
    }
  }

  async #play(events: WireEvents): Promise<void> {
    const { clock, path, pace, ready } = this.#options;
    const { signal } = this.#stop;
    const records = await readCapture(path);
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#error = undefined;
      events.onOpen();
    }
    const startMs = clock.monotonicMs();
    let beforeMs = records[0]?.atMs ?? 0;
    for (const [index, { atMs, direction, bytes }] of records.entries()) {
      if (pace === 'recorded') await clock.sleep(Math.max(0, startMs + atMs - clock.monotonicMs()), signal);
      else if (index % FAST_RECORDS === FAST_RECORDS - 1) await clock.sleep(0, signal);
      await ready(signal);
      events.onReplayedGap(Math.max(0, atMs - beforeMs));
      beforeMs = atMs;
      if (direction === 'rx') events.onData(bytes);
      else events.onReplayedRequest(bytes);
    }
  }
}
