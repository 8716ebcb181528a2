// Moves messages from one queue to one endpoint for as long as a connection lasts.
//
// Invariants:
// - Every message taken is settled exactly once: accepted, retry, or rejected. Nothing is kept beyond `run`.
// - A refusal that concerns one message or its device holds back that device alone (held-devices.ts).
// - No more than LIMITS.endpoint_in_flight_bytes is unanswered beside one message; the window is kept by lanes.ts.
// - After a `retry` that concerns everything (load, time) nothing new is taken until everything in flight is answered and the wait is over, so that the queue
//   goes on from the lowest offset.

import type { Clock } from '../core/clock.ts';
import type { DeliveryResult } from '../core/delivery.ts';
import type { DeviceId } from '../core/device.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { LIMITS } from '../core/limits.ts';
import { messageBytes, PROPERTY_FIELDPOST_EVENT, type StoredMessage } from '../core/message.ts';
import type { Lane, OutboxQueue, Settlement } from '../core/outbox.ts';
import type { Telemetry } from '../observe/events.ts';
import { Notifier } from '../platform/abort.ts';
import type { Random } from '../platform/random.ts';
import { Backoff } from './backoff.ts';
import type { Session } from './connection.ts';
import { concernsDevice, HeldDevices, type Retry } from './held-devices.ts';
import { sendAlone } from './isolation.ts';
import { Lanes } from './lanes.ts';
import { LiveLag, OUTAGE_MS } from './live-lag.ts';
import type { PoisonTracker } from './poison.ts';
import { restamp } from '../pipeline/restamp.ts';

const RETRY_INITIAL_MS = 250;
const RETRY_CEILING_MS = 10_000;
const THROTTLED_INITIAL_MS = 1000;
const THROTTLED_CEILING_MS = 300_000;

export interface PumpOptions {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly queue: OutboxQueue;
  readonly order: 'live_first' | 'strict';
  readonly clockOffset: (bootId: string) => number | undefined;
  readonly poison: PoisonTracker;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

export interface PumpStats {
  readonly inFlight: number;
  readonly inFlightBytes: number;
  readonly deliveredTotal: number;
  readonly retriedTotal: number;
  readonly rejectedTotal: number;
  /** Messages that went to the quarantine since the last delivery, and why the newest did. */
  readonly rejectedInRow: number;
  readonly rejectedReason: string | undefined;
  /** Monotonic ms of the last delivery. */
  readonly lastDeliveredMs: number | undefined;
  /** Why it waits although it is connected, as a whole or with the messages of some devices. */
  readonly pausedReason: string | undefined;
}

interface AcceptedRun {
  readonly offset: number;
  readonly outcome: 'accepted';
  count: number;
}

type Rejected = Extract<Settlement, { outcome: 'rejected' }>;

export class Pump {
  readonly #options: PumpOptions;
  readonly #lanes: Lanes;
  readonly #lag = new LiveLag();
  readonly #wake = new Notifier();
  readonly #transient: Backoff;
  readonly #throttled: Backoff;
  #woken = false;
  #draining = false;
  #inFlightBytes = 0;
  #retry: Retry | undefined;
  /** Of the present session. */
  #held: HeldDevices | undefined;
  /** Devices let go, as far as the lanes know. */
  #releases = 0;
  #unanswered: number[] = [];
  #failure: Error | undefined;
  #deliveredTotal = 0;
  #retriedTotal = 0;
  #rejectedTotal = 0;
  #rejectedInRow = 0;
  #rejectedReason: string | undefined;
  #lastDeliveredMs: number | undefined;
  #pausedReason: string | undefined;

  constructor(options: PumpOptions) {
    this.#options = options;
    const { random } = options;
    this.#lanes = new Lanes({ ...options, wake: () => this.#notify() });
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
    this.#retry = undefined;
    this.#unanswered = [];
    this.#failure = undefined;
    if ((session.outageMs ?? 0) > OUTAGE_MS || (queue.stats().oldestAgeMs ?? 0) > OUTAGE_MS) this.#split();
    this.#lanes.reopen();
    const onAbort = (): void => this.#notify();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted && this.#failure === undefined) {
        if (poison.suspecting && !this.#draining && this.#retry === undefined) await this.#sendAlone(session);
        else if (this.#retry !== undefined && this.#lanes.inFlight === 0) await this.#pause(this.#retry, signal);
        else if (!(await this.#fill(session, held))) await this.#idle(signal);
      }
    } catch (error) {
      this.#failure ??= asError(error);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    while (this.#lanes.inFlight > 0) await this.#sleepUntilWoken();
    await queue.settle(held.clear());
    this.#held = undefined;
    if (!this.#draining) poison.dropped(this.#unanswered);
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
      deliveredTotal: this.#deliveredTotal,
      retriedTotal: this.#retriedTotal,
      rejectedTotal: this.#rejectedTotal,
      rejectedInRow: this.#rejectedInRow,
      rejectedReason: this.#rejectedReason,
      lastDeliveredMs: this.#lastDeliveredMs,
      pausedReason: this.#pausedReason ?? this.#held?.reason,
    };
  }

  /** Takes and sends one batch. False when there is nothing to do before something changes. */
  async #fill(session: Session, held: HeldDevices): Promise<boolean> {
    if (this.#draining || this.#retry !== undefined) return false;
    if (held.releases !== this.#releases) {
      this.#releases = held.releases;
      this.#lanes.reopen();
    }
    await this.#giveBack(held.trials());
    if (held.room === 0) await this.#evict(held);
    if (this.#inFlightBytes >= LIMITS.endpoint_in_flight_bytes) return false;
    // Nothing more may be held and nothing is proven: a neighbour that passes behind it would prove it.
    const isLooking = held.room === 0;
    const { capabilities } = this.#options.endpoint;
    this.#watchLag(isLooking);
    const taken = await this.#lanes.take({
      capabilities,
      limit: {
        maxMessages: isLooking ? capabilities.batchMessages : held.room,
        maxBytes: LIMITS.endpoint_in_flight_bytes - this.#inFlightBytes,
      },
      isLooking,
      signal: session.signal,
    });
    if (taken === undefined) return false;
    if (taken.lane === 'live') this.#lag.taken(taken.messages.length);
    // Meanwhile the endpoint asked for a pause, and what was taken may be the very message that it refused; or a device
    // was let go, and what it had waiting comes before what was taken.
    const isStale = this.#retry !== undefined || this.#draining || held.releases !== this.#releases;
    const batch: StoredMessage[] = [];
    const givenBack: Settlement[] = [];
    const { messages } = taken;
    for (let index = 0; index < messages.length; index += 1) {
      const stored = messages[index] as StoredMessage;
      if (!isStale && held.admits(stored)) batch.push(stored);
      else if (isStale || isLooking) givenBack.push({ offset: stored.offset, outcome: 'retry' });
      else held.keep(stored);
    }
    if (batch.length > 0) void this.#send(taken.lane, batch, session);
    if (givenBack.length > 0) await this.#options.queue.settle(givenBack);
    return this.#retry === undefined;
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

  async #send(lane: Lane, batch: readonly StoredMessage[], session: Session): Promise<void> {
    const { clockOffset, endpoint } = this.#options;
    let bytes = 0;
    for (let index = 0; index < batch.length; index += 1)
      bytes += messageBytes((batch[index] as StoredMessage).message);
    this.#lag.sent(this.#lanes.inFlight === 0, this.#options.clock.monotonicMs());
    this.#lanes.sent(lane, batch.length);
    this.#inFlightBytes += bytes;
    try {
      const { bodiesOnly } = endpoint.capabilities;
      const outgoing = batch.map((stored) => restamp(stored, clockOffset, bodiesOnly));
      const results = await endpoint.send(outgoing, session.signal);
      await this.#settle(batch, results, session);
    } catch (error) {
      // `send` never rejects, so this is the queue: the store is closed or being reopened.
      this.#failure ??= asError(error);
    } finally {
      this.#lanes.answered(lane, batch.length);
      this.#inFlightBytes -= bytes;
      this.#notify();
    }
  }

  async #settle(batch: readonly StoredMessage[], results: readonly DeliveryResult[], session: Session): Promise<void> {
    const settlements: Settlement[] = [];
    /** Neighbours that are accepted are settled as one. */
    let run: AcceptedRun | undefined;
    let accepted = 0;
    for (let index = 0; index < batch.length; index += 1) {
      const stored = batch[index] as StoredMessage;
      const result = results[index] ?? NO_ANSWER;
      if (result.status === 'accepted') {
        accepted += 1;
        if (run === undefined || run.offset + run.count !== stored.offset) {
          run = { offset: stored.offset, outcome: 'accepted', count: 0 };
          settlements.push(run);
        }
        run.count += 1;
        this.#passed(stored, settlements);
        continue;
      }
      if (result.status === 'retry' && session.signal.aborted) this.#unanswered.push(stored.offset);
      this.#judge(stored, result, session.signal.aborted, settlements);
    }
    if (accepted > 0) this.#delivered(accepted, session);
    const rejected = settlements.filter(({ outcome }) => outcome === 'rejected');
    await this.#giveBack(
      rejected.length === 0 ? settlements : settlements.filter(({ outcome }) => outcome !== 'rejected'),
    );
    if (rejected.length > 0) await this.#reject(rejected);
  }

  /** Quarantining writes to the store; when that fails, the messages go back to their place and are refused again. */
  async #reject(rejected: readonly Settlement[]): Promise<void> {
    const { queue } = this.#options;
    try {
      await queue.settle(rejected);
    } catch (error) {
      await queue.settle(rejected.map(({ offset }) => ({ offset, outcome: 'retry' })));
      throw error;
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
        settle: async (stored, result) => {
          if (result.status === 'accepted') this.#delivered(1, session);
          const settlements: Settlement[] = [];
          this.#judge(stored, result, session.signal.aborted, settlements);
          for (const settlement of settlements) {
            if (settlement.outcome === 'rejected') await this.#reject([settlement]);
            else await this.#options.queue.settle([settlement]);
          }
        },
      },
      session,
    );
  }

  /** Adds what an answer means for the queue to the list: nothing where the message is held back. */
  #judge(stored: StoredMessage, result: DeliveryResult, sessionEnded: boolean, into: Settlement[]): void {
    const { poison } = this.#options;
    const { offset } = stored;
    if (result.status === 'accepted') {
      into.push({ offset, outcome: 'accepted' });
      this.#passed(stored, into);
      return;
    }
    if (result.status === 'rejected') {
      const released = this.#heldDevices().settled(stored, false);
      into.push(this.#rejected(stored, stored.message.deviceId, result.reason), ...released);
      return;
    }
    this.#retriedTotal += 1;
    if (sessionEnded) into.push({ offset, outcome: 'retry' });
    else if (!concernsDevice(result.kind)) {
      this.#retry ??= result;
      into.push({ offset, outcome: 'retry' });
    } else if (result.blameless !== true && poison.refused(offset, result.kind)) {
      this.#heldDevices().quarantined(stored, result);
      into.push(this.#rejected(stored, stored.message.deviceId, result.reason));
    } else this.#heldDevices().refused(stored, result);
  }

  #passed(stored: StoredMessage, into: Settlement[]): void {
    // The gateway's own news of the quarantine says nothing of the messages that go there.
    if (this.#rejectedInRow > 0 && stored.message.properties[PROPERTY_FIELDPOST_EVENT] === undefined) {
      this.#rejectedInRow = 0;
    }
    this.#options.poison.settled(stored.offset, true);
    const released = this.#heldDevices().settled(stored, true);
    if (released.length > 0) into.push(...released);
  }

  #rejected(
    { offset, messageId }: Pick<StoredMessage, 'offset' | 'messageId'>,
    device: DeviceId,
    reason: string,
  ): Rejected {
    const { name, poison, telemetry } = this.#options;
    poison.settled(offset, false);
    this.#rejectedTotal += 1;
    this.#rejectedInRow += 1;
    this.#rejectedReason = reason;
    telemetry.emit('message_rejected', { key: name, endpoint: name, device, messageId, reason });
    return { offset, outcome: 'rejected', reason };
  }

  /** Makes room among what is held back, as far as anything is proven against a device. */
  async #evict(held: HeldDevices): Promise<void> {
    const evicted = held.evict();
    if (evicted.length === 0) return;
    await this.#reject(evicted.map((message) => this.#rejected(message, message.deviceId, message.reason)));
  }

  async #giveBack(settlements: readonly Settlement[]): Promise<void> {
    if (settlements.length === 0) return;
    await this.#options.queue.settle(settlements);
    if (settlements.every(({ outcome }) => outcome !== 'retry')) return;
    this.#lanes.reopen();
  }

  #heldDevices(): HeldDevices {
    // Whatever is sent or judged belongs to a session.
    if (this.#held === undefined) throw new Error('The pump has no session.');
    return this.#held;
  }

  #delivered(count: number, session: Session): void {
    this.#deliveredTotal += count;
    const nowMs = this.#options.clock.monotonicMs();
    this.#lastDeliveredMs = nowMs;
    if (this.#lag.answered(nowMs)) this.#split();
    this.#options.telemetry.emit('messages_delivered', { endpoint: this.#options.name, count });
    session.progress();
    if (this.#retry === undefined) {
      this.#transient.reset();
      this.#throttled.reset();
    }
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
      this.#retry = undefined;
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

const NO_ANSWER: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The endpoint gave no answer.',
});
