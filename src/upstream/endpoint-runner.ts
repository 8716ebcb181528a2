// One endpoint at work: its connection, its pump, its queue. Each endpoint has a runner of its own and shares nothing
// with the others but the log, so that a dead endpoint never delays another.

import type { Clock } from '../core/clock.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { Message } from '../core/message.ts';
import type { OutboxQueue } from '../core/outbox.ts';
import type { HealthReport, Service } from '../core/service.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import type { Budget, BudgetStatus } from './budget.ts';
import { Connection, type ConnectionStatus, type Session } from './connection.ts';
import type { DrainRate } from './drain-rate.ts';
import { createMeter, type FlowBytes, type Meter } from './meter.ts';
import { PoisonTracker } from './poison.ts';
import { createPrepare, type SealMessage } from './prepare.ts';
import { Pump, type PumpStats } from './pump.ts';
import { watchStall } from './stall-watch.ts';

/** Longest wait at a stop for what is in flight, unless the caller's signal ends it sooner. */
const DRAIN_MS = 5000;
/** Pause after the queue itself failed: the store is being reopened. */
const QUEUE_FAILURE_PAUSE_MS = 1000;

export interface EndpointRunnerOptions {
  /** `$upstream`, or the name under `endpoints:`. */
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly queue: OutboxQueue;
  /** The queue's own order. */
  readonly order: 'live_first' | 'strict';
  /** True wall clock minus monotonic clock of a boot in ms, undefined while unknown: `outbox.clockOffset`. */
  readonly clockOffset: (bootId: string) => number | undefined;
  /** Undefined: bodies leave as they are. */
  readonly seal?: SealMessage | undefined;
  /** Default: one of its own, without a budget. */
  readonly meter?: Meter;
  readonly budget?: Budget | undefined;
  readonly drainRate?: DrainRate | undefined;
  /** What goes although the budget is spent, and past the rate of the history. Default: nothing. */
  readonly isUrgent?: ((message: Message) => boolean) | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

/** What people and metrics see of an endpoint. */
export interface EndpointStatus extends ConnectionStatus, PumpStats {
  readonly name: string;
  /** Where it goes, without credentials. */
  readonly target: string;
  /** What people should know of the way in which it is connected. */
  readonly note: string | undefined;
  /** A message is suspected of ending its connection, and the queue goes one message at a time. */
  readonly isolating: boolean;
  readonly bytes: FlowBytes;
  readonly budget: BudgetStatus | undefined;
}

export interface EndpointRunner extends Service {
  /** The system saw a network change: an endpoint that cannot be reached is tried now. */
  networkChanged(): void;
  status(): EndpointStatus;
}

export function createEndpointRunner(options: EndpointRunnerOptions): EndpointRunner {
  const { clock, endpoint, name, telemetry } = options;
  const connection = new Connection(options);
  const poison = new PoisonTracker();
  const { budget, meter = createMeter(budget) } = options;
  const pump = new Pump({ ...options, meter, poison, prepare: createPrepare(options) });
  const running = new AbortController();
  let loop: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;

  const use = async (session: Session): Promise<void> => {
    let answers = 0;
    void watchStall({
      clock,
      endpoint,
      // What was given up for the peer's silence is unanswered still. What waits for its leave is no sign of a dead link.
      inFlight: () => {
        if (endpoint.isSilent === true) return 1;
        return endpoint.waiting === undefined ? pump.stats().inFlight : 0;
      },
      answers: () => {
        if (endpoint.isSilent !== true) answers = answersOf(pump.stats());
        return answers;
      },
      signal: session.signal,
    }).then((isDead) => {
      if (isDead) endpoint.cut?.('Nothing was answered, and the peer takes new connections again.');
    });
    try {
      await pump.run(session);
    } catch (error) {
      telemetry.emit('endpoint_failed', { key: name, endpoint: name, reason: errorText(error) });
      await clock.sleep(QUEUE_FAILURE_PAUSE_MS, session.signal).catch(() => {});
    }
  };

  const stop = async (signal: AbortSignal): Promise<void> => {
    connection.drain();
    const deadline = new AbortController();
    const cancel = clock.after(DRAIN_MS, () => deadline.abort());
    await pump.drain(AbortSignal.any([signal, deadline.signal]));
    cancel();
    running.abort();
    await loop;
    await budget?.stop();
  };

  const pumpStats = (): PumpStats => {
    const stats = pump.stats();
    return { ...stats, pausedReason: stats.pausedReason ?? endpoint.waiting };
  };

  return {
    name: `endpoint ${name}`,
    start: async () => {
      if (budget !== undefined) await budget.start(() => pump.wake());
      // This is not awaited: a peer that is away is not a failure of the start.
      loop ??= connection.run(running.signal, use);
    },
    stop: (signal) => (stopping ??= stop(signal)),
    networkChanged: () => connection.networkChanged(),
    status: () => ({
      name,
      target: endpoint.target,
      note: endpoint.note,
      ...connection.status(),
      ...pumpStats(),
      isolating: poison.suspecting,
      bytes: meter.totals(),
      budget: budget?.status(),
    }),
    health: () => healthOf(connection.status(), pumpStats(), endpoint.impaired, loop !== undefined),
  };
}

function answersOf({ deliveredTotal, retriedTotal, rejectedTotal }: PumpStats): number {
  return deliveredTotal + retriedTotal + rejectedTotal;
}

/** So many in a row, and not one that passed, are no matter of single messages. */
const REJECTED_IN_ROW = 10;

function takingHealth({ rejectedInRow, rejectedReason }: PumpStats): HealthReport | undefined {
  if (rejectedInRow < REJECTED_IN_ROW) return undefined;
  const reason = `The last ${rejectedInRow} messages were refused and are in the quarantine: ${rejectedReason ?? ''}`;
  return { status: 'degraded', reason };
}

function healthOf(
  connection: ConnectionStatus,
  pump: PumpStats,
  impaired: string | undefined,
  started: boolean,
): HealthReport {
  if (!started) return { status: 'stopped' };
  switch (connection.state) {
    case 'idle':
      return { status: 'stopped' };
    case 'draining':
      return { status: 'draining' };
    case 'connected':
      if (pump.pausedReason !== undefined) return { status: 'degraded', reason: pump.pausedReason };
      return (
        takingHealth(pump) ??
        (impaired === undefined ? { status: 'running' } : { status: 'degraded', reason: impaired })
      );
    case 'probing':
    case 'connecting':
    case 'backing_off':
      return connection.reason === undefined
        ? { status: 'starting' }
        : { status: 'degraded', reason: connection.reason };
  }
}
