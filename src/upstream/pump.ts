// Moves messages from one queue to one endpoint for as long as a connection lasts.
//
// Invariants:
// - Every message taken is settled exactly once (answers.ts). Nothing is kept beyond `run`.
// - No more than LIMITS.endpoint_in_flight_bytes is unanswered beside one message; the window is kept by lanes.ts.
// - After a `retry` that concerns everything (load, time) nothing new is taken until everything in flight is answered and the wait is over, so that the queue
//   goes on from the lowest offset.

import type { Clock } from '../core/clock.ts';
import { counted } from '../core/counted.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { LIMITS } from '../core/limits.ts';
import { type Message, messageBytes, type StoredMessage } from '../core/message.ts';
import type { Lane, OutboxQueue, Settlement } from '../core/outbox.ts';
import type { Telemetry } from '../observe/events.ts';
import { Notifier } from '../platform/abort.ts';
import type { Random } from '../platform/random.ts';
import { Answers, type AnswerStats } from './answers.ts';
import { Backoff } from './backoff.ts';
import type { Budget } from './budget.ts';
import type { Session } from './connection.ts';
import type { DrainRate } from './drain-rate.ts';
import { HeldDevices, type Retry } from './held-devices.ts';
import { sendAlone } from './isolation.ts';
import { Lanes, type Taken } from './lanes.ts';
import { LiveLag, OUTAGE_MS } from './live-lag.ts';
import type { Meter } from './meter.ts';
import type { PoisonTracker } from './poison.ts';
import type { Prepare } from './prepare.ts';

const RETRY_INITIAL_MS = 250;
const RETRY_CEILING_MS = 10_000;
const THROTTLED_INITIAL_MS = 1000;
const THROTTLED_CEILING_MS = 300_000;

export interface PumpOptions {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly queue: OutboxQueue;
  readonly order: 'live_first' | 'strict';
  readonly prepare: Prepare;
  readonly poison: PoisonTracker;
  readonly meter: Meter;
  readonly budget?: Budget | undefined;
  readonly drainRate?: DrainRate | undefined;
  /** What goes although the budget is spent, and past the rate of the history. Default: nothing. */
  readonly isUrgent?: ((message: Message) => boolean) | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

export interface PumpStats extends AnswerStats {
  readonly inFlight: number;
  readonly inFlightBytes: number;
  /** Why it waits although it is connected, as a whole or with the messages of some devices. */
  readonly pausedReason: string | undefined;
}

export class Pump {
  readonly #options: PumpOptions;
  readonly #lanes: Lanes;
  readonly #answers: Answers;
  readonly #lag = new LiveLag();
  readonly #wake = new Notifier();
  readonly #transient: Backoff;
  readonly #throttled: Backoff;
  #woken = false;
  #draining = false;
  #inFlightBytes = 0;
  /** Of the present session. */
  #held: HeldDevices | undefined;
  /** Devices let go, as far as the lanes know. */
  #releases = 0;
  /** As far as the lanes know. */
  #isQuiet = false;
  #failure: Error | undefined;
  #pausedReason: string | undefined;

  constructor(options: PumpOptions) {
    this.#options = options;
    const { random } = options;
    this.#lanes = new Lanes({ ...options, wake: () => this.#notify() });
    this.#answers = new Answers({
      ...options,
      delivered: () => this.#delivered(),
      reopen: () => this.#lanes.reopen(),
    });
    this.#transient = new Backoff({ initialMs: RETRY_INITIAL_MS, ceilingMs: RETRY_CEILING_MS, random });
    this.#throttled = new Backoff({ initialMs: THROTTLED_INITIAL_MS, ceilingMs: THROTTLED_CEILING_MS, random });
  }

  /**
   * Pumps until the session ends and everything taken is settled.
   * @throws GatewayError GW_STORE_CLOSED, GW_STORE_WRITE of the queue.
   */
  async run(session: Session): Promise<void> {
    const { poison, queue } = this.#options;
    const { signal } = session;
    const held = new HeldDevices({ ...this.#options, signal, wake: () => this.#notify() });
    this.#held = held;
    this.#releases = held.releases;
    this.#answers.begin(session, held);
    this.#failure = undefined;
    if ((session.outageMs ?? 0) > OUTAGE_MS || (queue.stats().oldestAgeMs ?? 0) > OUTAGE_MS) this.#split();
    this.#lanes.reopen();
    const onAbort = (): void => this.#notify();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted && this.#failure === undefined) {
        if (poison.suspecting && !this.#draining && !this.#isQuiet && this.#answers.retry === undefined) {
          await this.#sendAlone(session);
        } else if (this.#answers.retry !== undefined && this.#lanes.inFlight === 0)
          await this.#pause(this.#answers.retry, signal);
        else if (!(await this.#fill(session, held))) await this.#idle(signal);
      }
    } catch (error) {
      this.#failure ??= asError(error);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    while (this.#lanes.inFlight > 0) await this.#sleepUntilWoken();
    const unanswered = await this.#answers.end();
    this.#held = undefined;
    if (!this.#draining) poison.dropped(unanswered);
    if (this.#failure !== undefined && !signal.aborted) throw this.#failure;
  }

  /** Takes nothing more. Resolves when nothing is in flight, or the signal aborts. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#draining = true;
    while (this.#lanes.inFlight > 0 && !signal.aborted) await this.#wake.wait(signal).catch(() => {});
  }

  stats(): PumpStats {
    return {
      inFlight: this.#lanes.inFlight,
      inFlightBytes: this.#inFlightBytes,
      ...this.#answers.stats(),
      pausedReason: this.#pausedReason ?? this.#quietReason() ?? this.#held?.reason,
    };
  }

  /** Looks again whether there is something to send: its budget is another one. */
  wake(): void {
    this.#notify();
  }

  #quietReason(): string | undefined {
    const { budget, queue } = this.#options;
    if (budget?.isSpent !== true) return undefined;
    const { monthlyBytes, renewsOn } = budget.status();
    const until = renewsOn === undefined ? 'the next month, once the clock is known' : renewsOn;
    const waiting = counted(queue.stats().messages, 'message waits', 'messages wait');
    return `The ${monthlyBytes} bytes of this month are used up: only urgent messages and commands pass until ${until}; ${waiting}.`;
  }

  /** Takes and sends one batch. False when there is nothing to do before something changes. */
  async #fill(session: Session, held: HeldDevices): Promise<boolean> {
    if (this.#draining || this.#answers.retry !== undefined) return false;
    if (held.releases !== this.#releases) {
      this.#releases = held.releases;
      this.#lanes.reopen();
    }
    await this.#answers.giveBack(held.trials());
    if (held.room === 0) await this.#answers.evict();
    if (this.#inFlightBytes >= LIMITS.endpoint_in_flight_bytes) return false;
    const taken = await this.#take(session, held);
    if (taken === undefined) return false;
    if (taken.lane === 'live') this.#lag.taken(taken.messages.length);
    const givenBack: Settlement[] = [];
    const wanted = taken.isOnlyUrgent ? this.#urgentOf(taken.messages, givenBack) : taken.messages;
    const prepared = await this.#prepare(wanted);
    // Meanwhile the endpoint asked for a pause, and what was taken may be the very message that it refused; or a device
    // was let go, and what it had waiting comes before what was taken.
    const isStale = this.#answers.retry !== undefined || this.#draining || held.releases !== this.#releases;
    const batch: StoredMessage[] = [];
    const outgoing: StoredMessage[] = [];
    for (let index = 0; index < wanted.length; index += 1) {
      const stored = wanted[index] as StoredMessage;
      if (!isStale && held.admits(stored)) {
        batch.push(stored);
        outgoing.push(prepared[index] as StoredMessage);
      } else if (isStale || taken.isLook) givenBack.push({ offset: stored.offset, outcome: 'retry' });
      else held.keep(stored);
    }
    if (batch.length > 0) void this.#send(taken.lane, batch, outgoing, session);
    if (givenBack.length > 0) await this.#options.queue.settle(givenBack);
    return this.#answers.retry === undefined;
  }

  /** The next batch. Of one that is only looked at, what is not sent goes back; of one with `isOnlyUrgent` all else does. */
  async #take(
    { signal }: Session,
    held: HeldDevices,
  ): Promise<(Taken & { readonly isLook: boolean; readonly isOnlyUrgent: boolean }) | undefined> {
    const { budget, endpoint, isUrgent } = this.#options;
    const isQuiet = this.#followBudget();
    if (isQuiet && isUrgent === undefined) return undefined;
    // Nothing more may be held and nothing is proven: a neighbour that passes behind it would prove it.
    const isLook = held.room === 0 || isQuiet;
    const { capabilities } = endpoint;
    this.#watchLag(isLook);
    const options = {
      capabilities,
      limit: {
        maxMessages: isLook ? capabilities.batchMessages : held.room,
        maxBytes: Math.min(
          LIMITS.endpoint_in_flight_bytes - this.#inFlightBytes,
          isLook ? Number.POSITIVE_INFINITY : (budget?.leftBytes ?? Number.POSITIVE_INFINITY),
        ),
      },
      signal,
    };
    const taken = await this.#lanes.take({ ...options, isLooking: isLook });
    if (taken !== undefined) return { ...taken, isLook, isOnlyUrgent: isQuiet };
    if (isUrgent === undefined) return undefined;
    const behind = await this.#lanes.takePastRate(options);
    return behind === undefined ? undefined : { ...behind, isLook: true, isOnlyUrgent: true };
  }

  #urgentOf(messages: readonly StoredMessage[], others: Settlement[]): readonly StoredMessage[] {
    const { isUrgent } = this.#options;
    return messages.filter(({ message, offset }) => {
      if (isUrgent?.(message) === true) return true;
      others.push({ offset, outcome: 'retry' });
      return false;
    });
  }

  /** Whether only urgent messages may pass. What waited meanwhile is history when a month begins. */
  #followBudget(): boolean {
    const isSpent = this.#options.budget?.isSpent === true;
    if (isSpent !== this.#isQuiet) {
      this.#isQuiet = isSpent;
      if (isSpent) this.#lanes.reopen();
      else this.#split();
    }
    return isSpent;
  }

  /** What waits becomes history once the link leaves it waiting for too long, whether or not it was lost. */
  #watchLag(isLooking: boolean): void {
    const { clock, order, queue } = this.#options;
    // What a look gave back waits for something else than the link.
    if (order === 'strict' || isLooking) this.#lag.reset();
    else {
      // After a split what is in flight is still the live lane's here, and the history's there.
      const waiting = Math.max(0, queue.stats().live.messages - this.#lanes.liveInFlight);
      if (this.#lag.waiting(waiting, clock.monotonicMs())) this.#split();
    }
  }

  #split(): void {
    this.#options.queue.split();
    this.#lag.reset();
    this.#lanes.reopen();
  }

  /** Messages as they leave; where that fails they go back to their place. */
  async #prepare(messages: readonly StoredMessage[]): Promise<readonly StoredMessage[]> {
    try {
      return await this.#options.prepare(messages);
    } catch (error) {
      await this.#answers.giveBack(messages.map(({ offset }) => ({ offset, outcome: 'retry' })));
      throw error;
    }
  }

  async #send(
    lane: Lane,
    batch: readonly StoredMessage[],
    outgoing: readonly StoredMessage[],
    session: Session,
  ): Promise<void> {
    let bytes = 0;
    for (const { message } of outgoing) bytes += messageBytes(message);
    this.#options.meter.add(lane, bytes);
    if (lane === 'history') this.#options.drainRate?.spend(bytes);
    this.#lag.sent(this.#lanes.inFlight === 0, this.#options.clock.monotonicMs());
    this.#lanes.sent(lane, batch.length);
    this.#inFlightBytes += bytes;
    try {
      const results = await this.#options.endpoint.send(outgoing, session.signal);
      await this.#answers.settle(batch, results);
    } catch (error) {
      // `send` never rejects, so this is the queue: the store is closed or being reopened.
      this.#failure ??= asError(error);
    } finally {
      this.#lanes.answered(lane, batch.length);
      this.#inFlightBytes -= bytes;
      this.#notify();
    }
  }

  async #sendAlone(session: Session): Promise<void> {
    const { telemetry, name } = this.#options;
    telemetry.emit('poison_suspected', { key: name, endpoint: name });
    await sendAlone(
      {
        ...this.#options,
        stopping: () => this.#draining,
        giveBack: ({ offset }) => this.#options.queue.settle([{ offset, outcome: 'retry' }]),
        settle: (stored, result) => this.#answers.settleAlone(stored, result),
      },
      session,
    );
  }

  #delivered(): void {
    if (this.#lag.answered(this.#options.clock.monotonicMs())) this.#split();
    if (this.#answers.retry !== undefined) return;
    this.#transient.reset();
    this.#throttled.reset();
  }

  /** Waits as long as the peer's answer asks for; then takes again from the lowest offset. */
  async #pause(retry: Retry, signal: AbortSignal): Promise<void> {
    const { clock, name, telemetry } = this.#options;
    const waitMs = (retry.kind === 'throttled' ? this.#throttled : this.#transient).next(retry.retryAfterMs);
    this.#pausedReason = retry.reason;
    telemetry.emit('delivery_retried', { key: name, endpoint: name, kind: retry.kind, reason: retry.reason, waitMs });
    try {
      await clock.sleep(waitMs, signal);
      if (waitMs > OUTAGE_MS) this.#split();
    } finally {
      this.#pausedReason = undefined;
      this.#answers.resume();
      this.#lanes.reopen();
    }
  }

  async #idle(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await this.#sleepUntilWoken();
  }

  #notify(): void {
    this.#woken = true;
    this.#wake.notify();
  }

  async #sleepUntilWoken(): Promise<void> {
    // A wake-up between the look and the wait must not be lost.
    if (!this.#woken) await this.#wake.wait();
    this.#woken = false;
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
