// The one door in: validate, stamp, route, append; only then is the source told.
//
// Invariants
// - A sender that waits is answered after the sync of the one commit that holds its messages, or with an error.
// - Polled values wait in a bounded list while the disk is slow, failing or full, in order; what the list cannot hold is
//   reported as lost. They leave in one append at a time, so order survives a retry.
// - While the outbox refuses (`reject`), `ready` does not resolve: adapters that can slow their source wait there. A store
//   that fails is no reason to wait: devices are read on, for whoever looks at them, and what is too much is counted as lost.

import type { Clock } from '../core/clock.ts';
import { isGatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { assertMessageSize, type Message } from '../core/message.ts';
import type { Loss, Outbox, OutboxEntry } from '../core/outbox.ts';
import type { ReadingBatch } from '../core/reading.ts';
import type { MessageShape } from '../core/shape.ts';
import type { Telemetry } from '../observe/events.ts';
import { Notifier, throwIfAborted } from '../platform/abort.ts';
import { Packer } from './packer.ts';
import type { Router } from './route.ts';
import type { Transform } from './transform.ts';

export interface IngressOptions {
  readonly outbox: Pick<Outbox, 'append' | 'reportLost'>;
  readonly router: Router;
  readonly transform: Transform;
  /** How messages are made of polled values, where device and adapter do not say; default: JSON, one a poll. */
  readonly messages?: MessageShape;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

export interface IngressStats {
  readonly waitingBatches: number;
  readonly paused: boolean;
  /** Bytes of polls that wait to be packed with others. */
  readonly packingBytes: number;
  /** Messages that were thrown away, because no route took them, since one was taken. */
  readonly unroutedInRow: number;
}

/** Polled entries in one append: a commit of its own under load, small enough not to hold up acknowledged ones. */
const POLL_APPEND_ENTRIES = 1024;
/** What waits in windows, rate limits and packs leaves at most so late. */
const LOOK_EVERY_MS = 250;
const RETRY_FIRST_MS = 50;
const RETRY_LAST_MS = 2000;

export class Ingress {
  readonly #options: IngressOptions;
  #router: Router;
  #waiting: OutboxEntry[] = [];
  #draining: Promise<void> | undefined;
  #paused = false;
  #unroutedInRow = 0;
  #refused = false;
  /** The store could not write what was last handed to it. */
  #failing = false;
  readonly #packer = new Packer();
  #messageShape: MessageShape;
  #cancelLook: (() => void) | undefined;
  #isStopped = false;
  readonly #resumed = new Notifier();
  readonly #stop = new AbortController();

  constructor(options: IngressOptions) {
    this.#options = options;
    this.#router = options.router;
    this.#messageShape = options.messages ?? {};
  }

  /** How messages are made of polled values, where device and adapter do not say. */
  setMessages(messages: MessageShape): void {
    this.#messageShape = messages;
  }

  setRouter(router: Router): void {
    this.#router = router;
  }

  /** Polled or streamed values: waits for nobody. */
  readings(batch: ReadingBatch): void {
    const reported = this.#options.transform.report(batch);
    if (reported !== undefined) this.#pack(reported, this.#options.transform.messages(batch.deviceId));
    this.watchWaiting();
  }

  #pack(batch: ReadingBatch, own: MessageShape): void {
    for (const message of this.#packer.add(batch, { ...this.#messageShape, ...own })) this.#take(message);
  }

  #take(message: Message): void {
    this.#options.telemetry.emit('messages_received', { count: 1, source: 'poll' });
    const entry = this.#entry(message);
    if (entry === undefined) return;
    if (this.#waiting.length >= LIMITS.ingress_waiting_batches) {
      const oldest = this.#waiting.shift();
      if (oldest !== undefined) this.#lose([oldest], this.#failing ? 'store_error' : 'busy');
    }
    this.#waiting.push(entry);
    this.#draining ??= this.#drain();
  }

  /** Readings whose sender waits. Resolves after the sync of what of them is due. @throws GatewayError as `messages`. */
  async storeReadings(batch: ReadingBatch, signal?: AbortSignal): Promise<void> {
    const reported = this.#options.transform.report(batch);
    this.watchWaiting();
    if (reported === undefined) return;
    // Who waits for an acknowledgement cannot wait for others: such readings are never packed.
    const messages = this.#packer.add(reported, {
      ...this.#messageShape,
      ...this.#options.transform.messages(batch.deviceId),
      pack: 'off',
    });
    try {
      await this.messages(messages, signal);
    } catch (error) {
      // Whoever waits hears of the refusal and sends again; nobody does that for what was packed before.
      for (const packed of messages.slice(0, -1)) this.#take(packed);
      throw error;
    }
  }

  /**
   * Messages whose sender waits. Resolves after their sync.
   * @throws GatewayError GW_MESSAGE_INVALID before anything is stored; GW_OUTBOX_FULL, GW_OUTBOX_BUSY, GW_STORE_WRITE.
   */
  async messages(messages: readonly Message[], signal?: AbortSignal): Promise<void> {
    messages.forEach(assertMessageSize);
    this.#options.telemetry.emit('messages_received', { count: messages.length, source: 'message' });
    const entries: OutboxEntry[] = [];
    messages.forEach((message) => {
      const entry = this.#entry(message);
      if (entry !== undefined) entries.push(entry);
    });
    if (entries.length === 0) return;
    await this.#options.outbox.append(entries, signal === undefined ? {} : { signal });
  }

  /** Resolves while the outbox takes polled values. @throws GatewayError GW_ABORTED. */
  async ready(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    while (this.#paused) await this.#resumed.wait(signal);
  }

  stats(): IngressStats {
    return {
      waitingBatches: this.#waiting.length,
      paused: this.#paused,
      packingBytes: this.#packer.waitingBytes,
      unroutedInRow: this.#unroutedInRow,
    };
  }

  /** Stores what waits, in windows and packs too, until the signal aborts; what is left then is counted as lost. */
  async stop(signal: AbortSignal): Promise<void> {
    this.#isStopped = true;
    this.#cancelLook?.();
    this.#takeDue(Number.POSITIVE_INFINITY);
    const giveUp = (): void => this.#stop.abort(signal.reason);
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    while (this.#draining !== undefined) await this.#draining;
    signal.removeEventListener('abort', giveUp);
    this.#stop.abort();
  }

  /** Looks after what waits in windows, rate limits and packs while there is any; also after a device has changed. */
  watchWaiting(): void {
    const { transform, clock } = this.#options;
    if (this.#cancelLook !== undefined || this.#isStopped || !(transform.waits || this.#packer.waits)) return;
    this.#cancelLook = clock.after(LOOK_EVERY_MS, () => {
      this.#cancelLook = undefined;
      this.#takeDue(clock.monotonicMs());
      this.watchWaiting();
    });
  }

  #takeDue(nowMs: number): void {
    for (const { batch, messages } of this.#options.transform.due(nowMs)) this.#pack(batch, messages);
    for (const message of this.#packer.due(nowMs)) this.#take(message);
  }

  #lose(entries: readonly OutboxEntry[], reason: Loss['reason']): void {
    this.#options.outbox.reportLost(entries.map(({ message }) => ({ deviceId: message.deviceId, count: 1, reason })));
  }

  #entry(message: Message): OutboxEntry | undefined {
    const destinations = this.#router.route(message);
    if (destinations !== undefined) {
      this.#unroutedInRow = 0;
      const { queues, stream } = destinations;
      return stream === undefined ? { message, queues } : { message, queues, stream };
    }
    this.#unroutedInRow += 1;
    this.#options.telemetry.emit('messages_unrouted', { count: 1, key: message.deviceId, device: message.deviceId });
    return undefined;
  }

  async #drain(): Promise<void> {
    // Everything that was handed in during this tick leaves in one append.
    await Promise.resolve();
    let retryMs = RETRY_FIRST_MS;
    while (this.#waiting.length > 0) {
      const entries = this.#waiting.splice(0, POLL_APPEND_ENTRIES);
      try {
        await this.#options.outbox.append(entries, { class: 'poll', signal: this.#stop.signal });
        retryMs = RETRY_FIRST_MS;
        this.#refused = false;
        this.#failing = false;
      } catch (error) {
        if (!(await this.#keepOrLose(entries, error, retryMs))) continue;
        retryMs = Math.min(retryMs * 2, RETRY_LAST_MS);
      }
      this.#setPaused();
    }
    this.#draining = undefined;
  }

  /** Puts refused entries back in front and waits before the next try; false when they are lost. */
  async #keepOrLose(entries: OutboxEntry[], error: unknown, retryMs: number): Promise<boolean> {
    // With `drop_newest` the outbox has counted and reported them itself.
    const policy = isGatewayError(error, 'GW_OUTBOX_FULL') ? error.details['policy'] : undefined;
    if (policy === 'drop_newest') return false;
    this.#refused = policy === 'reject' || isGatewayError(error, 'GW_OUTBOX_BUSY');
    this.#failing = isGatewayError(error, 'GW_STORE_WRITE');
    if (!(this.#refused || this.#failing) || this.#stop.signal.aborted) {
      this.#lose(entries, 'store_error');
      return false;
    }
    this.#waiting.unshift(...entries);
    this.#setPaused();
    try {
      await this.#options.clock.sleep(retryMs, this.#stop.signal);
    } catch {
      // Stopping: the next append fails at once and the loop counts what is left.
    }
    return true;
  }

  /** Pauses while the outbox refuses, or is slow and the list half full; resumes when it is a quarter full. */
  #setPaused(): void {
    const high = LIMITS.ingress_waiting_batches / 2;
    const low = LIMITS.ingress_waiting_batches / 4;
    const paused = this.#refused || (!this.#failing && this.#waiting.length > (this.#paused ? low : high));
    if (paused === this.#paused) return;
    this.#paused = paused;
    if (paused) this.#options.telemetry.emit('ingress_paused', { waitingBatches: this.#waiting.length });
    else this.#options.telemetry.emit('ingress_resumed', { waitingBatches: this.#waiting.length });
    if (!paused) this.#resumed.notify();
  }
}
