// Which answers may still come, where nothing in a frame tells a late answer from the next one (RTU, ASCII): unit id and
// function are all that a read's answer repeats of its request.
//
// Invariants
// - A unit that did not answer is left alone for as long again, so that a little lateness ends in the silence.
// - Its answer is owed for some time after that. Only the same read may be asked for meanwhile: whichever answer comes, it
//   holds what was asked for.
// - An answer that comes while one is owed may be the late one. The newest request is owed its answer then, for as long as
//   the oldest may have taken, and nothing of that function is asked for until it can no longer come.

import type { ModbusRequest } from './pdu.ts';

interface OwedAnswer {
  readonly request: ModbusRequest;
  readonly sentMs: number;
  readonly untilMs: number;
  /** Whether it may have been taken for an older one's: then not even the same read is told from it. */
  readonly isShifted: boolean;
}

/** An answer that is later than so many timeouts is not told from the next one. */
const LATEST_TIMEOUTS = 5;
/** What the next late answer may take longer than the last one did. */
const MARGIN = 1.25;
/** Of one unit and function; with one more the oldest goes. */
const OWED_MAX = 8;

export class LateAnswers {
  /** By unit id: at most 256. Monotonic ms. */
  readonly #aloneUntilMs = new Map<number, number>();
  /** By unit id and function code. */
  readonly #owed = new Map<number, readonly OwedAnswer[]>();

  /** Monotonic ms from which on the request may be sent: in the past when it may be now. */
  readyMs(unitId: number, request: ModbusRequest): number {
    let readyMs = this.#aloneUntilMs.get(unitId) ?? 0;
    for (const owed of this.#owed.get(keyOf(unitId, request)) ?? []) {
      if (owed.isShifted || !isSameRead(owed.request, request)) readyMs = Math.max(readyMs, owed.untilMs);
    }
    return readyMs;
  }

  /** The request had no answer in its time. Both monotonic ms. */
  unanswered(unitId: number, request: ModbusRequest, timeoutMs: number, sentMs: number, endMs: number): void {
    this.#aloneUntilMs.set(unitId, endMs + timeoutMs);
    const untilMs = sentMs + LATEST_TIMEOUTS * timeoutMs;
    const owed = [...this.#stillOwed(unitId, request, endMs), { request, sentMs, untilMs, isShifted: false }];
    this.#owed.set(keyOf(unitId, request), owed.slice(-OWED_MAX));
  }

  /** The request was answered, by its own answer or a late one. Both monotonic ms. */
  answered(unitId: number, request: ModbusRequest, sentMs: number, endMs: number): void {
    const key = keyOf(unitId, request);
    if (!this.#owed.has(key)) return;
    const [oldest, ...others] = this.#stillOwed(unitId, request, endMs);
    if (oldest === undefined) {
      this.#owed.delete(key);
      return;
    }
    const latenessMs = (endMs - oldest.sentMs) * MARGIN;
    this.#owed.set(
      key,
      [...others, { request, sentMs }].map((owed) => ({
        request: owed.request,
        sentMs: owed.sentMs,
        untilMs: owed.sentMs + latenessMs,
        isShifted: true,
      })),
    );
  }

  #stillOwed(unitId: number, request: ModbusRequest, nowMs: number): readonly OwedAnswer[] {
    return (this.#owed.get(keyOf(unitId, request)) ?? []).filter(({ untilMs }) => untilMs > nowMs);
  }
}

function keyOf(unitId: number, { functionCode }: ModbusRequest): number {
  return (unitId << 8) | functionCode;
}

function isSameRead(left: ModbusRequest, right: ModbusRequest): boolean {
  if (!('quantity' in left) || !('quantity' in right)) return false;
  return left.address === right.address && left.quantity === right.quantity;
}
