// Finds the message that kills its connection. A transport without negative acknowledgement (MQTT 3.1.1) cannot refuse
// one message: the peer drops the connection instead, and everything behind the message would wait for ever.
//
// Invariants:
// - A message is suspected only after it was unanswered at SUSPECT_DROPS successive drops. Suspects go alone.
// - A drop is evidence against a suspect only when it was alone in flight and a neighbour had passed before it on the
//   same connection. A link that merely flaps drops neighbours as well, and each such drop takes evidence away.
// - Whatever is accepted is innocent at once.
// - Everything here is bounded by the window: only what was in flight at the last drop is remembered.

import type { FailureKind } from '../core/delivery.ts';
import { LIMITS } from '../core/limits.ts';

/** Drops with a message in flight, one after the other, before it goes alone. */
const SUSPECT_DROPS = 3;
/** Drops with the suspect alone in flight behind a neighbour that passed, before it is quarantined. */
const POISON_DROPS = 3;
/**
 * Refusals of one message for which the peer took others in between, before it is quarantined. A peer's own trouble
 * (`transient`) hits any message now and then, so it takes more to blame the message; `throttled` and `timeout` say
 * nothing about it at all.
 */
const POISON_REFUSALS: Readonly<Partial<Record<FailureKind, number>>> = { unauthorized: 3, invalid: 3, transient: 10 };

/** Reason under which such a message stands in the quarantine. */
export const SUSPECTED_POISON = 'suspected_poison';

interface Suspicion {
  /** Successive drops with this message in flight. */
  drops: number;
  /** Drops with this message alone in flight. */
  alone: number;
  /** Of those, the ones that followed a neighbour. */
  evidence: number;
}

interface Refusal {
  count: number;
  /** What had been accepted by then. */
  acceptedBefore: number;
}

export class PoisonTracker {
  #records = new Map<number, Suspicion>();
  readonly #refusals = new Map<number, Refusal>();
  #acceptedTotal = 0;

  /** True while some message has to go alone. */
  get suspecting(): boolean {
    for (const record of this.#records.values()) if (record.drops >= SUSPECT_DROPS) return true;
    return false;
  }

  /** The connection was lost by the peer or the network, with these messages unanswered. */
  dropped(offsets: readonly number[]): void {
    if (offsets.length === 0) return;
    const records = new Map<number, Suspicion>();
    for (const offset of offsets) {
      const record = this.#records.get(offset) ?? { drops: 0, alone: 0, evidence: 0 };
      record.drops += 1;
      records.set(offset, record);
    }
    // What is suspected already waits for its own turn, and was therefore not in flight now.
    for (const [offset, record] of this.#records) {
      if (record.drops >= SUSPECT_DROPS) records.set(offset, record);
    }
    this.#records = records;
  }

  /**
   * The connection was lost while only this message was in flight. True when it is to be quarantined.
   * @param behindNeighbour Another message was accepted just before it on the same connection.
   */
  droppedAlone(offset: number, behindNeighbour: boolean): boolean {
    const record = this.#records.get(offset) ?? { drops: 0, alone: 0, evidence: 0 };
    this.#records.set(offset, record);
    record.drops = Math.max(record.drops + 1, SUSPECT_DROPS);
    record.alone += 1;
    if (behindNeighbour) {
      record.evidence += 1;
    } else {
      for (const [other, otherRecord] of this.#records) {
        if (other !== offset && otherRecord.evidence > 0) otherRecord.evidence -= 1;
      }
    }
    return record.evidence >= POISON_DROPS;
  }

  /** Messages that lost the connection alone. */
  get triedAlone(): number {
    let count = 0;
    for (const record of this.#records.values()) if (record.alone > 0) count += 1;
    return count;
  }

  /** How often this message was alone in flight when the connection was lost. */
  aloneDrops(offset: number): number {
    return this.#records.get(offset)?.alone ?? 0;
  }

  /**
   * The peer refused this message for a reason that may pass (not authorized, for example), and keeps the connection.
   * True when it took others in between, so often that this one is to be quarantined.
   */
  refused(offset: number, kind: FailureKind): boolean {
    const most = POISON_REFUSALS[kind];
    if (most === undefined) return false;
    const refusal = this.#refusals.get(offset);
    if (refusal === undefined) {
      // What expired or was purged meanwhile is never heard of again.
      if (this.#refusals.size >= LIMITS.queue_in_flight_messages) this.#refusals.clear();
      this.#refusals.set(offset, { count: 1, acceptedBefore: this.#acceptedTotal });
      return false;
    }
    if (refusal.acceptedBefore === this.#acceptedTotal) return false;
    refusal.acceptedBefore = this.#acceptedTotal;
    refusal.count += 1;
    return refusal.count > most;
  }

  /** Nothing is suspected any more. */
  clear(): void {
    this.#records.clear();
    this.#refusals.clear();
  }

  /** Accepted, rejected or gone: nothing is known against it any more. */
  settled(offset: number, accepted: boolean): void {
    if (accepted) this.#acceptedTotal += 1;
    if (this.#records.size > 0) this.#records.delete(offset);
    if (this.#refusals.size > 0) this.#refusals.delete(offset);
  }
}
