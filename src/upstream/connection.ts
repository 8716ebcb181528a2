// Keeps one endpoint connected: a state machine that outlives every connection.
//
// Invariants:
// - One connection at a time; the endpoint's own library never reconnects.
// - "Back" means that a TCP connect would succeed. While it would not, a bare connect goes out every 2 s at most, so that
//   data flows within 3 s of the link's return, however long it was away.
// - A peer that answers and refuses (credentials, TLS, throttling), be it the bare connect already, is left alone for
//   longer and longer, to 300 s: asking again and again locks accounts.
// - Connections that end soon after their start, again and again, are made less and less often, although each was of use: so
//   it goes where two clients have one id and take the connection from each other.
// - Nothing here ends but by the signal: an endpoint that is away for a year is still being tried.

import type { Clock } from '../core/clock.ts';
import type { FailureKind } from '../core/delivery.ts';
import type { Endpoint, EndpointClosed } from '../core/endpoint.ts';
import { errorText, isGatewayError, systemCode } from '../core/errors.ts';
import type { Telemetry } from '../observe/events.ts';
import { Notifier } from '../platform/abort.ts';
import { jitter, type Random } from '../platform/random.ts';
import { Backoff } from './backoff.ts';

/** What a connection is doing, as shown to people. */
export type ConnectionState = 'idle' | 'probing' | 'connecting' | 'connected' | 'backing_off' | 'draining';

/** Longest time between two bare connects while the peer cannot be reached. */
const PROBE_PERIOD_MS = 2000;
/** Bare connects under way at once: one whose SYN was lost must not delay the next. */
const PROBES_AT_ONCE = 5;
const TRANSIENT_INITIAL_MS = 250;
const TRANSIENT_CEILING_MS = 10_000;
const REFUSED_INITIAL_MS = 1000;
const REFUSED_CEILING_MS = 300_000;
/** A connection that lived this long was a good one, whatever ended it. */
const PROVEN_MS = 60_000;
/** One that ended sooner was cut short. */
const SHORT_LIVED_MS = 2000;
/** After so many of these in a row somebody is taken to be in the way. */
const SHORT_LIVED_MAX = 5;
const CONTESTED = 'It ends soon after each start: another client may have the same client id.';

/** One connection, as lent to its user. */
export interface Session {
  /** Aborts when the connection has ended or is to be given up. */
  readonly signal: AbortSignal;
  /** How long there was no connection before this one; undefined for the first. */
  readonly outageMs: number | undefined;
  /** Tells that something was delivered, so that the next loss does not count as a refusal. */
  progress(): void;
}

export interface ConnectionStatus {
  readonly state: ConnectionState;
  /** How long it has been in this state. */
  readonly stateMs: number;
  /** Why it is not connected, in words for a person. */
  readonly reason?: string;
  readonly kind?: FailureKind;
  /** Attempts since the last success. */
  readonly failedAttempts: number;
  /** Time to the next attempt while backing off. */
  readonly nextAttemptMs?: number;
  readonly connectsTotal: number;
}

export interface ConnectionOptions {
  /** `$upstream`, or the name under `endpoints:`. */
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

interface Ending extends EndpointClosed {
  readonly retryAfterMs?: number;
  /** Nothing answered at all, as opposed to a peer that refuses. */
  readonly unreachable?: boolean;
  /** What failed, by its codes: a text may hold numbers that change each time. */
  readonly cause?: string;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #transient: Backoff;
  readonly #refused: Backoff;
  readonly #network = new Notifier();
  #state: ConnectionState = 'idle';
  #stateSinceMs: number;
  #ending: Ending | undefined;
  #failedAttempts = 0;
  #connectsTotal = 0;
  #nextAttemptAtMs: number | undefined;
  #lostAtMs: number | undefined;
  /** Connections in a row that were cut short. */
  #shortLived = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#transient = new Backoff({
      initialMs: TRANSIENT_INITIAL_MS,
      ceilingMs: TRANSIENT_CEILING_MS,
      random: options.random,
    });
    this.#refused = new Backoff({
      initialMs: REFUSED_INITIAL_MS,
      ceilingMs: REFUSED_CEILING_MS,
      random: options.random,
    });
    this.#stateSinceMs = options.clock.monotonicMs();
  }

  /** Connects again and again and lends each connection to `use`, until the signal aborts. Never rejects. */
  async run(signal: AbortSignal, use: (session: Session) => Promise<void>): Promise<void> {
    try {
      while (!signal.aborted) {
        const ending = (await this.#reach(signal)) ?? (await this.#connect(signal, use));
        if (!signal.aborted) await this.#backOff(ending, signal);
      }
    } catch (error) {
      if (!isGatewayError(error, 'GW_ABORTED')) throw error;
    } finally {
      await this.#options.endpoint.close();
      this.#enter('idle');
    }
  }

  /** The system saw a network change (an address, a route, a carrier): waits for reachability end now. */
  networkChanged(): void {
    this.#network.notify();
  }

  /** Shown from now on instead of `connected`, while what is in flight is waited for. */
  drain(): void {
    if (this.#state === 'connected') this.#enter('draining');
  }

  status(): ConnectionStatus {
    const now = this.#options.clock.monotonicMs();
    return {
      state: this.#state,
      stateMs: now - this.#stateSinceMs,
      ...(this.#ending !== undefined && { reason: this.#ending.reason, kind: this.#ending.kind }),
      failedAttempts: this.#failedAttempts,
      ...(this.#nextAttemptAtMs !== undefined && { nextAttemptMs: Math.max(0, this.#nextAttemptAtMs - now) }),
      connectsTotal: this.#connectsTotal,
    };
  }

  #enter(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#stateSinceMs = this.#options.clock.monotonicMs();
  }

  #fail(ending: Ending): void {
    this.#failedAttempts += 1;
    this.#ending = ending;
    this.#options.telemetry.emit('endpoint_unreachable', {
      // Of its own for each endpoint and each cause: none hides another, and a change of the cause is said at once.
      key: `${this.#options.name} ${ending.cause ?? ending.kind}`,
      endpoint: this.#options.name,
      target: this.#options.endpoint.target,
      kind: ending.kind,
      reason: ending.reason,
      attempts: this.#failedAttempts,
    });
  }

  /** Resolves once a bare connect has succeeded, or with the refusal of a peer that answers it. */
  async #reach(signal: AbortSignal): Promise<Ending | undefined> {
    const { clock, endpoint, random } = this.#options;
    this.#enter('probing');
    const probing = new AbortController();
    const probeSignal = AbortSignal.any([signal, probing.signal]);
    const changed = new Notifier();
    let underWay = 0;
    let reached = false;
    let refused: Ending | undefined;
    const probe = async (): Promise<void> => {
      underWay += 1;
      try {
        await endpoint.probe(probeSignal);
        reached = true;
        changed.notify();
      } catch (error) {
        if (probeSignal.aborted) return;
        const ending = endingOf(error);
        this.#fail(ending);
        if (!isRefusal(ending.kind)) return;
        refused = ending;
        // The other probes would be refused as well, and each counts against the account.
        probing.abort();
        changed.notify();
      } finally {
        underWay -= 1;
      }
    };
    try {
      while (!reached && refused === undefined) {
        if (underWay < PROBES_AT_ONCE) void probe();
        const pauseMs = probePauseMs(random);
        await firstOf(signal, (wait) => [clock.sleep(pauseMs, wait), changed.wait(wait), this.#network.wait(wait)]);
      }
    } finally {
      probing.abort();
    }
    return reached ? undefined : refused;
  }

  /** One attempt and, when it succeeds, the whole life of the connection. */
  async #connect(signal: AbortSignal, use: (session: Session) => Promise<void>): Promise<Ending> {
    const { clock, endpoint, name, telemetry } = this.#options;
    this.#enter('connecting');
    try {
      await endpoint.open(signal);
    } catch (error) {
      const ending = endingOf(error);
      if (!signal.aborted) this.#fail(ending);
      return ending;
    }
    const connectedAtMs = clock.monotonicMs();
    const outageMs = this.#lostAtMs === undefined ? undefined : connectedAtMs - this.#lostAtMs;
    this.#connectsTotal += 1;
    this.#ending = undefined;
    this.#failedAttempts = 0;
    this.#enter('connected');
    const { note, target } = endpoint;
    telemetry.emit('endpoint_connected', { endpoint: name, target, outageMs, ...(note !== undefined && { note }) });

    const lost = new AbortController();
    let ending: Ending = { kind: 'transient', reason: 'Closed by Fieldpost.' };
    const closed = endpoint.closed().then((reason) => {
      ending = reason;
      lost.abort();
    });
    let progressed = false;
    await use({
      signal: AbortSignal.any([signal, lost.signal]),
      outageMs,
      progress: () => {
        progressed = true;
      },
    });
    await endpoint.close();
    await closed;
    this.#lostAtMs = clock.monotonicMs();
    if (signal.aborted) return ending;
    const livedMs = this.#lostAtMs - connectedAtMs;
    this.#shortLived = livedMs < SHORT_LIVED_MS ? this.#shortLived + 1 : 0;
    const isContested = this.#shortLived > SHORT_LIVED_MAX;
    if (isContested) ending = { ...ending, reason: `${ending.reason} ${CONTESTED}` };
    this.#ending = ending;
    telemetry.emit('endpoint_disconnected', { endpoint: name, target: endpoint.target, ...ending });
    if (livedMs >= PROVEN_MS || (progressed && !isRefusal(ending.kind) && !isContested)) {
      this.#transient.reset();
      this.#refused.reset();
    }
    return ending;
  }

  async #backOff(ending: Ending, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    if (ending.unreachable === true) {
      // As steady as the probes: a bare connect that succeeds says little where it ends at a proxy.
      this.#enter('probing');
      const pauseMs = probePauseMs(random);
      await firstOf(signal, (wait) => [clock.sleep(pauseMs, wait), this.#network.wait(wait)]);
      return;
    }
    const refusal = isRefusal(ending.kind);
    const waitMs = refusal ? this.#refused.next(ending.retryAfterMs) : this.#transient.next(ending.retryAfterMs);
    this.#enter('backing_off');
    this.#nextAttemptAtMs = clock.monotonicMs() + waitMs;
    try {
      await firstOf(signal, (wait) =>
        refusal ? [clock.sleep(waitMs, wait)] : [clock.sleep(waitMs, wait), this.#network.wait(wait)],
      );
    } finally {
      this.#nextAttemptAtMs = undefined;
    }
  }
}

function probePauseMs(random: Random): number {
  return jitter(PROBE_PERIOD_MS * 0.75, 0.25, random);
}

/** Kinds that mean: the peer is there and does not want this now. */
function isRefusal(kind: FailureKind): boolean {
  return kind === 'unauthorized' || kind === 'throttled' || kind === 'invalid';
}

function endingOf(error: unknown): Ending {
  if (!isGatewayError(error)) return { kind: 'transient', reason: errorText(error) };
  const { retryAfterMs, reasonCode } = error.details;
  const detail = systemCode(error) ?? (typeof reasonCode === 'number' ? `code ${reasonCode}` : undefined);
  return {
    kind: error.kind,
    reason: error.message,
    ...(typeof retryAfterMs === 'number' && { retryAfterMs }),
    // No connection came about, here or beyond a proxy; a peer that accepted and then failed has another code.
    unreachable: error.code === 'GW_CONNECT',
    cause: detail === undefined ? error.code : `${error.code} ${detail}`,
  };
}

/** Waits for the first of some waits and ends the others. @throws GatewayError GW_ABORTED when `signal` aborts. */
async function firstOf(signal: AbortSignal, waits: (signal: AbortSignal) => Promise<void>[]): Promise<void> {
  const done = new AbortController();
  const both = AbortSignal.any([signal, done.signal]);
  const all = waits(both);
  try {
    await Promise.race(all);
  } finally {
    done.abort();
    // The losers reject with GW_ABORTED.
    await Promise.allSettled(all);
  }
}
