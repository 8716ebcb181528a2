// Collects what one commit loses and turns it into events: one for each device, reason and queue, and run of `seq`.

import type { DeviceId } from '../core/device.ts';
import { PROPERTY_FIELDPOST_EVENT, type Message } from '../core/message.ts';
import type { DropReason, OutboxEvent, QueueName } from '../core/outbox.ts';
import type { Timestamp } from '../core/time.ts';

export type DropEvent = Extract<OutboxEvent, { kind: 'dropped' }>;
export type QuarantineEvent = Extract<OutboxEvent, { kind: 'quarantined' }>;

/** A loss that was told before, by a message that is now lost itself. */
export interface ToldLoss {
  readonly deviceId: DeviceId;
  readonly epoch: string;
  readonly reason: DropReason;
  readonly queue: QueueName | undefined;
  readonly from: number;
  readonly to: number;
}

export interface LostMessage {
  readonly deviceId: DeviceId;
  readonly epoch: string;
  readonly seq: number;
  readonly reason: DropReason;
  readonly queue: QueueName;
  /** The queue takes a part only: what lies between two losses was never its, and ends no run. */
  readonly routed?: boolean;
  /** It left the quarantine: its number is out of the order of the others. */
  readonly again?: boolean;
}

interface Run {
  readonly lost: LostMessage;
  readonly from: number;
  to: number;
  count: number;
}

/** One event message with its share of the chunk. */
export const NEWS_BYTES = 320;

export class DropLedger {
  /** The commit tells what limits took; else that waits for a later one. */
  tellsLimits = false;
  readonly #runs: Run[] = [];
  /** The newest run of each device, epoch, reason and queue; those that left the quarantine apart. */
  readonly #open = new Map<string, Run>();
  /** Told before, joined by device, epoch, reason and queue: a long outage makes one news message of many. */
  readonly #told = new Map<string, ToldLoss>();
  /** Device, epoch and reason of all of them. */
  readonly #sources = new Set<string>();
  #messages = 0;

  add(lost: LostMessage): void {
    this.#messages += 1;
    const again = lost.again === true;
    const key = `${lost.reason} ${lost.queue} ${lost.epoch} ${lost.deviceId} ${again}`;
    const open = this.#open.get(key);
    const passesOthers = lost.routed === true && !again;
    if (open !== undefined && (open.to + 1 === lost.seq || (passesOthers && open.to < lost.seq))) {
      open.to = lost.seq;
      open.count += 1;
      return;
    }
    this.#sources.add(`${lost.reason} ${lost.epoch} ${lost.deviceId}`);
    const run = { lost, from: lost.seq, to: lost.seq, count: 1 };
    this.#runs.push(run);
    this.#open.set(key, run);
  }

  /** A run that is known as a whole: `count` messages within the numbers `from` to `to`. */
  addRange(lost: Omit<LostMessage, 'seq'>, range: { from: number; to: number; count: number }): void {
    this.#messages += range.count;
    this.#sources.add(`${lost.reason} ${lost.epoch} ${lost.deviceId}`);
    this.#runs.push({ lost: { ...lost, seq: range.from }, ...range });
  }

  /** Keeps the news of an event message that is lost: it is told again, with what follows it. */
  tellAgain(loss: ToldLoss): void {
    const key = `${loss.reason} ${loss.queue ?? ''} ${loss.epoch} ${loss.deviceId}`;
    const before = this.#told.get(key) ?? loss;
    this.#told.set(key, { ...loss, from: Math.min(before.from, loss.from), to: Math.max(before.to, loss.to) });
    this.#sources.add(`${loss.reason} ${loss.epoch} ${loss.deviceId}`);
  }

  /** About what the messages will take in the log, so that telling a loss does not break the limit that caused it. */
  get newsBytes(): number {
    return this.tellsLimits ? this.#sources.size * NEWS_BYTES : 0;
  }

  get size(): number {
    return this.#runs.length;
  }

  /** Messages lost by this commit, counted for each queue. */
  get messages(): number {
    return this.#messages;
  }

  /** What this commit loses; one event without `queue` where each of the queues named loses the same. */
  events(queues: readonly QueueName[]): DropEvent[] {
    const same = new Map<string, Run[]>();
    for (const run of this.#runs) {
      const { reason, epoch, deviceId } = run.lost;
      const key = `${reason} ${epoch} ${deviceId} ${run.from} ${run.to} ${run.count}`;
      const runs = same.get(key);
      if (runs === undefined) same.set(key, [run]);
      else runs.push(run);
    }
    return [...same.values()].flatMap((runs) => {
      const losers = new Set(runs.map(({ lost }) => lost.queue));
      const [first] = runs;
      if (first !== undefined && queues.every((name) => losers.has(name))) return [dropEvent(first)];
      return runs.map((run) => dropEvent(run, run.lost.queue));
    });
  }

  /**
   * The events as messages tell them: joined with what lost messages had told, so that the news of a device stays one
   * message, however often its message is lost.
   */
  news(events: readonly DropEvent[]): DropEvent[] {
    if (this.#told.size === 0) return [...events];
    const told = [...this.#told.values()].map(({ deviceId, epoch, reason, queue, from, to }): DropEvent => {
      const lost = { kind: 'dropped', reason, deviceId, epoch, from, to, count: to - from + 1 } as const;
      return queue === undefined ? lost : { ...lost, queue };
    });
    return joinNews([...told, ...events]);
  }
}

/** Joined by device, epoch, reason and queue. */
export function joinNews(events: readonly DropEvent[]): DropEvent[] {
  const ranges = new Map<string, DropEvent[]>();
  for (const event of events) {
    const key = `${event.reason} ${event.queue ?? ''} ${event.epoch} ${event.deviceId} ${event.from === undefined}`;
    const list = ranges.get(key);
    if (list === undefined) ranges.set(key, [event]);
    else list.push(event);
  }
  return [...ranges.values()].flatMap(joinRanges);
}

function dropEvent({ lost, from, to, count }: Run, queue?: QueueName): DropEvent {
  const { reason, deviceId, epoch } = lost;
  const event = { kind: 'dropped', reason, deviceId, epoch, from, to, count } as const;
  return queue === undefined ? event : { ...event, queue };
}

/** One range over all: quotas take the oldest first, so that what lies between was delivered or is told as lost as well. */
function joinRanges(events: readonly DropEvent[]): DropEvent[] {
  const [first] = events;
  if (first?.from === undefined) return [...events];
  const from = Math.min(...events.map((event) => event.from ?? Number.POSITIVE_INFINITY));
  const to = Math.max(...events.map((event) => event.to ?? 0));
  return [{ ...first, from, to, count: to - from + 1 }];
}

/** What a message made by `eventMessage` told of a loss; undefined when it told something else. */
export function readToldLoss(message: Message): ToldLoss | undefined {
  if (message.properties[PROPERTY_FIELDPOST_EVENT] !== 'dropped') return undefined;
  let body: Omit<ToldLoss, 'deviceId' | 'from' | 'to'> & { device: DeviceId; from?: number; to?: number };
  try {
    body = JSON.parse(Buffer.from(message.body).toString('utf8')) as typeof body;
  } catch {
    // Not from here, whatever its properties say: it must not stop the commit that drops it.
    return undefined;
  }
  const { device: deviceId, epoch, from, to, queue, reason } = body;
  return from === undefined || to === undefined ? undefined : { deviceId, epoch, from, to, queue, reason };
}

const EVENT_SYSTEM_PROPERTIES = Object.freeze({ contentType: 'application/json', contentEncoding: 'utf-8' });

/** The message of the gateway's own device that tells a drop or a quarantine, so that a consumer can tell loss from lateness. */
export function eventMessage(event: DropEvent | QuarantineEvent, gatewayId: DeviceId, time: Timestamp): Message {
  const body =
    event.kind === 'dropped'
      ? {
          event: event.kind,
          device: event.deviceId,
          epoch: event.epoch,
          ...(event.from === undefined ? { count: event.count } : { from: event.from, to: event.to }),
          ...(event.queue === undefined ? {} : { queue: event.queue }),
          reason: event.reason,
        }
      : {
          event: event.kind,
          device: event.deviceId,
          epoch: event.epoch,
          seq: event.seq,
          queue: event.queue,
          reason: event.reason,
        };
  return {
    deviceId: gatewayId,
    body: Buffer.from(JSON.stringify(body), 'utf8'),
    properties: { [PROPERTY_FIELDPOST_EVENT]: event.kind },
    systemProperties: EVENT_SYSTEM_PROPERTIES,
    time,
  };
}
