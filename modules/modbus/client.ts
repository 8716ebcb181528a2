// One connection to a bus: one exchange at a time over a link, a framer and the codec. Knows neither devices nor retries.

import assert from 'node:assert';
import type { CaptureWriter, Clock, GatewayError, Link, LinkOpener } from '#sdk';
import { Codec } from './codec.ts';
import { disconnectedFault, timeoutFault } from './faults.ts';
import type { FrameLog } from './frame-log.ts';
import { type Framer, NO_BYTES } from './framer.ts';
import type { FrameSender } from './late-answers.ts';
import { answerBytes, type ModbusRequest } from './pdu.ts';

export interface ClientOptions {
  readonly opener: LinkOpener;
  readonly framer: Framer;
  readonly clock: Clock;
  readonly frameLog: FrameLog;
  /** Told of a frame that comes while nothing is asked. */
  readonly onUnasked: (sender: FrameSender) => void;
}

/** What else is to be known of an exchange. */
export interface ExchangeOptions {
  /** Asks whether anybody is there: silence then says nothing of the connection. */
  readonly isSearch?: boolean | undefined;
  /** Asks one that was dead: silence then says little of the connection, nor does that of others right behind it. */
  readonly isProbe?: boolean | undefined;
  /** Where its frames are recorded. */
  readonly capture?: CaptureWriter | undefined;
  /** Told how many bytes came when none of them was a sound answer. */
  readonly onStray?: (bytes: number) => void;
}

interface PendingExchange extends ExchangeOptions {
  readonly deadlineMs: number;
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  readonly cancelTimeout: () => void;
}

/**
 * Bytes that nobody asked for within a second, or after one request: no serial line carries so many, and no answer has
 * so many. Reading on would cost the processor time of all other devices.
 */
const FLOOD_BYTES = 65_536;
const FLOOD_WINDOW_MS = 1000;
/** Characters allowed for an answer whose length is not known beforehand. */
const UNKNOWN_ANSWER_BYTES = 128;
/** More than a frame has; what is longer is none. */
const UNASKED_MAX_BYTES = 600;
/** More than lies between the pieces of one frame. */
const FRAME_GAP_MS = 50;
const NO_DATA = new Uint8Array(0);

export class ModbusClient {
  readonly #options: ClientOptions;
  readonly #framer: Framer;
  readonly #codec = new Codec();
  readonly #closed: Promise<GatewayError | undefined>;
  #settleClosed: (error: GatewayError | undefined) => void = () => {};
  #link: Link | undefined;
  #isOpen = true;
  #closeReason: GatewayError | undefined;
  #pending: PendingExchange | undefined;
  /** Since the request. */
  #heardBytes = 0;
  #lastActivityMs: number;
  #lastByteMs = 0;
  #answers = 0;
  #silences = 0;
  #isAfterProbe = false;
  #isFlooded = false;
  #unaskedBytes = 0;
  #unaskedSinceMs = 0;
  /** The beginning of a frame that nobody asked for, as a line gives it in pieces; and whether it was told of. */
  #unasked: Buffer = NO_BYTES;
  #isTold = false;

  private constructor(options: ClientOptions) {
    this.#options = options;
    this.#framer = options.framer;
    this.#lastActivityMs = options.clock.monotonicMs();
    this.#closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
  }

  /** One attempt to connect. @throws GatewayError as `LinkOpener.open` does. */
  static async open(options: ClientOptions, signal: AbortSignal): Promise<ModbusClient> {
    const client = new ModbusClient(options);
    client.#link = await options.opener.open(
      { onData: (bytes) => client.#onData(bytes), onClosed: (error) => client.#onClosed(error) },
      signal,
    );
    return client;
  }

  /** Settles when the connection has ended: why, or undefined when `close` was called without a reason. */
  get closed(): Promise<GatewayError | undefined> {
    return this.#closed;
  }

  /** Monotonic ms when the line last carried a character, as far as is known. */
  get lastActivityMs(): number {
    return this.#lastActivityMs;
  }

  /** Exchanges that were answered. */
  get answers(): number {
    return this.#answers;
  }

  /** Exchanges in a row, up to now, after which not a byte came. */
  get silences(): number {
    return this.#silences;
  }

  /**
   * Whether the silences began with a probe. A gateway to a serial line waits for a dead device far longer than we do, and
   * serves nobody meanwhile.
   */
  get isAfterProbe(): boolean {
    return this.#isAfterProbe;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Monotonic ms at which the exchange under way ends at the latest; undefined while there is none. */
  get deadlineMs(): number | undefined {
    return this.#pending?.deadlineMs;
  }

  /** The peer sent without end and without being asked; the connection was closed for it. */
  get isFlooded(): boolean {
    return this.#isFlooded;
  }

  /**
   * One request and its answer: the bytes of registers, packed bits or the identification; nothing for writes.
   * `timeoutMs` counts from the last character sent to the last character of the answer, less what these take on the line.
   * @throws GatewayError GW_TIMEOUT, GW_MODBUS_EXCEPTION, GW_MODBUS_FRAME, GW_DISCONNECTED.
   */
  exchange(
    unitId: number,
    request: ModbusRequest,
    timeoutMs: number,
    exchangeOptions: ExchangeOptions = {},
  ): Promise<Uint8Array> {
    assert(this.#pending === undefined, 'one exchange at a time');
    if (!this.#isOpen || this.#link === undefined) return Promise.reject(this.#lostFault());
    const { clock, opener } = this.#options;
    const unit = this.#codec.encode(unitId, request);
    const bytes = this.#framer.request(unit, request);
    // An ASCII frame has two characters a byte, and so has its answer.
    const charsPerByte = bytes.length / unit.length;
    const chars = bytes.length + (answerBytes(request) ?? UNKNOWN_ANSWER_BYTES) * charsPerByte;
    const limitMs = timeoutMs + chars * opener.charMs;
    return new Promise<Uint8Array>((resolve, reject) => {
      const cancelTimeout = clock.after(limitMs, () => this.#onTimeout(limitMs));
      const deadlineMs = clock.monotonicMs() + limitMs;
      this.#pending = { ...exchangeOptions, deadlineMs, resolve, reject, cancelTimeout };
      this.#heardBytes = 0;
      this.#unaskedBytes = 0;
      this.#unasked = NO_BYTES;
      this.#isTold = false;
      exchangeOptions.capture?.record('tx', bytes);
      this.#send(bytes);
    });
  }

  /** Sends a request that no device answers (serial broadcast, unit id 0). @throws GatewayError GW_DISCONNECTED. */
  broadcast(unitId: number, request: ModbusRequest): Uint8Array {
    assert(this.#pending === undefined, 'one exchange at a time');
    if (!this.#isOpen) throw this.#lostFault();
    const bytes = this.#framer.request(this.#codec.encode(unitId, request), request);
    this.#framer.giveUp();
    this.#send(bytes);
    return NO_DATA;
  }

  /** Ends the connection; `reason` is what `closed` and an exchange under way are told. Idempotent. */
  async close(reason?: GatewayError): Promise<void> {
    if (this.#isOpen) this.#closeReason = reason;
    this.#isOpen = false;
    await this.#link?.close();
  }

  #send(bytes: Buffer): void {
    const { clock, opener, frameLog } = this.#options;
    const nowMs = clock.monotonicMs();
    frameLog.add(nowMs, 'sent', bytes);
    // The driver takes the bytes at once; the line is busy until the last character is out.
    this.#lastActivityMs = nowMs + bytes.length * opener.charMs;
    this.#link?.write(bytes);
  }

  #onData(bytes: Buffer): void {
    const { clock, frameLog } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#isFlood(bytes.length, nowMs)) return;
    frameLog.add(nowMs, 'received', bytes);
    this.#pending?.capture?.record('rx', bytes);
    this.#lastActivityMs = Math.max(this.#lastActivityMs, nowMs);
    this.#heardBytes += bytes.length;
    if (this.#pending === undefined) this.#tellUnasked(bytes, nowMs - this.#lastByteMs);
    this.#lastByteMs = nowMs;
    // Also what comes too late shows that the connection lives.
    this.#silences = 0;
    let answer: Buffer | undefined;
    try {
      answer = this.#framer.receive(bytes);
    } catch (error) {
      this.#fail(error);
      this.#closeIfLost(error);
      return;
    }
    for (const sender of this.#framer.takeForeign()) this.#options.onUnasked(sender);
    if (answer === undefined) return;
    const pending = this.#take();
    if (pending === undefined) return;
    this.#answers += 1;
    const { surplus } = this.#framer;
    // Once the answer has been taken.
    if (surplus.length > 0) clock.after(0, () => this.#tellUnasked(surplus, Number.POSITIVE_INFINITY));
    try {
      pending.resolve(this.#codec.decode(answer));
    } catch (error) {
      pending.reject(error);
    }
  }

  /** Tells whose frames these are, of each once its beginning is there. */
  #tellUnasked(bytes: Buffer, silenceMs: number): void {
    const isAnother = silenceMs > FRAME_GAP_MS;
    if (isAnother) this.#isTold = false;
    let rest = isAnother ? bytes : Buffer.concat([this.#unasked, bytes]);
    for (;;) {
      const frame = this.#framer.unaskedFrame(rest);
      if (frame === undefined) break;
      if (!this.#isTold) this.#options.onUnasked(frame);
      const { bytes: frameBytes = rest.length } = frame;
      this.#isTold = frameBytes > rest.length;
      if (this.#isTold) break;
      rest = rest.subarray(frameBytes);
    }
    this.#unasked = rest.subarray(0, UNASKED_MAX_BYTES);
  }

  /** Counts what came without being asked for, and closes the connection when it is too much. */
  #isFlood(bytes: number, nowMs: number): boolean {
    if (!this.#isOpen) return true;
    if (this.#pending === undefined && nowMs - this.#unaskedSinceMs >= FLOOD_WINDOW_MS) {
      this.#unaskedSinceMs = nowMs;
      this.#unaskedBytes = 0;
    }
    this.#unaskedBytes += bytes;
    if (this.#unaskedBytes <= FLOOD_BYTES) return false;
    this.#isFlooded = true;
    const { target } = this.#options.opener;
    void this.close(disconnectedFault(`${target} sends without being asked; it is left alone for a while.`));
    return true;
  }

  #onTimeout(limitMs: number): void {
    if (this.#heardBytes === 0 && this.#pending?.isSearch !== true) {
      if (this.#silences === 0) this.#isAfterProbe = this.#pending?.isProbe === true;
      this.#silences += 1;
    }
    const error = timeoutFault(limitMs, this.#framer.giveUp());
    this.#fail(error);
    this.#closeIfLost(error);
  }

  #closeIfLost(error: unknown): void {
    if (!this.#framer.lost) return;
    void this.close(
      disconnectedFault(
        `${this.#options.opener.target}: the place in the stream was lost; it is connected anew.`,
        error,
      ),
    );
  }

  #onClosed(error: GatewayError | undefined): void {
    this.#isOpen = false;
    this.#closeReason ??= error;
    this.#fail(this.#lostFault());
    this.#settleClosed(this.#closeReason);
  }

  #lostFault(): GatewayError {
    const text = `${this.#options.opener.target}: the connection was lost.`;
    return this.#closeReason ?? disconnectedFault(text);
  }

  #fail(error: unknown): void {
    const pending = this.#take();
    pending?.onStray?.(this.#heardBytes);
    pending?.reject(error);
  }

  #take(): PendingExchange | undefined {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.cancelTimeout();
    return pending;
  }
}
