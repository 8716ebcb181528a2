// Sends messages one at a time while one of them is suspected of killing its connection (poison.ts).

import type { DeliveryResult } from '../core/delivery.ts';
import type { Endpoint } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { messageBytes, type StoredMessage } from '../core/message.ts';
import type { Lane, OutboxQueue } from '../core/outbox.ts';
import type { Session } from './connection.ts';
import type { Meter } from './meter.ts';
import { SUSPECTED_POISON, type PoisonTracker } from './poison.ts';
import type { Prepare } from './prepare.ts';

/** Neighbours looked at beside the messages that were tried alone already. */
const NEIGHBOURS = 16;
/** In strict order a neighbour overtakes a suspect only after it alone has lost the connection this often. */
const STRICT_ALONE_DROPS = 3;

export interface IsolationOptions {
  readonly endpoint: Endpoint;
  readonly queue: OutboxQueue;
  readonly order: 'live_first' | 'strict';
  readonly prepare: Prepare;
  readonly meter: Meter;
  readonly poison: PoisonTracker;
  /** True when the session ends because Fieldpost ends it: then a lost connection says nothing. */
  readonly stopping: () => boolean;
  /** Gives one message back that was not sent. */
  readonly giveBack: (stored: StoredMessage) => Promise<void>;
  /** Settles one message by the answer to it. */
  readonly settle: (stored: StoredMessage, result: DeliveryResult) => Promise<void>;
}

const NO_ANSWER: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'No answer.' });
const POISONOUS: DeliveryResult = Object.freeze({ status: 'rejected', reason: SUSPECTED_POISON });

/**
 * Sends with window 1 until nothing is suspected or the session ends. Untried messages go first: one that passes proves
 * that the link is sound, so that the loss of the connection with the next one counts against that one.
 */
export async function sendAlone(options: IsolationOptions, session: Session): Promise<void> {
  const { poison, settle } = options;
  while (poison.suspecting && !session.signal.aborted && !options.stopping()) {
    const candidates = await takeCandidates(options);
    // What was suspected has expired or was purged.
    if (candidates.length === 0) poison.clear();
    let stopped = false;
    let neighbourPassed = false;
    for (const stored of inSendingOrder(candidates, options)) {
      if (stopped || session.signal.aborted || options.stopping()) {
        await options.giveBack(stored);
        continue;
      }
      const result = await sendOne(stored, options, session.signal);
      const lost = session.signal.aborted && !options.stopping() && result.status === 'retry';
      const guilty = lost && poison.droppedAlone(stored.offset, neighbourPassed);
      await settle(stored, guilty ? POISONOUS : result);
      if (result.status === 'accepted') {
        neighbourPassed = true;
        session.progress();
      }
      stopped = result.status === 'retry';
    }
    if (stopped) return;
  }
}

async function sendOne(
  stored: StoredMessage,
  { endpoint, meter, prepare }: IsolationOptions,
  signal: AbortSignal,
): Promise<DeliveryResult> {
  try {
    const outgoing = await prepare([stored]);
    for (const { message } of outgoing) meter.add('live', messageBytes(message));
    const [result] = await endpoint.send(outgoing, signal);
    return result ?? NO_ANSWER;
  } catch (error) {
    // `send` never rejects, so the message could not be prepared.
    return { status: 'retry', kind: 'transient', reason: errorText(error) };
  }
}

async function takeCandidates({ queue, order, poison }: IsolationOptions): Promise<StoredMessage[]> {
  const lanes: Lane[] = order === 'strict' ? ['live'] : ['history', 'live'];
  const maxMessages = Math.min(NEIGHBOURS + poison.triedAlone, LIMITS.queue_in_flight_messages);
  const candidates: StoredMessage[] = [];
  for (const lane of lanes) {
    candidates.push(...(await queue.take(lane, { maxMessages, maxBytes: LIMITS.endpoint_in_flight_bytes })));
  }
  return candidates;
}

function inSendingOrder(candidates: StoredMessage[], { order, poison }: IsolationOptions): StoredMessage[] {
  const byOffset = candidates.sort((a, b) => a.offset - b.offset);
  const tried = byOffset.filter((stored) => poison.aloneDrops(stored.offset) > 0);
  const untried = byOffset.filter((stored) => poison.aloneDrops(stored.offset) === 0);
  if (order !== 'strict') return [...untried, ...tried];
  const [first] = byOffset;
  const [neighbour] = untried;
  if (first === undefined || neighbour === undefined || first === neighbour) return byOffset;
  if (poison.aloneDrops(first.offset) < STRICT_ALONE_DROPS) return byOffset;
  return [neighbour, ...byOffset.filter((stored) => stored !== neighbour)];
}
