// Keeps one bus connected.
//
// Invariants
// - A connection is made anew for ever, soon after it was lost, then with growing, jittered pauses.
// - While a first attempt is under way requests may wait for it, but not for long.
// - A connection on which nothing is heard any more is given up; each time that helps nothing it takes longer.

import {
  type Clock,
  type ErrorCode,
  errorText,
  GatewayError,
  jitter,
  type LinkOpener,
  type Logger,
  type Random,
  throwIfAborted,
} from '#sdk';
import { ModbusClient } from './client.ts';
import { disconnectedFault } from './faults.ts';
import type { FrameLog } from './frame-log.ts';
import type { Framer } from './framer.ts';
import type { FrameSender } from './late-answers.ts';

export interface BusConnectionOptions {
  readonly opener: LinkOpener;
  readonly createFramer: () => Framer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly frameLog: FrameLog;
  /** Pause after connecting, for devices that are not ready at once. */
  readonly connectDelayMs: number;
  /** How long requests wait for a connection that is being made. */
  readonly patienceMs: number;
  /**
   * Told after each connect, and of each failure to stay connected.
   * @param isSamePeer whether the last connection was left on a mere suspicion and made anew at once.
   */
  readonly onConnected: (isSamePeer: boolean) => void;
  readonly onDisconnected: (error: GatewayError) => void;
  /** As in `ClientOptions`. */
  readonly onUnasked: (sender: FrameSender) => void;
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
/** How much more silence is borne that began with a probe. */
const AFTER_PROBE_FACTOR = 4;

export class BusConnection {
  readonly #options: BusConnectionOptions;
  readonly #stop = new AbortController();
  #client: ModbusClient | undefined;
  #state: BusState = 'stopped';
  #error: GatewayError | undefined;
  /** Code of the last loss that was logged, until a connection was of use. */
  #toldCode: ErrorCode | undefined;
  #isHopeful = false;
  #cancelHope = (): void => {};
  #supervisor: Promise<void> | undefined;
  #silenceLimit = SILENCE_LIMIT;
  #suspect: ModbusClient | undefined;

  constructor(options: BusConnectionOptions) {
    this.#options = options;
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

  /** What carries requests; undefined while there is no connection. */
  get client(): ModbusClient | undefined {
    return this.#client?.isOpen === true ? this.#client : undefined;
  }

  /** Whether a connection is about to be made, so that a request may wait for it. */
  get isHopeful(): boolean {
    return this.#isHopeful;
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Starts connecting; waits for nothing. */
  start(): void {
    this.#supervisor ??= this.#supervise();
  }

  /** Ends the connection for good; a request under way fails with `reason`. Idempotent. */
  async stop(reason: GatewayError): Promise<void> {
    this.#stop.abort();
    this.#cancelHope();
    await this.#client?.close(reason);
    await this.#supervisor;
    this.#state = 'stopped';
  }

  /** What a request meets while there is no connection. */
  disconnectedFault(): GatewayError {
    return disconnectedFault(errorText(this.#error ?? `${this.target} is not connected.`), this.#error);
  }

  /** Ends a connection on which nothing is heard any more (half-open, or plugged in again under another name). */
  closeIfSilent(client: ModbusClient): void {
    if (client.answers > 0) this.#silenceLimit = SILENCE_LIMIT;
    if (client.silences < this.#silenceLimit * (client.isAfterProbe ? AFTER_PROBE_FACTOR : 1)) return;
    const { opener } = this.#options;
    const count = client.silences;
    const reason = disconnectedFault(
      `${opener.target}: ${count} requests in a row were not answered; it is connected anew.`,
    );
    if (opener.charMs === 0) {
      // A new connection that hears nothing either says that the devices are dead, not the connection.
      this.#silenceLimit = Math.min(this.#silenceLimit * 2, SILENCE_LIMIT_MAX);
      this.#suspect = client;
      // Requests wait for the new connection, which is at hand when there was nothing to it.
      this.#hope();
      void client.close(reason);
      return;
    }
    void opener.isCurrent().then((isCurrent) => (isCurrent ? undefined : client.close(reason)));
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    let isSamePeer = false;
    while (!signal.aborted) {
      const client = await this.#connect(isSamePeer);
      isSamePeer = false;
      if (client === undefined) {
        failures += 1;
      } else {
        const error = await client.closed;
        this.#client = undefined;
        // One that we left ourselves, on a suspicion, says nothing of whether a new one can be made.
        const wasSound = (client.answers > 0 && !client.isFlooded) || client === this.#suspect;
        failures = wasSound ? 0 : failures + 1;
        isSamePeer = client === this.#suspect;
        if (signal.aborted) return;
        if (wasSound) this.#toldCode = undefined;
        this.#onLost(error ?? disconnectedFault(`${this.target}: the connection was lost.`), failures <= 1);
      }
      await this.#pause(failures);
    }
  }

  async #connect(isSamePeer: boolean): Promise<ModbusClient | undefined> {
    const { opener, createFramer, clock, frameLog, connectDelayMs, log, onUnasked } = this.#options;
    const { signal } = this.#stop;
    if (this.#error === undefined) this.#hope();
    if (this.#state !== 'disconnected') this.#state = 'connecting';
    let client: ModbusClient | undefined;
    try {
      client = await ModbusClient.open({ opener, framer: createFramer(), clock, frameLog, onUnasked }, signal);
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
    log.info({ target: opener.target }, 'The bus is connected.');
    this.#state = 'connected';
    this.#error = undefined;
    this.#options.onConnected(isSamePeer);
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
    onDisconnected(error);
  }

  async #pause(failures: number): Promise<void> {
    const { clock, random } = this.#options;
    const maxMs = this.#error?.code === 'GW_SERIAL_MISSING' ? MISSING_RETRY_MAX_MS : RETRY_MAX_MS;
    const pauseMs = failures === 0 ? FIRST_RETRY_MS : Math.min(RETRY_MS * 2 ** (failures - 1), maxMs);
    await clock.sleep(Math.min(jitter(pauseMs, RETRY_SPREAD, random), maxMs), this.#stop.signal).catch(() => {});
  }
}

function asFault(error: unknown): GatewayError {
  return error instanceof GatewayError ? error : disconnectedFault(errorText(error), error);
}
