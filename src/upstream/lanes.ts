// Which lane of a queue gives the next batch, and how much of it.
//
// Invariants:
// - Fresh messages never wait for history: history leaves a reserve of the window free. History is owed a tenth of what
//   the live lane sends.
// - No more than the endpoint's window is unanswered.
// - What a look passed over stays passed over until something else comes back (`reopen`).
// - History keeps to its rate (drain-rate.ts); a look past it does not.

import type { Clock } from '../core/clock.ts';
import type { EndpointCapabilities } from '../core/endpoint.ts';
import type { StoredMessage } from '../core/message.ts';
import type { Lane, OutboxQueue, TakeLimit } from '../core/outbox.ts';
import type { DrainRate } from './drain-rate.ts';

/** Share of the window that history leaves to fresh messages, and of the traffic that it is owed by them. */
const LANE_SHARE = 0.1;
/** Time between two looks past what is given back: the queue cannot tell when there is something new behind it. */
const LOOK_PERIOD_MS = 1000;

export interface LanesOptions {
  readonly queue: OutboxQueue;
  readonly order: 'live_first' | 'strict';
  readonly clock: Clock;
  /** Of the history; undefined: as fast as it goes. */
  readonly drainRate?: DrainRate | undefined;
  /** Told when a lane that gave nothing has something again. */
  readonly wake: () => void;
}

interface LaneState {
  readonly lane: Lane;
  inFlight: number;
  /** `take` would give something, as far as is known. */
  ready: boolean;
  watching: boolean;
  /** Below it looks have seen everything. */
  lookedTo: number;
}

export interface TakeOptions {
  readonly capabilities: EndpointCapabilities;
  readonly limit: TakeLimit;
  /** Passes over what former looks took and the caller gave back. */
  readonly isLooking: boolean;
  readonly signal: AbortSignal;
}

export interface Taken {
  readonly lane: Lane;
  readonly messages: readonly StoredMessage[];
}

export class Lanes {
  readonly #options: LanesOptions;
  readonly #live: LaneState = createLane('live');
  readonly #history: LaneState = createLane('history');
  /** Of `takePastRate`: what it passed over is not what the history's own looks passed over. */
  readonly #pastRate: LaneState = createLane('history');
  /** Messages that the history lane may send although fresh ones wait. */
  #historyCredit = 0;

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** Messages sent and not answered. */
  get inFlight(): number {
    return this.#live.inFlight + this.#history.inFlight;
  }

  get liveInFlight(): number {
    return this.#live.inFlight;
  }

  sent(lane: Lane, count: number): void {
    this.#stateOf(lane).inFlight += count;
  }

  answered(lane: Lane, count: number): void {
    this.#stateOf(lane).inFlight -= count;
  }

  /** Messages were given back, or the lanes split: either may give something again, from its lowest offset. */
  reopen(): void {
    for (const state of [this.#live, this.#history, this.#pastRate]) {
      state.ready = true;
      state.lookedTo = 0;
    }
  }

  /** Leases the next batch; undefined when there is none, or no room for one, before something changes. */
  async take(options: TakeOptions): Promise<Taken | undefined> {
    const { capabilities } = options;
    const { window } = capabilities;
    const from = (state: LaneState, windowMessages: number, most?: number): Promise<Taken | undefined> =>
      this.#takeFrom(state, roomIn(state, capabilities, windowMessages - this.inFlight, most), options);
    if (this.#options.order === 'strict') return from(this.#live, window);
    const owed = Math.floor(this.#historyCredit);
    const reserve = window >= 2 ? Math.max(1, Math.floor(window * LANE_SHARE)) : 0;
    const taken =
      (owed >= 1 ? await from(this.#history, window, owed) : undefined) ??
      (await from(this.#live, window)) ??
      (await from(this.#history, window - reserve));
    if (taken?.lane === 'live') {
      this.#historyCredit = Math.min(window, this.#historyCredit + taken.messages.length * LANE_SHARE);
    } else if (taken !== undefined) {
      this.#historyCredit = Math.max(0, this.#historyCredit - taken.messages.length);
    }
    return taken;
  }

  /** Looks at what the rate of the history leaves waiting; undefined when nothing waits for it. */
  async takePastRate(options: Omit<TakeOptions, 'isLooking'>): Promise<Taken | undefined> {
    if ((this.#options.drainRate?.room ?? 1) > 0) return undefined;
    const { batchMessages, window } = options.capabilities;
    const room = Math.min(batchMessages, window - this.inFlight);
    return this.#takeFrom(this.#pastRate, room, { ...options, isLooking: true });
  }

  async #takeFrom(state: LaneState, room: number, options: TakeOptions): Promise<Taken | undefined> {
    const { isLooking, limit, signal } = options;
    const { clock, drainRate, queue } = this.#options;
    if (!state.ready || signal.aborted || room < 1) return undefined;
    const rate = state.lane === 'history' && !isLooking ? drainRate : undefined;
    const rateBytes = rate?.room ?? Number.POSITIVE_INFINITY;
    if (rate !== undefined && rateBytes === 0) {
      state.ready = false;
      if (!state.watching) this.#watch(state, clock.sleep(rate.waitMs, signal));
      return undefined;
    }
    const messages = await queue.take(state.lane, {
      maxMessages: Math.min(room, limit.maxMessages),
      maxBytes: Math.min(rateBytes, limit.maxBytes),
      ...(isLooking && { returnedFrom: state.lookedTo }),
    });
    const last = messages.at(-1);
    if (last !== undefined) {
      if (isLooking) state.lookedTo = last.offset + 1;
      return { lane: state.lane, messages };
    }
    state.ready = false;
    if (!state.watching) {
      this.#watch(state, isLooking ? clock.sleep(LOOK_PERIOD_MS, signal) : queue.available(state.lane, signal));
    }
    return undefined;
  }

  /** Learns when a lane that gave nothing has something again. */
  #watch(state: LaneState, again: Promise<void>): void {
    state.watching = true;
    again
      .then(() => {
        state.ready = true;
      })
      // Only the end of the session rejects, and that wakes by itself.
      .catch(() => {})
      .finally(() => {
        state.watching = false;
        this.#options.wake();
      });
  }

  #stateOf(lane: Lane): LaneState {
    return lane === 'live' ? this.#live : this.#history;
  }
}

function createLane(lane: Lane): LaneState {
  return { lane, inFlight: 0, ready: true, watching: false, lookedTo: 0 };
}

/** How many messages a lane may give now; 0 while it is better to wait. */
function roomIn(
  state: LaneState,
  { batchMessages, window }: EndpointCapabilities,
  free: number,
  most: number | undefined,
): number {
  if (most !== undefined) return Math.min(free, batchMessages, most);
  // A lane that fills the window waits for a batch's worth of room, so that batches do not crumble into single messages.
  const worthwhile = Math.max(1, Math.min(batchMessages, Math.floor(window / 4)));
  if (free < worthwhile && state.inFlight >= worthwhile) return 0;
  return Math.min(free, batchMessages);
}
