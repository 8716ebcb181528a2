// Brakes new connections before anything is done for them: a handshake of TLS costs milliseconds of a core, so a thousand
// clients that come back at once, or somebody who knocks without end, would stop everything else.
//
// One token bucket for all. Who waits stands in line behind others of the same address, and the addresses take turns, so that
// a flood from one address delays itself: a bucket for each address would throttle a whole site behind one address instead.

import type { Clock } from '../core/clock.ts';

/** Somebody who wants in. */
export interface Knock {
  readonly address: string;
  /** Called at most once, when it is its turn. */
  readonly enter: () => void;
  /** Called at most once, when there is no place to wait or it waited too long. */
  readonly refuse: (reason: 'handshakes_waiting' | 'handshake_wait') => void;
}

export interface HandshakeGateOptions {
  readonly ratePerSec: number;
  readonly maxWaiting: number;
  /** Who waited longer than this has given up by now. */
  readonly maxWaitMs: number;
  readonly clock: Clock;
}

interface Waiting extends Knock {
  readonly sinceMs: number;
}

export interface HandshakeGate {
  knock(knock: Knock): void;
  readonly waiting: number;
  /** Nobody enters any more; who waits is told nothing. */
  close(): void;
}

/** A twentieth of a second's worth may enter at once: more would hold up the clients that are in. */
const BURST_SECS = 0.05;

export function createHandshakeGate(options: HandshakeGateOptions): HandshakeGate {
  const { ratePerSec, maxWaiting, maxWaitMs, clock } = options;
  const burst = Math.max(1, ratePerSec * BURST_SECS);
  /** In the order of turns; no line is empty. */
  const lines = new Map<string, Waiting[]>();
  let waiting = 0;
  let tokens = burst;
  let filledMs = clock.monotonicMs();
  let cancelTimer: (() => void) | undefined;
  let isClosed = false;

  const fill = (): void => {
    const nowMs = clock.monotonicMs();
    tokens = Math.min(burst, tokens + ((nowMs - filledMs) / 1000) * ratePerSec);
    filledMs = nowMs;
  };

  /** The next in turn, who leaves the line. */
  const next = (): Waiting | undefined => {
    for (const [address, line] of lines) {
      lines.delete(address);
      const first = line.shift();
      waiting -= 1;
      if (line.length > 0) lines.set(address, line);
      return first;
    }
    return undefined;
  };

  const serve = (): void => {
    cancelTimer = undefined;
    fill();
    const nowMs = clock.monotonicMs();
    while (tokens >= 1) {
      const knock = next();
      if (knock === undefined) return;
      if (nowMs - knock.sinceMs > maxWaitMs) {
        knock.refuse('handshake_wait');
        continue;
      }
      tokens -= 1;
      knock.enter();
    }
    if (waiting > 0 && !isClosed) cancelTimer = clock.after(Math.ceil(((1 - tokens) / ratePerSec) * 1000), serve);
  };

  /** Makes room for one of `address`, unless that address has its share already. */
  const makeRoom = (address: string): boolean => {
    if (waiting < maxWaiting) return true;
    const own = lines.get(address)?.length ?? 0;
    let longest: Waiting[] | undefined;
    for (const line of lines.values()) if (line.length > (longest?.length ?? own + 1)) longest = line;
    const last = longest?.pop();
    if (last === undefined) return false;
    waiting -= 1;
    last.refuse('handshakes_waiting');
    return true;
  };

  return {
    get waiting() {
      return waiting;
    },
    knock(knock) {
      if (isClosed) return;
      fill();
      if (waiting === 0 && tokens >= 1) {
        tokens -= 1;
        knock.enter();
        return;
      }
      if (!makeRoom(knock.address)) {
        knock.refuse('handshakes_waiting');
        return;
      }
      const line = lines.get(knock.address);
      const entry = { ...knock, sinceMs: clock.monotonicMs() };
      if (line === undefined) lines.set(knock.address, [entry]);
      else line.push(entry);
      waiting += 1;
      if (cancelTimer === undefined) serve();
    },
    close() {
      isClosed = true;
      cancelTimer?.();
      lines.clear();
      waiting = 0;
    },
  };
}
