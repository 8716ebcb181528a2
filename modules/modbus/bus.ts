// One bus: whoever has a request waits here for the line.
//
// Invariants
// - One exchange at a time. Writes before reads; among equals the one that was due first.
// - Before each request the line was silent for the gap that the protocol and the device ask for.
// - Where nothing in a frame tells a late answer from the next one (RTU, ASCII), a unit that owes answers waits while others
//   are served (late-answers.ts), and what it says then is thrown away.
// - While there is no connection, requests fail at once, except in the moment when a new one is being made.

import { GatewayError, isGatewayError } from '#sdk';
import { BusConnection, type BusConnectionOptions, type BusState } from './bus-connection.ts';
import type { ExchangeOptions, ModbusClient } from './client.ts';
import { frameFault } from './faults.ts';
import { LateAnswers, type FrameSender } from './late-answers.ts';
import { BROADCAST_UNIT, type ModbusRequest } from './pdu.ts';

export interface BusOptions extends Omit<BusConnectionOptions, 'onUnasked'> {
  /** Whether answers carry the id of their request (Modbus TCP). */
  readonly hasTransactionIds: boolean;
  /** Least silence before a request. */
  readonly gapMs: number;
  /** Silence after a broadcast, in which the devices do what it says (Modbus over Serial Line, 2.4.1). */
  readonly turnaroundMs: number;
}

export interface BusJob extends ExchangeOptions {
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

/** Timers count in whole ms and may fire a fraction early. */
const TIMER_TOLERANCE_MS = 2;

interface WaitingJob extends BusJob {
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

export class Bus {
  readonly #options: BusOptions;
  readonly #connection: BusConnection;
  readonly #lateAnswers = new LateAnswers();
  /** Answers that may be to another request, and what fails them; one at most for each unit and function. */
  readonly #held = new Map<WaitingJob, (error: GatewayError) => void>();
  #waiting: WaitingJob[] = [];
  #isBusy = false;
  #cancelTimer = (): void => {};
  #timerMs = 0;
  #extraGapMs = 0;

  constructor(options: BusOptions) {
    this.#options = options;
    this.#connection = new BusConnection({
      ...options,
      onConnected: (isSamePeer) => {
        options.onConnected(isSamePeer);
        this.#pump();
      },
      onDisconnected: (error) => {
        this.#failWaiting(this.#connection.disconnectedFault());
        options.onDisconnected(error);
      },
      onUnasked: (sender) => this.#heard(sender),
    });
  }

  get target(): string {
    return this.#connection.target;
  }

  get state(): BusState {
    return this.#connection.state;
  }

  /** Why there is no connection. */
  get error(): GatewayError | undefined {
    return this.#connection.error;
  }

  /** Whether unit id 0 is a device like any other, as over Modbus TCP, and not a broadcast that nobody answers. */
  get answersBroadcast(): boolean {
    return this.#options.hasTransactionIds;
  }

  /** Whether nothing was heard since one was asked that was dead: a gateway on the way may still wait for that one. */
  get isSilentAfterProbe(): boolean {
    const { client } = this.#connection;
    return client !== undefined && client.silences > 0 && client.isAfterProbe;
  }

  /** Monotonic ms of its last sign of life: now, unless an exchange or a wait should have ended by then. */
  get lastProgressMs(): number {
    const nowMs = this.#options.clock.monotonicMs();
    const { client } = this.#connection;
    if (client === undefined) return nowMs;
    if (this.#isBusy) return Math.min(nowMs, client.deadlineMs ?? nowMs);
    return this.#waiting.length > 0 ? Math.min(nowMs, this.#timerMs) : nowMs;
  }

  get isStopped(): boolean {
    return this.#connection.isStopped;
  }

  /** Starts connecting; waits for nothing. */
  start(): void {
    this.#connection.start();
  }

  /** Ends the connection and all requests. Idempotent. */
  async stop(): Promise<void> {
    this.#cancelTimer();
    const stopped = this.#connection.stop(stoppedFault());
    this.#failWaiting(stoppedFault());
    await stopped;
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
      this.#waiting.push(signal === undefined ? waiting : this.#withdrawable(waiting, signal));
      this.#pump();
    });
  }

  #refusal(signal: AbortSignal | undefined): GatewayError | undefined {
    if (this.isStopped || signal?.aborted === true) return stoppedFault();
    const { client, isHopeful } = this.#connection;
    if (client === undefined && !isHopeful) return this.#connection.disconnectedFault();
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
    const { client } = this.#connection;
    if (client === undefined || this.#isBusy || this.#waiting.length === 0) return;
    const nowMs = this.#options.clock.monotonicMs();
    const { job, readyMs } = this.#choose(nowMs);
    const freeMs = client.lastActivityMs + Math.max(this.#options.gapMs, this.#extraGapMs, job.gapMs);
    const startMs = Math.max(readyMs, freeMs);
    this.#cancelTimer();
    this.#timerMs = startMs;
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
    let bestYields = false;
    for (const job of this.#waiting) {
      const readyMs = Math.max(this.#lateAnswers.readyMs(job.unitId, job.request, nowMs), nowMs);
      const yields = this.#lateAnswers.yields(job.unitId, nowMs);
      const isSooner = readyMs < bestReadyMs || (readyMs === bestReadyMs && !yields && bestYields);
      const isEqual = readyMs === bestReadyMs && yields === bestYields;
      if (best !== undefined && !isSooner && !(isEqual && goesBefore(job, best))) continue;
      best = job;
      bestReadyMs = readyMs;
      bestYields = yields;
    }
    if (best === undefined) throw new GatewayError('GW_INTERNAL', 'No job waits for the bus.');
    return { job: best, readyMs: bestReadyMs };
  }

  async #perform(client: ModbusClient, job: WaitingJob, nowMs: number): Promise<void> {
    const { hasTransactionIds, turnaroundMs, clock } = this.#options;
    const { unitId, request, timeoutMs } = job;
    try {
      job.onSent?.(nowMs);
      if (unitId === BROADCAST_UNIT && !hasTransactionIds) {
        job.resolve(client.broadcast(unitId, request));
        this.#extraGapMs = turnaroundMs;
      } else {
        const data = await client.exchange(unitId, request, timeoutMs, job);
        const endMs = clock.monotonicMs();
        const whose = hasTransactionIds ? 'own' : this.#lateAnswers.answered(unitId, request, timeoutMs, nowMs, endMs);
        if (whose === 'own') job.resolve(data);
        else if (whose === 'other') job.reject(frameFault('late_answer'));
        else this.#hold(job, data, this.#lateAnswers.readyMs(unitId, request, endMs) - endMs);
      }
    } catch (error) {
      const endMs = clock.monotonicMs();
      if (!hasTransactionIds && !isGatewayError(error, 'GW_DISCONNECTED')) {
        if (endMs - nowMs >= timeoutMs - TIMER_TOLERANCE_MS) {
          this.#lateAnswers.unanswered(unitId, request, timeoutMs, nowMs, endMs);
        } else this.#lateAnswers.answered(unitId, request, timeoutMs, nowMs, endMs);
      }
      job.reject(error);
    } finally {
      this.#connection.closeIfSilent(client);
      this.#isBusy = false;
      this.#pump();
    }
  }

  /** Gives the answer when nothing has been heard of the unit until then. */
  #hold(job: WaitingJob, data: Uint8Array, holdMs: number): void {
    const cancel = this.#options.clock.after(Math.ceil(holdMs), () => {
      this.#held.delete(job);
      job.resolve(data);
    });
    this.#held.set(job, (error) => {
      this.#held.delete(job);
      cancel();
      job.reject(error);
    });
  }

  /** A frame came that nobody waited for. */
  #heard(sender: FrameSender): void {
    this.#lateAnswers.heard(sender, this.#options.clock.monotonicMs());
    for (const [{ unitId, request }, fail] of this.#held) {
      if (unitId === sender.unitId && request.functionCode === (sender.functionCode & 0x7f)) {
        fail(frameFault('late_answer'));
      }
    }
  }

  #failWaiting(error: GatewayError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const job of waiting) job.reject(error);
    for (const fail of this.#held.values()) fail(error);
  }
}

function goesBefore(left: BusJob, right: BusJob): boolean {
  if (left.priority !== right.priority) return left.priority === 'write';
  return left.dueMs < right.dueMs;
}

function stoppedFault(): GatewayError {
  return new GatewayError('GW_ABORTED', 'The bus stops.');
}
