// One leaf device on a bus: its requests with retries, its circuit breaker and its state as people see it.

import {
  type AdapterContext,
  type CaptureWriter,
  Breaker,
  type DeviceId,
  type DeviceState,
  isGatewayError,
  type Random,
} from '#sdk';
import type { Bus } from './bus.ts';
import { exceptionOf, reasonOf } from './faults.ts';
import { FUNCTION_NAMES, type ModbusRequest } from './pdu.ts';
import type { ProbeTurn } from './probe-turn.ts';

export interface DeviceSettings {
  readonly deviceId: DeviceId;
  readonly unitId: number;
  readonly timeoutMs: number;
  /** Further attempts after one without a usable answer. */
  readonly retries: number;
  readonly requestGapMs: number;
  readonly breakerFailures: number;
  readonly probeMinMs: number;
  readonly probeMaxMs: number;
}

export interface DeviceRequest {
  readonly priority: 'write' | 'read';
  /** Monotonic ms. */
  readonly dueMs: number;
  readonly onSent?: (nowMs: number) => void;
  /** Default: the device's. */
  readonly retries?: number;
  readonly isProbe?: boolean;
}

/** Exceptions by which a gateway on the way says that the device behind it did not answer (section 7). */
const GATEWAY_EXCEPTIONS: ReadonlySet<number> = new Set([10, 11]);
/** An answer came, and the unit is only late. */
const LATE_REASONS: ReadonlySet<string> = new Set(['transaction_id', 'late_answer']);
/** Server device busy: the client shall ask again when the device is free (section 7). */
const BUSY_EXCEPTION = 6;
const BUSY_PAUSE_MS = 200;

export class ModbusDevice {
  readonly settings: DeviceSettings;
  readonly bus: Bus;
  readonly #context: AdapterContext;
  readonly #breaker: Breaker;
  readonly #probeTurn: ProbeTurn;
  readonly #stop: AbortSignal;
  #state: DeviceState = 'unknown';
  #reason: string | undefined;
  #silence = 'timeout';
  /** Asked again and again while it is suspended, whichever poll asks: a late answer to it is as good. */
  #probeRequest: ModbusRequest | undefined;
  /** Where its frames are recorded, while they are. */
  capture: CaptureWriter | undefined;

  constructor(
    settings: DeviceSettings,
    parts: { bus: Bus; context: AdapterContext; random: Random; probeTurn: ProbeTurn; stop: AbortSignal },
  ) {
    this.settings = settings;
    this.bus = parts.bus;
    this.#context = parts.context;
    this.#probeTurn = parts.probeTurn;
    this.#stop = parts.stop;
    this.#breaker = new Breaker({
      failures: settings.breakerFailures,
      probeMinMs: settings.probeMinMs,
      probeMaxMs: settings.probeMaxMs,
      random: parts.random,
    });
  }

  get id(): DeviceId {
    return this.settings.deviceId;
  }

  get state(): DeviceState {
    return this.#state;
  }

  /** Whether it is only probed. */
  get isSuspended(): boolean {
    return this.#breaker.isOpen;
  }

  /** Why it does not answer: the reason of the newest request that had no answer. */
  get silence(): string {
    return this.bus.state === 'disconnected' ? 'disconnected' : this.#silence;
  }

  /** Monotonic ms when it is worth asking a device again that did not answer, if its next poll is later. */
  nextTryMs(nowMs: number): number {
    if (this.bus.state === 'disconnected') return nowMs + this.settings.probeMaxMs;
    const againMs = nowMs + this.settings.probeMinMs;
    if (!this.#breaker.isOpen) return againMs;
    return Math.max(nowMs, this.#breaker.nextProbeMs, this.#probeTurn.freeMs() ?? againMs);
  }

  /**
   * One request, with retries.
   * @throws GatewayError GW_TIMEOUT, GW_MODBUS_EXCEPTION, GW_MODBUS_FRAME, GW_DISCONNECTED, GW_ABORTED.
   */
  async request(request: ModbusRequest, options: DeviceRequest, signal?: AbortSignal): Promise<Uint8Array> {
    const retries = options.retries ?? this.settings.retries;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#exchange(request, options, signal);
      } catch (error) {
        const exception = exceptionOf(error);
        const isAnswer = exception !== undefined && exception !== BUSY_EXCEPTION && !GATEWAY_EXCEPTIONS.has(exception);
        if (isGatewayError(error, 'GW_ABORTED') || isAnswer || attempt >= retries || this.#breaker.isOpen) throw error;
        if (exception === BUSY_EXCEPTION) await this.#context.clock.sleep(BUSY_PAUSE_MS, this.#stop);
      }
    }
  }

  /**
   * Whether a suspended device answers again, found with one cheap request once its next probe is due. False without any
   * traffic while it is not, or while another device of the bus has the turn.
   */
  async probe(request: ModbusRequest, options: DeviceRequest): Promise<boolean> {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs < this.#breaker.nextProbeMs || !this.#probeTurn.take(this, nowMs)) return false;
    try {
      this.#probeRequest ??= request;
      await this.request(this.#probeRequest, { ...options, retries: 0, isProbe: true });
    } catch {
      // What the fault was is in the breaker: an exception is an answer too.
    }
    if (!this.#breaker.isOpen) this.#probeRequest = undefined;
    this.#probeTurn.give(this, this.#context.clock.monotonicMs(), !this.#breaker.isOpen);
    return !this.#breaker.isOpen;
  }

  /** The bus has a new connection. */
  reconnected(): void {
    this.#breaker.reconnected(this.#context.clock.monotonicMs());
  }

  /** Shows the state to people; repeats are not told again. */
  report(state: DeviceState, reason?: string): void {
    if (state === this.#state && reason === this.#reason) return;
    this.#state = state;
    this.#reason = reason;
    this.#context.reportDevice(this.id, state, reason);
  }

  async #exchange(
    request: ModbusRequest,
    options: DeviceRequest,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const { clock } = this.#context;
    const { unitId, timeoutMs, requestGapMs } = this.settings;
    let sentMs: number | undefined;
    let outcome = 'ok';
    try {
      const data = await this.bus.exchange(
        {
          unitId,
          request,
          timeoutMs,
          gapMs: requestGapMs,
          priority: options.priority,
          dueMs: options.dueMs,
          capture: this.capture,
          isProbe: options.isProbe,
          onSent: (nowMs) => {
            sentMs = nowMs;
            options.onSent?.(nowMs);
          },
        },
        signal,
      );
      this.#breaker.answered();
      return data;
    } catch (error) {
      outcome = reasonOf(error);
      this.#judge(error, outcome, options.isProbe === true);
      throw error;
    } finally {
      if (sentMs !== undefined) {
        this.#context.reportExchange({
          deviceId: this.id,
          operation: FUNCTION_NAMES[request.functionCode],
          durationMs: clock.monotonicMs() - sentMs,
          outcome,
        });
      }
    }
  }

  /** What a fault says of the device: exceptions are answers; silence and garbage are not; lost connections say nothing. */
  #judge(error: unknown, reason: string, isProbe: boolean): void {
    const exception = exceptionOf(error);
    if (exception !== undefined && !GATEWAY_EXCEPTIONS.has(exception)) {
      this.#breaker.answered();
      return;
    }
    const isSilence =
      exception !== undefined || isGatewayError(error, 'GW_TIMEOUT') || isGatewayError(error, 'GW_MODBUS_FRAME');
    if (!isSilence) return;
    this.#silence = reason;
    // A gateway to a serial line answers late, and one after the other: what it makes wait is not dead.
    const isBehindOthers =
      LATE_REASONS.has(reason) || (isGatewayError(error, 'GW_TIMEOUT') && this.bus.isSilentAfterProbe);
    if (isBehindOthers && !isProbe) return;
    this.#breaker.silent(this.#context.clock.monotonicMs());
  }
}
