// Finds a connection that is dead though nobody was told: packets vanished for a while, the peer is back, but TCP's own
// retransmission has backed off to many seconds by then. While nothing is answered, bare connects are tried beside the
// open connection; one that failed, then one that goes through at once while still nothing is answered, means: connect
// anew. A peer that is merely slow or stopped is left alone: its connects succeed from the start. So is a slow link: its
// connects are slow every time.

import type { Clock } from '../core/clock.ts';
import type { Endpoint } from '../core/endpoint.ts';

export interface StallWatchOptions {
  readonly clock: Clock;
  readonly endpoint: Pick<Endpoint, 'probe'>;
  /** Messages unanswered now. */
  readonly inFlight: () => number;
  /** Grows with every answer. */
  readonly answers: () => number;
  /** The end of the connection. */
  readonly signal: AbortSignal;
}

/** Without an answer for so long, a connection is looked after. */
const STALLED_MS = 2000;
const LOOK_MS = 500;
/** A bare connect that takes longer did not go through at once: its first packet was lost. */
const PROBE_FAILED_MS = 900;
/** Each probe's first packet may be lost; its second comes a second later, so a few run side by side. */
const PROBES_AT_ONCE = 3;
const PROBE_TIMEOUT_MS = 4000;

/** Resolves true when the connection should be made anew, false when it has ended. Never rejects. */
export async function watchStall({ clock, endpoint, inFlight, answers, signal }: StallWatchOptions): Promise<boolean> {
  let lastAnswers = answers();
  let quietSinceMs = clock.monotonicMs();
  let stall = new AbortController();
  let wasAway = false;
  let isBack = false;
  let underWay = 0;

  const probe = async (stallSignal: AbortSignal): Promise<void> => {
    underWay += 1;
    const startMs = clock.monotonicMs();
    // The end of this probe only: the ones after it find the link's return.
    const tooLong = new AbortController();
    const cancel = clock.after(PROBE_TIMEOUT_MS, () => tooLong.abort());
    try {
      await endpoint.probe(AbortSignal.any([signal, stallSignal, tooLong.signal]));
      if (stallSignal.aborted) return;
      if (clock.monotonicMs() - startMs > PROBE_FAILED_MS) wasAway = true;
      else if (wasAway) isBack = true;
    } catch {
      if (!stallSignal.aborted) wasAway = true;
    } finally {
      cancel();
      underWay -= 1;
    }
  };

  try {
    while (!isBack) {
      await clock.sleep(LOOK_MS, signal);
      const nowMs = clock.monotonicMs();
      if (inFlight() === 0 || answers() !== lastAnswers) {
        lastAnswers = answers();
        quietSinceMs = nowMs;
        stall.abort();
        stall = new AbortController();
        wasAway = false;
        isBack = false;
      } else if (nowMs - quietSinceMs >= STALLED_MS && underWay < PROBES_AT_ONCE) {
        void probe(stall.signal);
      }
    }
    return true;
  } catch {
    return false;
  } finally {
    stall.abort();
  }
}
