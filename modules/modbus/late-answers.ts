// Which answers may still come, where nothing in a frame tells a late answer from the next one (RTU, ASCII): unit id and
// function are all that a read's answer repeats of its request.
//
// Invariants
// - While an answer is owed, only the same request may go out: whichever answer comes, it is to that. It comes after what
//   others have waiting, as the unit may be dead.
// - An answer that comes then may be the late one, and the newest request's is owed instead. It is taken for its own where
//   it came as fast as the unit usually answers, and the unit was never late: a frame was lost. A silence of one timeout
//   shows whether that was right.
// - A unit that was late, because an answer came when nobody asked any more, or came oddly slowly to a repeated request, is
//   asked for nothing else of that function until what it owes has come, or can no longer come.

import { isDeepStrictEqual } from 'node:util';
import type { ModbusRequest } from './pdu.ts';

/** Who sent a frame that nobody asked for. */
export interface FrameSender {
  readonly unitId: number;
  readonly functionCode: number;
}

interface OwedAnswer {
  readonly request: ModbusRequest;
  readonly timeoutMs: number;
  readonly sentMs: number;
  /** When it counts as lost, in a unit that was never late. */
  readonly lostMs: number;
  /** It may have been taken for an older one's: then not even the same request is told from it. */
  readonly isShifted: boolean;
}

/** An answer that is later than so many timeouts is not told from the next one. */
const LATEST_TIMEOUTS = 10;
/** So long a unit counts as late after it was. */
const LATE_MS = 600_000;
/** How much slower than ever an answer may come that is taken for the request's own. */
const USUAL_FACTOR = 2;
const USUAL_MARGIN_MS = 20;
/** How much quicker than its timeout a unit must be for its quickness to mean anything. */
const QUICK_FACTOR = 4;
/** Share of the slowest answer that is left after each answer, so that one stall is forgotten. */
const USUAL_FADING = 0.99;
/** Of one unit and function; with one more the oldest goes. */
const OWED_MAX = 8;

/** All times are monotonic ms. Nothing here has more entries than there are unit ids and functions. */
export class LateAnswers {
  /** By unit id and function code. */
  readonly #owed = new Map<number, readonly OwedAnswer[]>();
  /** Of units that were late. */
  readonly #lateUntilMs = new Map<number, number>();
  /** The slowest answer of late. */
  readonly #usualMs = new Map<number, number>();
  readonly #aloneUntilMs = new Map<number, number>();

  /** From when on the request may be sent: in the past when it may be now. */
  readyMs(unitId: number, request: ModbusRequest, nowMs: number): number {
    const isLate = this.#isLate(unitId, nowMs);
    let readyMs = isLate ? (this.#aloneUntilMs.get(unitId) ?? 0) : 0;
    for (const owed of this.#owed.get(keyOf(unitId, request.functionCode)) ?? []) {
      if (owed.isShifted || !isDeepStrictEqual(owed.request, request)) {
        readyMs = Math.max(readyMs, endOf(owed, isLate));
      }
    }
    return readyMs;
  }

  /** Whether others go first: the unit did not answer only just now. */
  yields(unitId: number, nowMs: number): boolean {
    return (this.#aloneUntilMs.get(unitId) ?? 0) > nowMs;
  }

  /** The request had no answer in its time. */
  unanswered(unitId: number, request: ModbusRequest, timeoutMs: number, sentMs: number, endMs: number): void {
    const lostMs = endMs + timeoutMs;
    this.#aloneUntilMs.set(unitId, lostMs);
    const owed = [
      ...this.#stillOwed(unitId, request.functionCode, endMs),
      { request, timeoutMs, sentMs, lostMs, isShifted: false },
    ];
    this.#owed.set(keyOf(unitId, request.functionCode), owed.slice(-OWED_MAX));
  }

  /** The request was answered, by its own answer or a late one. */
  answered(unitId: number, request: ModbusRequest, timeoutMs: number, sentMs: number, endMs: number): void {
    const key = keyOf(unitId, request.functionCode);
    const owed = (this.#owed.get(key) ?? []).filter((one) => endOf(one, true) > sentMs);
    const tookMs = endMs - sentMs;
    const usualMs = this.#usualMs.get(unitId);
    if (owed.length === 0) {
      this.#owed.delete(key);
      this.#usualMs.set(unitId, Math.max(tookMs, (usualMs ?? 0) * USUAL_FADING));
      return;
    }
    const newest = { request, timeoutMs, sentMs, lostMs: endMs + timeoutMs, isShifted: true };
    // One that is slow at times says nothing by a quick answer.
    const isQuick = usualMs !== undefined && usualMs * QUICK_FACTOR <= timeoutMs;
    const isUsual = isQuick && tookMs <= usualMs * USUAL_FACTOR + USUAL_MARGIN_MS;
    if (isUsual && !this.#isLate(unitId, endMs)) {
      // Units answer in order: what was owed before this one is lost. What counted as lost already leaves no doubt.
      if (owed.some(({ lostMs }) => lostMs > sentMs)) this.#owed.set(key, [newest]);
      else this.#owed.delete(key);
      return;
    }
    if (usualMs !== undefined) this.#lateUntilMs.set(unitId, endMs + LATE_MS);
    this.#owed.set(key, [...owed.slice(1).map((one) => ({ ...one, isShifted: true })), newest]);
  }

  /** A frame came that nobody waited for. */
  heard({ unitId, functionCode }: FrameSender, nowMs: number): void {
    const owed = this.#stillOwed(unitId, functionCode, nowMs);
    if (owed.length === 0) return;
    this.#lateUntilMs.set(unitId, nowMs + LATE_MS);
    this.#owed.set(keyOf(unitId, functionCode), owed.slice(1));
  }

  /** One that was never heard in time is not known to be on time. */
  #isLate(unitId: number, nowMs: number): boolean {
    return !this.#usualMs.has(unitId) || (this.#lateUntilMs.get(unitId) ?? 0) > nowMs;
  }

  #stillOwed(unitId: number, functionCode: number, nowMs: number): readonly OwedAnswer[] {
    // Also what counts as lost is remembered as long as it may come: it may show that the unit is late.
    return (this.#owed.get(keyOf(unitId, functionCode)) ?? []).filter((owed) => endOf(owed, true) > nowMs);
  }
}

function endOf({ sentMs, timeoutMs, lostMs }: OwedAnswer, isLate: boolean): number {
  return isLate ? Math.max(lostMs, sentMs + LATEST_TIMEOUTS * timeoutMs) : lostMs;
}

function keyOf(unitId: number, functionCode: number): number {
  return (unitId << 8) | (functionCode & 0x7f);
}
