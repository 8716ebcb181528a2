// The choice among protocols: the best one that goes through. One that does not connect gives way to the next; on a lesser one the
// better ones are tried again after a while, less and less often. Whose identity carries a message is the same over each.

import {
  errorText,
  GatewayError,
  isGatewayError,
  jitter,
  systemRandom,
  type Clock,
  type DeliveryResult,
  type EndpointClosed,
  type EndpointContext,
  type UpstreamTransport,
} from '#sdk';
import { NEVER_OPENED } from './device-links.ts';

export interface ProtocolCandidate {
  /** For people: `amqp`. */
  readonly name: string;
  readonly transport: UpstreamTransport;
}

/** From one look for something better to the next. */
const LOOK_INITIAL_MS = 5 * 60_000;
const LOOK_CEILING_MS = 60 * 60_000;
/** Longest wait for what is unanswered before a connection is given up for a better one. */
const LEAVE_MS = 30_000;

/** @param candidates the best first; at least one. */
export function createAutoTransport(
  candidates: readonly [ProtocolCandidate, ...ProtocolCandidate[]],
  { clock, log }: Pick<EndpointContext, 'clock' | 'log'>,
): UpstreamTransport {
  const [best] = candidates;
  const transports = candidates.map(({ transport }) => transport);
  let current: { readonly candidate: ProtocolCandidate; readonly closed: Promise<EndpointClosed> } | undefined;
  /** Which one is tried first. */
  let firstTried = 0;
  /** Why the better ones are not used. */
  let note: string | undefined;
  let lookMs = LOOK_INITIAL_MS;
  let cancelLook: (() => void) | undefined;
  const sending = new Set<Promise<unknown>>();

  async function connect(candidate: ProtocolCandidate, signal: AbortSignal): Promise<void> {
    const { transport } = candidate;
    await transport.open(signal);
    const closed = transport.closed();
    current = { candidate, closed };
    void closed.then(() => cancelLook?.());
  }

  /** Looks whether a better one could be reached, and if so has the connection made anew. */
  async function look(used: number): Promise<void> {
    const found = await firstReachable(transports.slice(0, used), clock);
    lookMs = Math.min(LOOK_CEILING_MS, 2 * lookMs);
    if (current?.candidate !== candidates[used]) return;
    if (found === undefined) {
      lookLater(used);
      return;
    }
    firstTried = found;
    const patience = new AbortController();
    const late = clock.sleep(LEAVE_MS, patience.signal).catch(() => {});
    await Promise.race([Promise.all(sending), late]);
    patience.abort();
    if (current?.candidate === candidates[used]) await current?.candidate.transport.close();
  }

  function lookLater(used: number): void {
    cancelLook?.();
    cancelLook = clock.after(jitter(lookMs, 0.1, systemRandom), () => void look(used));
  }

  return {
    get target() {
      return (current?.candidate ?? best).transport.target;
    },
    get capabilities() {
      return (current?.candidate ?? best).transport.capabilities;
    },
    get waiting() {
      return current?.candidate.transport.waiting;
    },
    get isSilent() {
      return current?.candidate.transport.isSilent;
    },
    get note() {
      return note;
    },
    probe: async (signal) => {
      const done = new AbortController();
      const both = AbortSignal.any([signal, done.signal]);
      try {
        await Promise.any(transports.map((transport) => transport.probe(both)));
      } catch (error) {
        throw error instanceof AggregateError ? error.errors[0] : error;
      } finally {
        done.abort();
      }
    },
    open: async (signal) => {
      const failures: { readonly name: string; readonly error: unknown }[] = [];
      // What worked last time first, so that data flows soon after an outage; then the others, the best first.
      const order = [...candidates.keys()].toSorted(
        (a, b) => Number(b === firstTried) - Number(a === firstTried) || a - b,
      );
      for (const index of order) {
        const candidate = candidates[index] as ProtocolCandidate;
        try {
          await connect(candidate, signal);
        } catch (error) {
          // A hub that answers and refuses would do so over the others as well.
          if (signal.aborted || isRefusal(error)) throw error;
          failures.push({ name: candidate.name, error });
          continue;
        }
        firstTried = index;
        if (index === 0) {
          note = undefined;
          lookMs = LOOK_INITIAL_MS;
        } else {
          if (failures.length > 0) note = noteOf(candidate.name, failures);
          lookLater(index);
          log.warn({ protocol: candidate.name, reason: note }, 'The hub is reached over a lesser protocol.');
        }
        return;
      }
      throw allFailed(failures);
    },
    receiveCommands: (receiver) => {
      for (const transport of transports) transport.receiveCommands?.(receiver);
    },
    receiveTwins: (receiver) => {
      for (const transport of transports) transport.receiveTwins?.(receiver);
    },
    closed: () => current?.closed ?? Promise.resolve(NEVER_OPENED),
    send: (batch, signal) => {
      if (current === undefined)
        return Promise.resolve(batch.map((): DeliveryResult => ({ status: 'retry', ...NEVER_OPENED })));
      const sent = current.candidate.transport.send(batch, signal);
      sending.add(sent);
      void sent.then(() => sending.delete(sent));
      return sent;
    },
    close: async () => {
      cancelLook?.();
      await current?.candidate.transport.close();
    },
    cut: (reason) => {
      cancelLook?.();
      current?.candidate.transport.cut?.(reason);
    },
  };
}

/** The place of the best that a bare connect reaches. */
async function firstReachable(transports: readonly UpstreamTransport[], clock: Clock): Promise<number | undefined> {
  for (const [index, transport] of transports.entries()) {
    const patience = new AbortController();
    const cancel = clock.after(LEAVE_MS, () => patience.abort());
    try {
      await transport.probe(patience.signal);
      return index;
    } catch {
      // Not this one.
    } finally {
      cancel();
    }
  }
  return undefined;
}

/** Of the hub, or of a proxy whatever is asked of it; one that does not allow a port may allow another. */
function isRefusal(error: unknown): boolean {
  if (!isGatewayError(error, 'GW_UNAUTHORIZED')) return isGatewayError(error, 'GW_THROTTLED');
  return error.details['isForTarget'] !== true;
}

function noteOf(name: string, failures: readonly { readonly name: string; readonly error: unknown }[]): string {
  const why = failures.map((failure) => `${failure.name}: ${errorText(failure.error)}`).join(' ');
  return `Connected over ${name}. ${why}`;
}

function allFailed(failures: readonly { readonly name: string; readonly error: unknown }[]): GatewayError {
  const text = failures.map(({ name, error }) => `${name}: ${errorText(error)}`).join(' ');
  const [first] = failures;
  if (!isGatewayError(first?.error)) return new GatewayError('GW_CONNECT', text, { cause: first?.error });
  return new GatewayError(first.error.code, text, { kind: first.error.kind, cause: first.error });
}
