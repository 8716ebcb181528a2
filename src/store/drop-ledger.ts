// Collects what one commit loses and turns it into events: one for each device, reason and queue, and run of `seq`.

import type { DeviceId } from '../core/device.ts';
import { PROPERTY_FIELDPOST_EVENT, type Message } from '../core/message.ts';
import type { DropReason, OutboxEvent, QueueName } from '../core/outbox.ts';
import type { Timestamp } from '../core/time.ts';

export type DropEvent = Extract<OutboxEvent, { kind: 'dropped' }>;
export type QuarantineEvent = Extract<OutboxEvent, { kind: 'quarantined' }>;

export interface LostMessage {
  readonly deviceId: DeviceId;
  readonly epoch: string;
  readonly seq: number;
  readonly reason: DropReason;
  /** Undefined: every queue. */
  readonly queue?: QueueName;
}

interface Run {
  readonly lost: LostMessage;
  readonly from: number;
  to: number;
  count: number;
}

export class DropLedger {
  readonly #runs: Run[] = [];
  /** The newest run of each device, epoch, reason and queue. */
  readonly #open = new Map<string, Run>();

  add(lost: LostMessage): void {
    const key = `${lost.reason} ${lost.queue ?? ''} ${lost.epoch} ${lost.deviceId}`;
    const open = this.#open.get(key);
    if (open !== undefined && open.to + 1 === lost.seq) {
      open.to = lost.seq;
      open.count += 1;
      return;
    }
    const run = { lost, from: lost.seq, to: lost.seq, count: 1 };
    this.#runs.push(run);
    this.#open.set(key, run);
  }

  get size(): number {
    return this.#runs.length;
  }

  events(): DropEvent[] {
    return this.#runs.map(({ lost, from, to, count }) => ({
      kind: 'dropped',
      reason: lost.reason,
      deviceId: lost.deviceId,
      epoch: lost.epoch,
      from,
      to,
      count,
      ...(lost.queue === undefined ? {} : { queue: lost.queue }),
    }));
  }
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
