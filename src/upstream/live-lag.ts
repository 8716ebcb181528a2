// Notices that fresh messages wait behind older ones although the connection stands: a link that carried nothing for a while
// and was never lost, or one that is slower than what comes in.

/** What waits longer than this for the link is history. */
export const OUTAGE_MS = 5000;

export class LiveLag {
  /** Monotonic ms of the last answer, or of the send that nothing was in flight before. */
  #answeredMs = 0;
  /** Live messages that waited at `#sinceMs` and have not been taken since. */
  #ahead = 0;
  #sinceMs = 0;

  sent(isFirstInFlight: boolean, nowMs: number): void {
    if (isFirstInFlight) this.#answeredMs = nowMs;
  }

  /** True: nothing was answered for so long that what waits is history. */
  answered(nowMs: number): boolean {
    const silentMs = nowMs - this.#answeredMs;
    this.#answeredMs = nowMs;
    return silentMs > OUTAGE_MS;
  }

  /** @param messages of the live lane, not in flight. True: the first of them has waited too long. */
  waiting(messages: number, nowMs: number): boolean {
    if (this.#ahead <= 0 || messages === 0) {
      this.#ahead = messages;
      this.#sinceMs = nowMs;
    }
    return this.#ahead > 0 && nowMs - this.#sinceMs > OUTAGE_MS;
  }

  taken(liveMessages: number): void {
    this.#ahead -= liveMessages;
  }

  /** What waited is not the live lane's any more. */
  reset(): void {
    this.#ahead = 0;
  }
}
