// One serial line: whoever has a request waits here for its turn; what arrives goes to whoever asked for it, or listens.
//
// Invariants
// - One request at a time. Writes before reads; among equals the one that was due first.
// - While the port is not open, requests fail at once.
// - A frame goes to the request under way if it is its answer, else to the first listener that takes it, else it is counted.
// - After a request without an answer the line is left alone for a moment, so that a late answer is not taken for the next.
//   A write waits longer for the confirmation that its device owes.

import type { AdapterContext, GatewayError } from '#sdk';
import { answerFault, disconnectedFault, stoppedFault, timeoutFault } from './faults.ts';
import { type FrameFault, Framer, type FramerOptions } from './framer.ts';
import { type CurrentJob, goesBefore, type LineJob, type WaitingJob } from './line-job.ts';
import type { LineListener, PortListener } from './line-listener.ts';
import { OwedAnswers } from './owed-answers.ts';
import type { Wire } from './wire.ts';

/** What a scan gets of a line that an adapter polls on: it may listen, nothing more. */
export interface LentLine {
  readonly adapterId: string;
  readonly baudRate: number;
  /** `8N1`. */
  readonly format: string;
  /** @see SerialLine.tap */
  tap(onData: (bytes: Buffer) => void): () => void;
}

export interface LineOptions {
  readonly wire: Wire;
  readonly framing: Omit<FramerOptions, 'sink'>;
  /** Silence before each request. */
  readonly gapMs: number;
  readonly context: AdapterContext;
  /** Of a replay: whom a recorded request belongs to. */
  readonly askerOf: (request: Buffer) => LineListener | undefined;
}

/** Half the time limit of the request, at most so long: for answers that come late. */
const LATE_MAX_MS = 500;
/** The whole time limit, at most so long, before a request that would take them for its own. */
const LATE_ALIKE_MAX_MS = 2000;
const NOTHING: Buffer = Buffer.alloc(0);

export class SerialLine {
  readonly wire: Wire;
  readonly #options: LineOptions;
  readonly #framer: Framer;
  readonly #listeners: LineListener[] = [];
  readonly #portListeners: PortListener[] = [];
  readonly #taps = new Set<(bytes: Buffer) => void>();
  readonly #owed = new OwedAnswers();
  #waiting: WaitingJob[] = [];
  #current: CurrentJob | undefined;
  /** Of a replay: who asked for what comes now. */
  #replayed: LineListener | undefined;
  #lastActivityMs = Number.NEGATIVE_INFINITY;
  #settledMs = Number.NEGATIVE_INFINITY;
  /** Until when a late answer may come that requests of this kind would take for their own. */
  readonly #alikeMs = new Map<string, number>();
  /** Monotonic ms by which what it waits for has ended. */
  #aliveUntilMs = 0;
  #cancelPump = (): void => {};
  #cancelSilence = (): void => {};
  #isStopped = false;

  constructor(options: LineOptions) {
    this.#options = options;
    this.wire = options.wire;
    this.#framer = new Framer({
      ...options.framing,
      sink: { onFrame: (frame) => this.#onFrame(frame), onFault: (reason, bytes) => this.#onFault(reason, bytes) },
    });
  }

  /** Monotonic ms of its last sign of life: now, unless an exchange or a wait should have ended by then. */
  get lastProgressMs(): number {
    const isIdle = this.#current === undefined && this.#waiting.length === 0;
    return isIdle ? this.#nowMs() : Math.min(this.#nowMs(), this.#aliveUntilMs);
  }

  /** In the order in which they are asked whether they take a frame. */
  listen(listener: LineListener): void {
    this.#listeners.push(listener);
  }

  watchPort(listener: PortListener): void {
    this.#portListeners.push(listener);
  }

  /** Hands over everything that is received, as it comes, until the function is called that it returns. */
  tap(onData: (bytes: Buffer) => void): () => void {
    this.#taps.add(onData);
    return () => this.#taps.delete(onData);
  }

  /** Starts opening the port; waits for nothing. */
  start(): void {
    this.wire.start({
      onOpen: () => {
        this.#framer.reset();
        this.#settledMs = Number.NEGATIVE_INFINITY;
        for (const listener of this.#portListeners) listener.portOpened();
        this.#pump();
      },
      onLost: (error) => this.#onLost(error),
      onData: (bytes) => this.#onData(bytes),
      onReplayedRequest: (bytes) => {
        this.#replayed = this.#options.askerOf(bytes);
        this.#framer.reset();
      },
      onReplayedGap: (ms) => {
        if (ms >= this.#framer.silenceMs) this.#framer.silence();
      },
    });
  }

  /** Ends the port and all requests. Idempotent. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelPump();
    this.#cancelSilence();
    this.#failAll(stoppedFault());
    await this.wire.stop();
  }

  /**
   * One request when its turn has come; the payload of the answer, or nothing where nobody answers.
   * @throws GatewayError GW_TIMEOUT, GW_SERIAL_ANSWER, GW_DISCONNECTED, GW_ABORTED.
   */
  ask(job: LineJob, signal?: AbortSignal): Promise<Buffer> {
    if (this.#isStopped || signal?.aborted === true) return Promise.reject(stoppedFault());
    if (!this.wire.isOpen || this.wire.isReplay) return Promise.reject(this.#closedFault());
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const waiting: WaitingJob = { ...job, resolve, reject };
    this.#waiting.push(waiting);
    const withdraw = (): void => {
      const index = this.#waiting.indexOf(waiting);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(stoppedFault());
    };
    signal?.addEventListener('abort', withdraw, { once: true });
    this.#pump();
    return promise.finally(() => signal?.removeEventListener('abort', withdraw));
  }

  #nowMs(): number {
    return this.#options.context.clock.monotonicMs();
  }

  #closedFault(): GatewayError {
    const { wire } = this;
    if (wire.isReplay) return disconnectedFault(`${wire.target} is played; nothing can be sent.`);
    return disconnectedFault(wire.error?.message ?? `${wire.target} is not open.`, wire.error);
  }

  /** Sends the next request when the line is free, or sets a timer for when it will be. */
  #pump(): void {
    if (this.#current !== undefined || this.#waiting.length === 0 || !this.wire.isOpen) return;
    const nowMs = this.#nowMs();
    const freeMs = Math.max(this.#lastActivityMs + this.#options.gapMs, this.#settledMs);
    const readyMs = ({ confirmation, alike = '' }: LineJob): number =>
      Math.max(
        freeMs,
        this.#alikeMs.get(alike) ?? 0,
        confirmation === undefined ? 0 : this.#owed.readyMs(confirmation),
      );
    const startMs = Math.min(...this.#waiting.map(readyMs));
    this.#cancelPump();
    this.#aliveUntilMs = startMs;
    if (startMs > nowMs) {
      this.#cancelPump = this.#options.context.clock.after(Math.ceil(startMs - nowMs), () => this.#pump());
      return;
    }
    const ready = this.#waiting.filter((job) => readyMs(job) <= nowMs);
    const job = ready.reduce((best, other) => (goesBefore(other, best) ? other : best));
    this.#waiting.splice(this.#waiting.indexOf(job), 1);
    this.#send(job, nowMs);
  }

  #send(job: WaitingJob, nowMs: number): void {
    this.#aliveUntilMs = nowMs + job.timeoutMs;
    // What came before cannot be the answer, nor the beginning of it.
    if (this.#listeners.length === 0) this.#framer.reset();
    this.wire.write(job.bytes);
    this.#lastActivityMs = nowMs;
    job.onSent?.(nowMs);
    if (job.accepts === undefined) {
      // What the device may say all the same is not the answer to the next request.
      this.#leaveAlone(job);
      job.resolve(NOTHING);
      this.#pump();
      return;
    }
    const cancelTimer = this.#options.context.clock.after(job.timeoutMs, () => this.#onTimeout());
    this.#current = { ...job, cancelTimer, fault: undefined };
  }

  #onTimeout(): void {
    const job = this.#current;
    if (job === undefined) return;
    const fault = job.fault ?? (this.#framer.pendingBytes > 0 ? 'truncated' : undefined);
    this.#leaveAlone(job);
    this.#noteOwed(job);
    this.wire.suspect();
    this.#end(job).reject(fault === undefined ? timeoutFault(job.timeoutMs) : answerFault(fault));
    this.#pump();
  }

  /** An answer that comes late is waited out. */
  #leaveAlone({ timeoutMs, alike }: LineJob): void {
    const nowMs = this.#nowMs();
    this.#settledMs = nowMs + Math.min(timeoutMs / 2, LATE_MAX_MS);
    if (alike !== undefined) this.#alikeMs.set(alike, nowMs + Math.min(timeoutMs, LATE_ALIKE_MAX_MS));
  }

  #noteOwed({ deviceId, confirmation, timeoutMs }: LineJob): void {
    if (confirmation === undefined) this.#owed.unanswered(deviceId, timeoutMs, this.#nowMs());
    else this.#owed.owe(confirmation, timeoutMs, this.#nowMs());
  }

  #end(job: CurrentJob): WaitingJob {
    job.cancelTimer();
    this.#current = undefined;
    return job;
  }

  #onData(bytes: Buffer): void {
    if (this.#isStopped) return;
    this.#lastActivityMs = this.#nowMs();
    for (const tap of this.#taps) tap(bytes);
    this.#framer.push(bytes);
    this.#cancelSilence();
    if (this.#framer.pendingBytes === 0 || this.wire.isReplay) return;
    this.#cancelSilence = this.#options.context.clock.after(this.#framer.silenceMs, () => this.#framer.silence());
  }

  #onFrame(frame: Buffer): void {
    const job = this.#current;
    const isLate = !this.#owed.isEmpty && this.#settles(frame);
    if (!isLate && job?.accepts?.(frame) === true) {
      const { confirmation, timeoutMs } = job;
      if (confirmation !== undefined) this.#owed.answered(confirmation, frame, timeoutMs, this.#nowMs());
      this.#end(job).resolve(frame);
      this.#pump();
      return;
    }
    if (isLate) this.#pump();
    const replayed = this.#replayed;
    const listener =
      replayed?.accepts(frame) === true ? replayed : this.#listeners.find((candidate) => candidate.accepts(frame));
    if (listener !== undefined) listener.take(frame);
    else this.#options.context.reportRefusal('unmatched_frame', { target: this.wire.target, bytes: frame.length });
  }

  /** Whether a frame is a confirmation that comes late. To a write under way its own device owes nothing. */
  #settles(frame: Buffer): boolean {
    const job = this.#current;
    const isOwn = job?.accepts?.(frame) === true && job.understands?.(frame) !== false;
    return !isOwn && this.#owed.settle(frame, this.#nowMs());
  }

  #onFault(reason: FrameFault, bytes: number): void {
    const job = this.#current;
    const [only, ...others] = this.#listeners;
    if (job !== undefined) {
      job.fault = reason;
      // Where nobody speaks unasked, that was the answer.
      if (only !== undefined || reason === 'garbage') return;
      this.#end(job).reject(answerFault(reason));
      this.#pump();
      return;
    }
    const listener = this.#replayed ?? (others.length === 0 ? only : undefined);
    if (listener !== undefined) listener.fault(reason);
    else this.#options.context.reportRefusal(reason, { target: this.wire.target, bytes });
  }

  #onLost(error: GatewayError): void {
    this.#cancelSilence();
    this.#framer.reset();
    this.#replayed = undefined;
    this.#failAll(disconnectedFault(error.message, error));
    for (const listener of this.#portListeners) listener.portLost('disconnected');
  }

  #failAll(error: GatewayError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (this.#current !== undefined) {
      this.#noteOwed(this.#current);
      this.#end(this.#current).reject(error);
    }
    for (const job of waiting) job.reject(error);
  }
}
