// Confirmations of writes that did not come in time. Nothing in a frame tells whose it is: one that comes late would be
// taken for that of the next write, which may have been refused.
//
// Invariants
// - While a device owes one, no other write of it goes out that is to be confirmed, so each owes one at most.
// - It is settled by a frame that can be nothing else, or by time. A refusal settles nothing: it may be that of a request.
// - For the same reason a write that got another answer, soon after a request got none, still owes one.

import type { DeviceId } from '#sdk';

/** What is to be known of a write that awaits a confirmation. */
export interface AwaitedConfirmation {
  readonly deviceId: DeviceId;
  /** Whether its frames are told from those of other devices. */
  readonly isTold: boolean;
  /** Whether a frame can be nothing else than the confirmation. */
  readonly confirms: (frame: Buffer) => boolean;
  /** Whether a frame is what the device is known to say when it refuses. */
  readonly refuses: (frame: Buffer) => boolean;
}

/** An answer that is later than so many time limits of its write is not told from the next one. */
const LATEST_TIMEOUTS = 10;
/** The same where it is only feared that one is to come. */
const FEARED_TIMEOUTS = 3;

/** All times are monotonic ms. No more entries of a kind than there are devices on the line. */
export class OwedAnswers {
  readonly #owed = new Map<DeviceId, { readonly confirms: (frame: Buffer) => boolean; readonly endMs: number }>();
  /** Until when a request of the device may be answered that was not. */
  readonly #unanswered = new Map<DeviceId, number>();

  get isEmpty(): boolean {
    return this.#owed.size === 0;
  }

  /** The write went out, and no answer came. */
  owe({ deviceId, confirms }: AwaitedConfirmation, timeoutMs: number, nowMs: number): void {
    this.#owed.set(deviceId, { confirms, endMs: nowMs + LATEST_TIMEOUTS * timeoutMs });
  }

  /** A request to the device got no answer. */
  unanswered(deviceId: DeviceId, timeoutMs: number, nowMs: number): void {
    this.#unanswered.set(deviceId, nowMs + FEARED_TIMEOUTS * timeoutMs);
  }

  /** The write got this answer: where it may be that of a request, its own may still come. */
  answered(confirmation: AwaitedConfirmation, frame: Buffer, timeoutMs: number, nowMs: number): void {
    const { deviceId, isTold, confirms, refuses } = confirmation;
    if (confirms(frame) || refuses(frame)) return;
    const untilMs = isTold ? (this.#unanswered.get(deviceId) ?? 0) : Math.max(0, ...this.#unanswered.values());
    if (nowMs < untilMs) this.#owed.set(deviceId, { confirms, endMs: nowMs + FEARED_TIMEOUTS * timeoutMs });
  }

  /** Whether the frame is a confirmation that was owed; nothing is owed by that device any more then. */
  settle(frame: Buffer, nowMs: number): boolean {
    for (const [deviceId, { confirms, endMs }] of this.#owed) {
      if (endMs <= nowMs || !confirms(frame)) continue;
      this.#owed.delete(deviceId);
      return true;
    }
    return false;
  }

  /** From when on a write may go out: in the past when it may be now. */
  readyMs({ deviceId, isTold }: AwaitedConfirmation): number {
    if (isTold) return this.#owed.get(deviceId)?.endMs ?? 0;
    let readyMs = 0;
    for (const { endMs } of this.#owed.values()) readyMs = Math.max(readyMs, endMs);
    return readyMs;
  }
}
