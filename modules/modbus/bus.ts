// One bus: whoever has a request waits here for the line.
//
// Invariants
// - One exchange at a time. Writes before reads; among equals the one that was due first.
// - Before each request the line was silent for the gap that the protocol and the device ask for.
// - Where nothing in a frame tells a late answer from the next one (RTU, ASCII), a unit that did not answer is left alone
//   for as long again while others are served, and what it says then is thrown away.
// - While there is no connection, requests fail at once, except in the moment when a new one is being made.
// - A connection is made anew for ever, soon after it was lost, then with growing, jittered pauses.

import {
  type Clock,
  type ErrorCode,
  errorText,
  GatewayError,
  jitter,
  type Logger,
  type Random,
  throwIfAborted,
} from '#sdk';
import { ModbusClient } from './client.ts';
import { disconnectedFault } from './faults.ts';
import type { FrameLog } from './frame-log.ts';
import type { Framer } from './framer.ts';
import type { LinkOpener } from './link.ts';
import { BROADCAST_UNIT, type ModbusRequest } from './pdu.ts';

export interface BusOptions {
  readonly opener: LinkOpener;
  readonly createFramer: () => Framer;
  /** Whether answers carry the id of their request (Modbus TCP). */
  readonly hasTransactionIds: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly frameLog: FrameLog;
  /** Least silence before a request. */
  readonly gapMs: number;
  /** Silence after a broadcast, in which the devices do what it says (Modbus over Serial Line, 2.4.1). */
  readonly turnaroundMs: number;
  /** Pause after connecting, for devices that are not ready at once. */
  readonly connectDelayMs: number;
  /** How long requests wait for a connection that is being made. */
  readonly patienceMs: number;
  /** Told after each connect, and of each failure to stay connected. */
  readonly onConnected: () => void;
  readonly onDisconnected: (error: GatewayError) => void;
}

export interface BusJob {
  readonly unitId: number;
  readonly request: ModbusRequest;
  readonly timeoutMs: number;
  /** Extra silence that this device needs before a request. */
  readonly gapMs: number;
  readonly priority: 'write' | 'read';
  /** Monotonic ms when it was due. */
  readonly dueMs: number;
  /** Told at the moment when the request goes out. */
  readonly onSent?: (nowMs: number) => void;
}

interface WaitingJob extends BusJob {
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

export type BusState = 'stopped' | 'connecting' | 'connected' | 'disconnected';

const FIRST_RETRY_MS = 100;
const RETRY_MS = 500;
const RETRY_MAX_MS = 15_000;
/** Looking whether a device file is there costs nothing, and people plug things in while they watch. */
const MISSING_RETRY_MAX_MS = 1000;
const RETRY_SPREAD = 0.3;
/** Requests in a row without a byte after which the connection is taken for half-open. */
const SILENCE_LIMIT = 3;
const SILENCE_LIMIT_MAX = 48;

export class Bus {
  readonly #options: BusOptions;
  readonly #stop = new AbortController();
  readonly #lateUntilMs = new Map<number, number>();
  #waiting: WaitingJob[] = [];
  #client: ModbusClient | undefined;
  #isBusy = false;
  #state: BusState = 'stopped';
  #error: GatewayError | undefined;
  /** Code of the last loss that was logged, until a connection was of use. */
  #toldCode: ErrorCode | undefined;
  #isHopeful = false;
  #cancelHope = (): void => {};
  #cancelTimer = (): void => {};
  #supervisor: Promise<void> | undefined;
  #extraGapMs = 0;
  #silenceLimit = SILENCE_LIMIT;
  #suspect: ModbusClient | undefined;
  #progressMs: number;

  constructor(options: BusOptions) {
    this.#options = options;
    this.#progressMs = options.clock.monotonicMs();
  }

  get target(): string {
    return this.#options.opener.target;
  }

  get state(): BusState {
    return this.#state;
  }

  /** Why there is no connection. */
  get error(): GatewayError | undefined {
    return this.#error;
  }

  /** Whether unit id 0 is a device like any other, as over Modbus TCP, and not a broadcast that nobody answers. */
  get answersBroadcast(): boolean {
    return this.#options.hasTransactionIds;
  }

  /** Monotonic ms of its last sign of life: now while nothing waits for it. */
  get lastProgressMs(): number {
    return this.#isBusy || this.#waiting.length > 0 ? this.#progressMs : this.#options.clock.monotonicMs();
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Starts connecting; waits for nothing. */
  start(): void {
    this.#supervisor ??= this.#supervise();
  }

  /** Ends the connection and all requests. Idempotent. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#cancelTimer();
    this.#cancelHope();
    this.#failWaiting(stoppedFault());
    await this.#client?.close(stoppedFault());
    await this.#supervisor;
    this.#state = 'stopped';
  }

  /**
   * One request, when its turn has come.
   * @throws GatewayError GW_TIMEOUT, GW_MODBUS_EXCEPTION, GW_MODBUS_FRAME, GW_DISCONNECTED, GW_ABORTED.
   */
  exchange(job: BusJob, signal?: AbortSignal): Promise<Uint8Array> {
    const refusal = this.#refusal(signal);
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise<Uint8Array>((resolve, reject) => {
      const waiting: WaitingJob = { ...job, resolve, reject };
      if (this.#waiting.length === 0 && !this.#isBusy) this.#progressMs = this.#options.clock.monotonicMs();
      this.#waiting.push(signal === undefined ? waiting : this.#withdrawable(waiting, signal));
      this.#pump();
    });
  }

  #refusal(signal: AbortSignal | undefined): GatewayError | undefined {
    if (this.isStopped || signal?.aborted === true) return stoppedFault();
    if (this.#client === undefined && !this.#isHopeful) return this.#disconnectedFault();
    return undefined;
  }

  /** The same job, which leaves the queue when the signal aborts before its turn. */
  #withdrawable(job: WaitingJob, signal: AbortSignal): WaitingJob {
    const withdraw = (): void => {
      const index = this.#waiting.indexOf(listening);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      job.reject(stoppedFault());
    };
    const listening: WaitingJob = {
      ...job,
      resolve(data) {
        signal.removeEventListener('abort', withdraw);
        job.resolve(data);
      },
      reject(error) {
        signal.removeEventListener('abort', withdraw);
        job.reject(error);
      },
    };
    signal.addEventListener('abort', withdraw, { once: true });
    return listening;
  }

  /** Sends the next request when the line is free, or sets a timer for when it will be. */
  #pump(): void {
    const client = this.#client;
    if (client === undefined || this.#isBusy || this.#waiting.length === 0) return;
    const nowMs = this.#options.clock.monotonicMs();
    const { job, readyMs } = this.#choose(nowMs);
    const freeMs = client.lastActivityMs + Math.max(this.#options.gapMs, this.#extraGapMs, job.gapMs);
    const startMs = Math.max(readyMs, freeMs);
    this.#cancelTimer();
    if (startMs > nowMs) {
      this.#cancelTimer = this.#options.clock.after(Math.ceil(startMs - nowMs), () => this.#pump());
      return;
    }
    this.#waiting.splice(this.#waiting.indexOf(job), 1);
    this.#isBusy = true;
    this.#extraGapMs = 0;
    void this.#perform(client, job, nowMs);
  }

  /** The job whose turn it is; when every unit has to be left alone, the one that is free first. */
  #choose(nowMs: number): { job: WaitingJob; readyMs: number } {
    let best: WaitingJob | undefined;
    let bestReadyMs = 0;
    for (const job of this.#waiting) {
      const readyMs = Math.max(this.#lateUntilMs.get(job.unitId) ?? 0, nowMs);
      const isBetter =
        best === undefined || readyMs < bestReadyMs || (readyMs === bestReadyMs && goesBefore(job, best));
      if (!isBetter) continue;
      best = job;
      bestReadyMs = readyMs;
    }
    if (best === undefined) throw new GatewayError('GW_INTERNAL', 'No job waits for the bus.');
    return { job: best, readyMs: bestReadyMs };
  }

  async #perform(client: ModbusClient, job: WaitingJob, nowMs: number): Promise<void> {
    const { hasTransactionIds, turnaroundMs, clock } = this.#options;
    this.#progressMs = nowMs;
    try {
      job.onSent?.(nowMs);
      if (job.unitId === BROADCAST_UNIT && !hasTransactionIds) {
        job.resolve(client.broadcast(job.unitId, job.request));
        this.#extraGapMs = turnaroundMs;
      } else {
        job.resolve(await client.exchange(job.unitId, job.request, job.timeoutMs));
      }
    } catch (error) {
      const endMs = clock.monotonicMs();
      const isOutOfTime = endMs - nowMs >= job.timeoutMs;
      // At most as many entries as there are unit ids.
      if (isOutOfTime && !hasTransactionIds) this.#lateUntilMs.set(job.unitId, endMs + job.timeoutMs);
      job.reject(error);
    } finally {
      this.#closeIfSilent(client);
      this.#isBusy = false;
      this.#pump();
    }
  }

  /** Ends a connection on which nothing is heard any more (half-open, or plugged in again under another name). */
  #closeIfSilent(client: ModbusClient): void {
    if (client.answers > 0) this.#silenceLimit = SILENCE_LIMIT;
    if (client.silences < this.#silenceLimit) return;
    const { opener } = this.#options;
    const count = client.silences;
    const reason = disconnectedFault(
      `${opener.target}: ${count} requests in a row were not answered; it is connected anew.`,
    );
    if (opener.charMs === 0) {
      // A new connection that hears nothing either says that the devices are dead, not the connection.
      this.#silenceLimit = Math.min(this.#silenceLimit * 2, SILENCE_LIMIT_MAX);
      this.#suspect = client;
      void client.close(reason);
      return;
    }
    void opener.isCurrent().then((isCurrent) => (isCurrent ? undefined : client.close(reason)));
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted) {
      const client = await this.#connect();
      if (client === undefined) {
        failures += 1;
      } else {
        const error = await client.closed;
        this.#client = undefined;
        // One that we left ourselves, on a suspicion, says nothing of whether a new one can be made.
        const wasSound = (client.answers > 0 && !client.isFlooded) || client === this.#suspect;
        failures = wasSound ? 0 : failures + 1;
        if (signal.aborted) return;
        if (wasSound) this.#toldCode = undefined;
        this.#onLost(error ?? disconnectedFault(`${this.target}: the connection was lost.`), failures <= 1);
      }
      await this.#pause(failures);
    }
  }

  async #connect(): Promise<ModbusClient | undefined> {
    const { opener, createFramer, clock, frameLog, connectDelayMs, log } = this.#options;
    const { signal } = this.#stop;
    if (this.#error === undefined) this.#hope();
    if (this.#state !== 'disconnected') this.#state = 'connecting';
    let client: ModbusClient | undefined;
    try {
      client = await ModbusClient.open({ opener, framer: createFramer(), clock, frameLog }, signal);
      if (connectDelayMs > 0) await clock.sleep(connectDelayMs, signal);
      throwIfAborted(signal);
    } catch (error) {
      await client?.close();
      if (!signal.aborted) this.#onLost(asFault(error), false);
      return undefined;
    }
    this.#client = client;
    this.#cancelHope();
    this.#isHopeful = false;
    this.#lateUntilMs.clear();
    log.info({ target: opener.target }, 'The bus is connected.');
    this.#state = 'connected';
    this.#error = undefined;
    this.#options.onConnected();
    this.#pump();
    return client;
  }

  /** While a first attempt is under way requests wait for it, but not for long. */
  #hope(): void {
    this.#isHopeful = true;
    this.#cancelHope();
    this.#cancelHope = this.#options.clock.after(this.#options.patienceMs, () => {
      const text = `${this.target}: not connected within ${this.#options.patienceMs} ms.`;
      this.#onLost(disconnectedFault(text), false);
    });
  }

  #onLost(error: GatewayError, isHopeful: boolean): void {
    const { log, onDisconnected } = this.#options;
    const fields = { target: this.target, code: error.code, error: errorText(error) };
    // The same again and again is not news, nor is it when a connection came to nothing in between.
    if (this.#toldCode === error.code) log.debug(fields, 'The bus is still not connected.');
    else log.warn(fields, 'The bus is not connected; it is tried again.');
    this.#toldCode = error.code;
    this.#error = error;
    this.#state = isHopeful ? 'connecting' : 'disconnected';
    if (isHopeful) {
      this.#hope();
      return;
    }
    this.#cancelHope();
    this.#isHopeful = false;
    this.#failWaiting(this.#disconnectedFault());
    onDisconnected(error);
  }

  async #pause(failures: number): Promise<void> {
    const { clock, random } = this.#options;
    const maxMs = this.#error?.code === 'GW_SERIAL_MISSING' ? MISSING_RETRY_MAX_MS : RETRY_MAX_MS;
    const pauseMs = failures === 0 ? FIRST_RETRY_MS : Math.min(RETRY_MS * 2 ** (failures - 1), maxMs);
    await clock.sleep(Math.min(jitter(pauseMs, RETRY_SPREAD, random), maxMs), this.#stop.signal).catch(() => {});
  }

  #failWaiting(error: GatewayError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const job of waiting) job.reject(error);
  }

  #disconnectedFault(): GatewayError {
    return disconnectedFault(errorText(this.#error ?? `${this.target} is not connected.`), this.#error);
  }
}

function goesBefore(left: BusJob, right: BusJob): boolean {
  if (left.priority !== right.priority) return left.priority === 'write';
  return left.dueMs < right.dueMs;
}

function stoppedFault(): GatewayError {
  return new GatewayError('GW_ABORTED', 'The bus stops.');
}

function asFault(error: unknown): GatewayError {
  return error instanceof GatewayError ? error : disconnectedFault(errorText(error), error);
}
