// What an endpoint's answers mean: for the queue, for the device of a message, and for the pump as a whole.
//
// Invariants:
// - Every message answered is settled exactly once: accepted, retry, rejected, or held back with its device.
// - A refusal that concerns one message or its device holds back that device alone (held-devices.ts).

import type { Clock } from '../core/clock.ts';
import type { DeliveryResult } from '../core/delivery.ts';
import type { DeviceId } from '../core/device.ts';
import { PROPERTY_FIELDPOST_EVENT, type StoredMessage } from '../core/message.ts';
import type { OutboxQueue, Settlement } from '../core/outbox.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Session } from './connection.ts';
import { concernsDevice, type HeldDevices, type Retry } from './held-devices.ts';
import type { PoisonTracker } from './poison.ts';

export interface AnswersOptions {
  /** Of the endpoint. */
  readonly name: string;
  readonly queue: OutboxQueue;
  readonly poison: PoisonTracker;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** So many messages were accepted. */
  readonly delivered: (count: number) => void;
  /** Messages went back to the queue, which may give something again. */
  readonly reopen: () => void;
}

export interface AnswerStats {
  readonly deliveredTotal: number;
  readonly retriedTotal: number;
  readonly rejectedTotal: number;
  /** Messages that went to the quarantine since the last delivery, and why the newest did. */
  readonly rejectedInRow: number;
  readonly rejectedReason: string | undefined;
  /** Monotonic ms of the last delivery. */
  readonly lastDeliveredMs: number | undefined;
}

interface AcceptedRun {
  readonly offset: number;
  readonly outcome: 'accepted';
  count: number;
}

type Rejected = Extract<Settlement, { outcome: 'rejected' }>;

const NO_ANSWER: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The endpoint gave no answer.',
});

export class Answers {
  readonly #options: AnswersOptions;
  /** Of the present session. */
  #session: Session | undefined;
  #held: HeldDevices | undefined;
  #unanswered: number[] = [];
  #retry: Retry | undefined;
  #deliveredTotal = 0;
  #retriedTotal = 0;
  #rejectedTotal = 0;
  #rejectedInRow = 0;
  #rejectedReason: string | undefined;
  #lastDeliveredMs: number | undefined;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  begin(session: Session, held: HeldDevices): void {
    this.#session = session;
    this.#held = held;
    this.#retry = undefined;
    this.#unanswered = [];
  }

  /** Gives back what is held. Returns the messages that the end of the session left without an answer. */
  async end(): Promise<readonly number[]> {
    await this.#options.queue.settle(this.#held?.clear() ?? []);
    this.#held = undefined;
    return this.#unanswered;
  }

  /** An answer that concerns everything asks for a pause; the first one, until `resume`. */
  get retry(): Retry | undefined {
    return this.#retry;
  }

  resume(): void {
    this.#retry = undefined;
  }

  stats(): AnswerStats {
    return {
      deliveredTotal: this.#deliveredTotal,
      retriedTotal: this.#retriedTotal,
      rejectedTotal: this.#rejectedTotal,
      rejectedInRow: this.#rejectedInRow,
      rejectedReason: this.#rejectedReason,
      lastDeliveredMs: this.#lastDeliveredMs,
    };
  }

  /** @throws GatewayError of the queue. */
  async settle(batch: readonly StoredMessage[], results: readonly DeliveryResult[]): Promise<void> {
    const isOver = this.#session?.signal.aborted === true;
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
      if (result.status === 'retry' && isOver) this.#unanswered.push(stored.offset);
      this.#judge(stored, result, isOver, settlements);
    }
    if (accepted > 0) this.#delivered(accepted);
    const rejected = settlements.filter(({ outcome }) => outcome === 'rejected');
    await this.giveBack(
      rejected.length === 0 ? settlements : settlements.filter(({ outcome }) => outcome !== 'rejected'),
    );
    if (rejected.length > 0) await this.#reject(rejected);
  }

  /** Settles a message that was sent alone. @throws GatewayError of the queue. */
  async settleAlone(stored: StoredMessage, result: DeliveryResult): Promise<void> {
    const settlements: Settlement[] = [];
    if (result.status === 'accepted') {
      this.#delivered(1);
      settlements.push({ offset: stored.offset, outcome: 'accepted' });
      this.#passed(stored, settlements);
    } else this.#judge(stored, result, this.#session?.signal.aborted === true, settlements);
    for (const settlement of settlements) {
      if (settlement.outcome === 'rejected') await this.#reject([settlement]);
      else await this.#options.queue.settle([settlement]);
    }
  }

  /** Makes room among what is held back, as far as anything is proven against a device. */
  async evict(): Promise<void> {
    const evicted = this.#heldDevices().evict();
    if (evicted.length === 0) return;
    await this.#reject(evicted.map((message) => this.#rejected(message, message.deviceId, message.reason)));
  }

  /** Settles, and has the lanes look again where something went back. */
  async giveBack(settlements: readonly Settlement[]): Promise<void> {
    if (settlements.length === 0) return;
    await this.#options.queue.settle(settlements);
    if (settlements.some(({ outcome }) => outcome === 'retry')) this.#options.reopen();
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

  /** Adds what a refusal means for the queue to the list: nothing where the message is held back. */
  #judge(
    stored: StoredMessage,
    result: Exclude<DeliveryResult, { status: 'accepted' }>,
    isOver: boolean,
    into: Settlement[],
  ): void {
    const { poison } = this.#options;
    const { offset } = stored;
    if (result.status === 'rejected') {
      const released = this.#heldDevices().settled(stored, false);
      into.push(this.#rejected(stored, stored.message.deviceId, result.reason), ...released);
      return;
    }
    this.#retriedTotal += 1;
    if (isOver) into.push({ offset, outcome: 'retry' });
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

  #delivered(count: number): void {
    const { clock, delivered, name, telemetry } = this.#options;
    this.#deliveredTotal += count;
    this.#lastDeliveredMs = clock.monotonicMs();
    telemetry.emit('messages_delivered', { endpoint: name, count });
    this.#session?.progress();
    delivered(count);
  }

  #heldDevices(): HeldDevices {
    // Whatever is sent or judged belongs to a session.
    if (this.#held === undefined) throw new Error('The pump has no session.');
    return this.#held;
  }
}
