// Which answers may still come, where nothing in a frame tells a late answer from the next one (RTU, ASCII): unit id and
// function are all that a read's answer repeats of its request.
//
// Invariants
// - While an answer is owed, only the same request may go out: whichever answer comes, it is to that. It comes after what
//   others have waiting, as the unit may be dead.
// - An answer that comes then may be the late one, and the newest request's is owed instead. It is taken for its own where
//   it took as long as the unit's answers always take, and the unit was never late: a frame was lost. A silence of one
//   timeout shows whether that was right.
// - Where it came oddly, or the unit is known to be late, it is asked for nothing else of that function until what it owes
//   has come, or can no longer come. Only an answer that comes when nobody asks any more makes a unit known to be late.
// - What comes to another request than the one that is owed is not taken where it came oddly, and else when a silence has
//   followed: otherwise it was the late one, and its own would come.

import { isDeepStrictEqual } from 'node:util';
import { LIMITS } from '#sdk';
import { answerBytes, type ModbusRequest } from './pdu.ts';

/** Who sent a frame that nobody asked for. */
export interface FrameSender {
  readonly unitId: number;
  readonly functionCode: number;
}

export type AnswerOf = 'own' | 'unsure' | 'other';

interface Latency {
  readonly minMs: number;
  readonly maxMs: number;
}

interface OwedAnswer {
  readonly request: ModbusRequest;
  readonly timeoutMs: number;
  readonly sentMs: number;
  /** When it counts as lost, where there is no doubt. */
  readonly lostMs: number;
  readonly isDoubtful: boolean;
  /** It may have been taken for an older one's: then not even the same request is told from it. */
  readonly isShifted: boolean;
  /** A silence until it is lost shows that all came right. */
  readonly isProven: boolean;
}

/** Writes whose answer repeats what they say, and is compared with it. */
const ECHOED: ReadonlySet<number> = new Set([5, 6, 15, 16, 22]);
/** An answer that is later than so many timeouts is not told from the next one. */
const LATEST_TIMEOUTS = 10;
/** So long a unit counts as late after it was. */
const LATE_MS = 600_000;
/** How much slower than the slowest, or quicker than the quickest, an answer may come that is taken for the request's own. */
const USUAL_MARGIN_MS = 50;
/** No more of a timeout than one part in so many: what is usual must be rare by chance. */
const MARGIN_PARTS = 20;
const USUAL_PARTS = 4;
/** Of the way to the others an odd latency is forgotten with each answer. */
const USUAL_FADING = 0.03;
/** A unit that has begun to be late by a constant answers the repeated request as long after the first as it was sent. */
const SILENCE_MARGIN_MS = 100;
/** Of one unit and function; with one more the oldest goes. */
const OWED_MAX = 8;

/** All times are monotonic ms. But for `#usual`, nothing has more entries than there are unit ids and functions. */
export class LateAnswers {
  /** By unit id and function code. */
  readonly #owed = new Map<number, readonly OwedAnswer[]>();
  /** Of units that were late. */
  readonly #lateUntilMs = new Map<number, number>();
  readonly #heardUnits = new Set<number>();
  /** What answers take, by unit, function and quantity: a long one takes its time on the line. The oldest first. */
  readonly #usual = new Map<string, Latency>();
  readonly #aloneUntilMs = new Map<number, number>();

  /** From when on the request may be sent: in the past when it may be now. */
  readyMs(unitId: number, request: ModbusRequest, nowMs: number): number {
    const isLate = this.#isLate(unitId, nowMs);
    let readyMs = isLate ? (this.#aloneUntilMs.get(unitId) ?? 0) : 0;
    for (const owed of this.#owed.get(keyOf(unitId, request.functionCode)) ?? []) {
      if (owed.isShifted || !isDeepStrictEqual(owed.request, request)) {
        readyMs = Math.max(readyMs, endOf(owed, isLate || owed.isDoubtful));
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
      { request, timeoutMs, sentMs, lostMs, isDoubtful: false, isShifted: false, isProven: false },
    ];
    this.#owed.set(keyOf(unitId, request.functionCode), owed.slice(-OWED_MAX));
  }

  /**
   * The request was answered, by its own answer or a late one. What is `unsure` is its own when nothing is heard until the
   * request may be sent again; what is `other` must not be taken.
   */
  answered(unitId: number, request: ModbusRequest, timeoutMs: number, sentMs: number, endMs: number): AnswerOf {
    const key = keyOf(unitId, request.functionCode);
    const owed = (this.#owed.get(key) ?? []).filter((one) => endOf(one, true) > sentMs);
    const tookMs = endMs - sentMs;
    const shape = shapeOf(unitId, request);
    const usual = this.#usual.get(shape);
    if (owed.length === 0) {
      this.#owed.delete(key);
      this.#heardUnits.add(unitId);
      this.#learn(shape, usual === undefined ? { minMs: tookMs, maxMs: tookMs } : faded(usual, tookMs));
      return 'own';
    }
    const isSame = ECHOED.has(request.functionCode) || owed.every((one) => isDeepStrictEqual(one.request, request));
    const unanswered = owed.filter((one) => !one.isShifted);
    const apartMs = Math.max(timeoutMs, ...unanswered.map((one) => sentMs - one.sentMs));
    const newest = { request, timeoutMs, sentMs, lostMs: endMs + apartMs + SILENCE_MARGIN_MS };
    const shifted = { isShifted: true, isDoubtful: true, isProven: false };
    const isUsual = usual !== undefined && isWithin(usual, tookMs, timeoutMs);
    if (isUsual && !this.#isLate(unitId, endMs)) {
      // A silence has shown already that they are lost; whoever asks for something else is still unsure.
      if (isSame && owed.every((one) => !one.isDoubtful && one.lostMs <= sentMs)) return 'own';
      // Units answer in order: what was owed before this one is lost.
      this.#owed.set(key, [{ ...newest, isShifted: true, isDoubtful: false, isProven: !isSame }]);
      return isSame ? 'own' : 'unsure';
    }
    this.#owed.set(key, [...owed.slice(1).map((one) => ({ ...one, ...shifted })), { ...newest, ...shifted }]);
    return isSame ? 'own' : 'other';
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
    return !this.#heardUnits.has(unitId) || (this.#lateUntilMs.get(unitId) ?? 0) > nowMs;
  }

  #learn(shape: string, latency: Latency): void {
    const [oldest] = this.#usual.keys();
    if (!this.#usual.has(shape) && this.#usual.size >= LIMITS.modbus_latencies && oldest !== undefined) {
      this.#usual.delete(oldest);
    }
    this.#usual.set(shape, latency);
  }

  #stillOwed(unitId: number, functionCode: number, nowMs: number): readonly OwedAnswer[] {
    // Also what counts as lost is remembered as long as it may come: it may show that the unit is late.
    return (this.#owed.get(keyOf(unitId, functionCode)) ?? []).filter((owed) => endOf(owed, true) > nowMs);
  }
}

function endOf({ sentMs, timeoutMs, lostMs, isProven }: OwedAnswer, isLate: boolean): number {
  return isLate && !isProven ? Math.max(lostMs, sentMs + LATEST_TIMEOUTS * timeoutMs) : lostMs;
}

/** An odd one counts for a while only. */
function faded({ minMs, maxMs }: Latency, tookMs: number): Latency {
  return {
    minMs: Math.min(tookMs, minMs + (tookMs - minMs) * USUAL_FADING),
    maxMs: Math.max(tookMs, maxMs - (maxMs - tookMs) * USUAL_FADING),
  };
}

/** Of a unit whose latency is anything, no latency says anything. */
function isWithin({ minMs, maxMs }: Latency, tookMs: number, timeoutMs: number): boolean {
  const marginMs = Math.min(USUAL_MARGIN_MS, timeoutMs / MARGIN_PARTS);
  const isNarrow = (maxMs - minMs + 2 * marginMs) * USUAL_PARTS <= timeoutMs;
  return isNarrow && tookMs >= minMs - marginMs && tookMs <= maxMs + marginMs;
}

function shapeOf(unitId: number, request: ModbusRequest): string {
  return `${unitId} ${request.functionCode} ${answerBytes(request) ?? 0}`;
}

function keyOf(unitId: number, functionCode: number): number {
  return (unitId << 8) | (functionCode & 0x7f);
}
