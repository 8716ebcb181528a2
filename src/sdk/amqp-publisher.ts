// Sends over one AMQP connection: a bounded window of unsettled messages over all addresses, an answer for each, and a lane
// for each address.
//
// Invariants:
// - Each send resolves once, with one result a message; never rejects.
// - No more than `window` messages are unsettled on the wire.
// - Messages to one address leave in the order of the calls. An address that takes nothing holds up no other.
// - A send that the connection's end cut short resolves after `closed` is known to whoever waits for it.

import type { Clock } from '../core/clock.ts';
import type { DeliveryResult } from '../core/delivery.ts';
import { LIMITS } from '../core/limits.ts';
import type { StoredMessage } from '../core/message.ts';
import type { AmqpClient } from '../wire/amqp-client-types.ts';
import type { AmqpConditions } from './amqp-conditions.ts';
import { AmqpLane, type LaneHost } from './amqp-lane.ts';
import type { AmqpBatchLimits, AmqpOutgoing, LaneEntry } from './amqp-lane-queue.ts';

export interface AmqpPublisherOptions {
  readonly client: Pick<AmqpClient, 'maxLinks' | 'openSender'>;
  readonly window: number;
  readonly ackTimeoutMs: number;
  readonly openTimeoutMs: number;
  readonly linkIdleMs: number;
  /** The address of all messages, where there is but one: they wait for it. */
  readonly onlyAddress: string | undefined;
  readonly addressOf: (stored: StoredMessage) => string;
  readonly conditions: Pick<AmqpConditions, 'answerResult' | 'linkEnd' | 'peer'>;
  /** Messages to one address may go together as one; default: they do not. */
  readonly batch?: AmqpBatchLimits | undefined;
  readonly encode: (stored: StoredMessage, address: string) => AmqpOutgoing;
  /** An address takes nothing, for the first time since it did. */
  readonly onRefused: (address: string, reason: string) => void;
  readonly clock: Clock;
}

interface Job {
  readonly results: (DeliveryResult | undefined)[];
  unanswered: number;
  readonly signal: AbortSignal | undefined;
  readonly finish: (results: readonly DeliveryResult[]) => void;
}

interface JobEntry extends LaneEntry {
  readonly job: Job;
}

const TICK_MS = 1000;

const LOST: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The connection was lost before the broker answered.',
});
const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });
const TOO_MANY: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'Messages wait for too many addresses at once.',
  blameless: true,
});

export class AmqpPublisher {
  readonly #options: AmqpPublisherOptions;
  readonly #lanes = new Map<string, AmqpLane>();
  /** Those that have something to send and found the window full; the first waits longest. */
  readonly #waitingForRoom = new Set<AmqpLane>();
  readonly #signals = new Set<AbortSignal>();
  readonly #host: LaneHost;
  #unsettled = 0;
  #isSilent = false;
  #isEnded = false;
  #cancelTick: () => void;

  constructor(options: AmqpPublisherOptions) {
    this.#options = options;
    const { clock, window } = options;
    this.#host = {
      room: () => window - this.#unsettled,
      unsettled: (change) => {
        this.#unsettled += change;
        if (change < 0) this.#useRoom();
      },
      waitsForRoom: (lane) => void this.#waitingForRoom.add(lane),
      silence: (isSilent) => {
        this.#isSilent = isSilent;
      },
      openSender: (sender) => (this.#hasLink() ? options.client.openSender(sender) : undefined),
      monotonicMs: () => clock.monotonicMs(),
    };
    this.#cancelTick = clock.after(TICK_MS, this.#tick);
  }

  /** Why nothing can be sent; undefined while something can, or is unsettled. */
  get stuck(): string | undefined {
    const { onlyAddress } = this.#options;
    return onlyAddress === undefined ? undefined : this.#lanes.get(onlyAddress)?.stuck;
  }

  /** The peer has answered nothing since it left an attach or a message unanswered for too long. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** Whether something was sent to an address that has not been idle for long. */
  hasLane(address: string): boolean {
    return this.#lanes.has(address);
  }

  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (this.#isEnded || signal.aborted) return Promise.resolve(batch.map(() => (this.#isEnded ? LOST : STOPPED)));
    if (batch.length === 0) return Promise.resolve([]);
    if (!this.#signals.has(signal)) {
      this.#signals.add(signal);
      signal.addEventListener('abort', this.#onAbort);
    }
    const { addressOf, encode } = this.#options;
    return new Promise((finish) => {
      const job = jobOf(batch.length, signal, finish);
      const lanes = new Set<AmqpLane>();
      for (const [index, stored] of batch.entries()) {
        const address = addressOf(stored);
        const entry = entryOf(job, index, () => encode(stored, address), stored.messageId);
        const lane = this.#laneOf(address);
        if (lane === undefined) entry.answer(TOO_MANY);
        else {
          lane.push(entry);
          lanes.add(lane);
        }
      }
      for (const lane of lanes) lane.pump();
    });
  }

  /** Sends one message that is no matter of the queue. */
  notify(address: string, bytes: Uint8Array): Promise<DeliveryResult> {
    if (this.#isEnded) return Promise.resolve(LOST);
    return new Promise((resolve) => {
      const job = jobOf(1, undefined, (results) => resolve(results[0] ?? LOST));
      const entry = entryOf(job, 0, () => ({ bytes }));
      const lane = this.#laneOf(address);
      if (lane === undefined) entry.answer(TOO_MANY);
      else {
        lane.push(entry);
        lane.pump();
      }
    });
  }

  /** The connection is gone: whatever was not answered is to be sent again. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#cancelTick();
    for (const signal of this.#signals) signal.removeEventListener('abort', this.#onAbort);
    this.#signals.clear();
    const entries = [...this.#lanes.values()].flatMap((lane) => lane.entries());
    this.#lanes.clear();
    this.#waitingForRoom.clear();
    for (const entry of entries) entry.answer(LOST);
  }

  readonly #onAbort = (): void => {
    for (const lane of this.#lanes.values()) {
      for (const entry of lane.entries()) {
        if ((entry as JobEntry).job.signal?.aborted === true) entry.answer(STOPPED);
      }
    }
  };

  readonly #tick = (): void => {
    if (this.#isEnded) return;
    this.#cancelTick = this.#options.clock.after(TICK_MS, this.#tick);
    for (const lane of this.#lanes.values()) lane.tick();
    this.#sweep(this.#options.linkIdleMs);
  };

  #useRoom(): void {
    for (const lane of this.#waitingForRoom) {
      if (this.#host.room() <= 0 || this.#isEnded) return;
      this.#waitingForRoom.delete(lane);
      lane.pump();
    }
  }

  #laneOf(address: string): AmqpLane | undefined {
    const known = this.#lanes.get(address);
    if (known !== undefined) return known;
    if (this.#lanes.size >= LIMITS.devices) this.#sweep(0);
    if (this.#lanes.size >= LIMITS.devices) return undefined;
    const patient = address === this.#options.onlyAddress;
    const lane = new AmqpLane({ ...this.#options, host: this.#host, address, patient });
    this.#lanes.set(address, lane);
    return lane;
  }

  /** Forgets addresses that had nothing to do for so long. */
  #sweep(idleMs: number): void {
    const beforeMs = this.#options.clock.monotonicMs() - idleMs;
    for (const [address, lane] of this.#lanes) {
      if (address === this.#options.onlyAddress || (lane.idleSinceMs ?? Number.POSITIVE_INFINITY) > beforeMs) continue;
      lane.close();
      this.#lanes.delete(address);
    }
  }

  /** Whether a link may be opened; makes room where it is with the one that is idle longest. */
  #hasLink(): boolean {
    const { client } = this.#options;
    let links = 0;
    let idlest: AmqpLane | undefined;
    let idlestMs = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) {
      if (!lane.hasLink) continue;
      links += 1;
      const sinceMs = lane.idleSinceMs ?? Number.POSITIVE_INFINITY;
      if (sinceMs < idlestMs) [idlest, idlestMs] = [lane, sinceMs];
    }
    if (links < LIMITS.upstream_amqp_links && client.maxLinks > 0) return true;
    idlest?.close();
    // Its place is free when the peer has ended its session: the next tick tries again.
    return client.maxLinks > 0 && idlest !== undefined;
  }
}

function jobOf(count: number, signal: AbortSignal | undefined, finish: Job['finish']): Job {
  return { results: Array.from({ length: count }), unanswered: count, signal, finish };
}

function entryOf(job: Job, index: number, encode: () => AmqpOutgoing, messageId?: string): JobEntry {
  return {
    job,
    messageId,
    bytes: 0,
    encode,
    isDone: () => job.results[index] !== undefined,
    answer: (result) => {
      if (job.results[index] !== undefined) return;
      job.results[index] = result;
      job.unanswered -= 1;
      if (job.unanswered === 0) job.finish(job.results as DeliveryResult[]);
    },
  };
}
