// Holds back the messages of devices that the peer refuses while it keeps the connection, so that their neighbours go on.
//
// Invariants:
// - A device is held from the first refusal of one of its messages on, and its messages gather here in the order of the
//   log. They stay leased: the queue would else give them out again before anything behind them.
// - Only offsets are kept. A trial gives the lowest back to the queue, which then gives it out again, and lets it pass.
// - No more than LIMITS.endpoint_held_messages gather, and what was in flight. Past that those of a device that is proven
//   to be refused alone go to the quarantine, the oldest first; while nothing is proven, what held devices have beyond
//   the bound is given back, and the pump looks past it for their neighbours.
// - All of it ends with the session.

import type { Clock } from '../core/clock.ts';
import type { DeliveryResult, FailureKind } from '../core/delivery.ts';
import type { DeviceId } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import type { StoredMessage } from '../core/message.ts';
import type { Settlement } from '../core/outbox.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import { Backoff } from './backoff.ts';

export type Retry = Extract<DeliveryResult, { status: 'retry' }>;

/** Between two trials of one device: a peer's own trouble passes soon, a right is given by a person. */
const TRANSIENT_WAIT = { initialMs: 250, ceilingMs: 10_000 };
const REFUSED_WAIT = { initialMs: 1000, ceilingMs: 60_000 };
/** A trial that the queue never gave out again (expired, purged) is made anew after this. */
const TRIAL_LOST_MS = 60_000;
/** Trials without any message passing elsewhere, before the next message of the same device goes along. */
const TRIALS_WITHOUT_NEIGHBOUR = 3;
/** Share of the bound that is cleared at once when it is reached. */
const EVICT_SHARE = 1 / 16;

const NOTHING: readonly Settlement[] = Object.freeze([]);

export interface Held {
  readonly offset: number;
  readonly deviceId: DeviceId;
  readonly messageId: string;
  readonly reason: string;
}

interface Hold {
  readonly deviceId: DeviceId;
  readonly backoff: Backoff;
  reason: string;
  /** Leased and kept back, ascending. */
  readonly waiting: Waiting[];
  /** Given back for a trial; true once it was taken again, hence is with the peer. */
  readonly trial: Map<number, boolean>;
  /** The message whose answer decides. */
  head: number | undefined;
  due: boolean;
  /** Refused on trial although others had passed since its last refusal: it is not everything that is refused. */
  proven: boolean;
  trialsWithoutNeighbour: number;
  /** What had passed at the last refusal. */
  passedBefore: number;
  /** Which wait is the present one. */
  waits: number;
}

interface Waiting {
  readonly offset: number;
  readonly messageId: string;
}

export interface HeldDevicesOptions {
  /** Of the endpoint. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
  /** A trial is due. */
  readonly wake: () => void;
  /** Ends all waits. */
  readonly signal: AbortSignal;
}

/** Whether a refusal says something about the message or its device, and not about the peer's load. */
export function concernsDevice(kind: FailureKind): boolean {
  return kind === 'unauthorized' || kind === 'invalid' || kind === 'transient';
}

export class HeldDevices {
  readonly #options: HeldDevicesOptions;
  readonly #holds = new Map<DeviceId, Hold>();
  #messages = 0;
  #passedTotal = 0;
  #releases = 0;

  constructor(options: HeldDevicesOptions) {
    this.#options = options;
  }

  /** Messages that may be taken without passing the bound. */
  get room(): number {
    return Math.max(0, LIMITS.endpoint_held_messages - this.#messages);
  }

  /** Which devices are held and why, for people; undefined when none is. */
  get reason(): string | undefined {
    const [first] = this.#holds.values();
    if (first === undefined) return undefined;
    const others = this.#holds.size - 1;
    const who = others === 0 ? first.deviceId : `${first.deviceId} and ${others} more devices`;
    return `Messages of ${who} are held back: ${first.reason}`;
  }

  /** Counts the devices let go. What was taken before and comes after has overtaken what was given back: it goes back too. */
  get releases(): number {
    return this.#releases;
  }

  /** Whether a message just taken may be sent. If not, it is to be kept here or given back. */
  admits(stored: StoredMessage): boolean {
    const hold = this.#holds.get(stored.message.deviceId);
    if (hold === undefined) return true;
    if (!hold.trial.has(stored.offset)) return false;
    hold.trial.set(stored.offset, true);
    return true;
  }

  /** Keeps a message that was not admitted; it must stay leased. */
  keep(stored: StoredMessage): void {
    const hold = this.#holds.get(stored.message.deviceId);
    if (hold !== undefined) this.#keep(hold, stored);
  }

  /** Keeps a message that the peer refused; its device is held from now on. */
  refused(stored: StoredMessage, retry: Retry): void {
    this.#keep(this.#refuse(stored, retry), stored);
  }

  /** The message went to the quarantine for its refusals; its device stays held. */
  quarantined(stored: StoredMessage, retry: Retry): void {
    this.#refuse(stored, retry).proven = true;
  }

  /** The peer answered a message for good. Returns what may be sent again now. */
  settled(stored: StoredMessage, accepted: boolean): readonly Settlement[] {
    if (accepted) this.#passedTotal += 1;
    const hold = this.#holds.get(stored.message.deviceId);
    if (hold === undefined || !hold.trial.delete(stored.offset) || hold.head !== stored.offset) return NOTHING;
    this.#release(hold);
    this.#messages -= hold.waiting.length;
    // What was refused passes: the others are worth a trial as well.
    if (accepted) for (const other of this.#holds.values()) this.#makeDue(other);
    return hold.waiting.map(({ offset }) => ({ offset, outcome: 'retry' }));
  }

  /** What is to be given back now for trials. */
  trials(): Settlement[] {
    const given: Settlement[] = [];
    for (const hold of this.#holds.values()) {
      if (!hold.due) continue;
      hold.due = false;
      void this.#wait(hold, TRIAL_LOST_MS);
      if ([...hold.trial.values()].includes(true)) continue;
      hold.trial.clear();
      // Alone, a message proves nothing when it is refused; one that passes beside it does.
      const count = hold.trialsWithoutNeighbour >= TRIALS_WITHOUT_NEIGHBOUR ? 2 : 1;
      const next = hold.waiting.splice(0, count);
      this.#messages -= next.length;
      hold.head = next[0]?.offset;
      for (const { offset } of next) {
        hold.trial.set(offset, false);
        given.push({ offset, outcome: 'retry' });
      }
      if (next.length === 0) this.#release(hold);
    }
    return given;
  }

  /** The bound is reached: takes out the oldest messages of devices that are proven to be refused alone. */
  evict(): Held[] {
    if (this.room > 0) return [];
    const candidates: (Held & { readonly hold: Hold })[] = [];
    for (const hold of this.#holds.values()) {
      if (!hold.proven) continue;
      const { deviceId, reason } = hold;
      for (const waiting of hold.waiting) candidates.push({ ...waiting, deviceId, reason, hold });
    }
    candidates.sort((a, b) => a.offset - b.offset);
    const evicted = candidates.slice(0, Math.ceil(LIMITS.endpoint_held_messages * EVICT_SHARE));
    // In ascending order, hence each is the first of its device.
    for (const { hold } of evicted) hold.waiting.shift();
    this.#messages -= evicted.length;
    return evicted;
  }

  /** Gives everything back at the end of the session. */
  clear(): Settlement[] {
    const given = [...this.#holds.values()].flatMap(({ waiting }) =>
      waiting.map(({ offset }): Settlement => ({ offset, outcome: 'retry' })),
    );
    this.#holds.clear();
    this.#messages = 0;
    return given;
  }

  #release({ deviceId }: Hold): void {
    this.#holds.delete(deviceId);
    this.#releases += 1;
  }

  /** Notes a refusal and begins the next wait where it decides. */
  #refuse({ offset, message: { deviceId } }: StoredMessage, retry: Retry): Hold {
    let hold = this.#holds.get(deviceId);
    if (hold === undefined) {
      hold = this.#create(deviceId, retry);
      this.#holds.set(deviceId, hold);
      this.#again(hold, retry);
    } else if (hold.trial.delete(offset) && offset === hold.head) {
      if (retry.blameless === true) hold.proven = false;
      else if (this.#passedTotal > hold.passedBefore) hold.proven = true;
      else hold.trialsWithoutNeighbour += 1;
      hold.reason = retry.reason;
      this.#again(hold, retry);
    }
    return hold;
  }

  #create(deviceId: DeviceId, { kind, reason }: Retry): Hold {
    const { random } = this.#options;
    return {
      deviceId,
      backoff: new Backoff({ ...(kind === 'transient' ? TRANSIENT_WAIT : REFUSED_WAIT), random }),
      reason,
      waiting: [],
      trial: new Map(),
      head: undefined,
      due: false,
      proven: false,
      trialsWithoutNeighbour: 0,
      passedBefore: 0,
      waits: 0,
    };
  }

  #again(hold: Hold, { kind, reason, retryAfterMs }: Retry): void {
    const { name, telemetry } = this.#options;
    const { deviceId } = hold;
    hold.passedBefore = this.#passedTotal;
    hold.head = undefined;
    const waitMs = hold.backoff.next(retryAfterMs);
    telemetry.emit('delivery_retried', {
      key: `${name} ${deviceId}`,
      endpoint: name,
      device: deviceId,
      kind,
      reason,
      waitMs,
    });
    void this.#wait(hold, waitMs);
  }

  #makeDue(hold: Hold): void {
    if (hold.head !== undefined) return;
    hold.waits += 1;
    hold.due = true;
    this.#options.wake();
  }

  async #wait(hold: Hold, waitMs: number): Promise<void> {
    const { clock, signal, wake } = this.#options;
    hold.waits += 1;
    const { waits } = hold;
    try {
      await clock.sleep(waitMs, signal);
    } catch {
      // The session has ended, and all holds with it.
      return;
    }
    if (hold.waits !== waits) return;
    hold.due = true;
    wake();
  }

  #keep(hold: Hold, { offset, messageId }: StoredMessage): void {
    const { waiting } = hold;
    // Nearly always the last.
    const before = waiting.findLastIndex((other) => other.offset < offset);
    waiting.splice(before + 1, 0, { offset, messageId });
    this.#messages += 1;
  }
}
