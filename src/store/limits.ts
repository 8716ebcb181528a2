// What a commit evicts so that the log and its queues keep to their limits, and how every loss is told: as an event, and as a
// message of the gateway's own device in the same batch.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import type { OutboxEntry, OutboxSettings } from '../core/outbox.ts';
import type { CommitBatch } from './commit-batch.ts';
import { eventMessage, type DropEvent, type DropLedger, type QuarantineEvent } from './drop-ledger.ts';
import type { CommitJob } from './group-commit.ts';
import type { LogReader } from './log-reader.ts';
import { headOffset, liveBytes, type LogState } from './log-state.ts';
import type { QueueState } from './queue-state.ts';
import {
  ageStepMs,
  dropFromHead,
  dropFromQueue,
  dropStepBytes,
  dropToQuota,
  refreshHead,
  type DropContext,
} from './retention.ts';
import type { Space } from './space.ts';

/** What it needs of the engine. */
export interface LimitsHost {
  readonly state: LogState;
  readonly reader: LogReader;
  readonly space: Space;
  readonly clock: Clock;
  readonly settings: OutboxSettings;
  quotaBytes(): number;
}

export class Limits {
  readonly #core: LimitsHost;
  readonly #gatewayId: DeviceId;

  constructor(core: LimitsHost, gatewayId: DeviceId) {
    this.#core = core;
    this.#gatewayId = gatewayId;
  }

  /** Evicts what is over a limit once the group is in. */
  async enforce(batch: CommitBatch, ledger: DropLedger, group: readonly CommitJob[]): Promise<void> {
    const { state, settings, space, reader } = this.#core;
    const context = this.context(batch, ledger);
    const { head } = state;
    batch.onUndo(() => {
      state.head = head;
    });
    if (this.headIsTooOld()) {
      const oldestMs = state.shelf.nowMs() - settings.maxAgeSecs * 1000;
      await dropFromHead(context, 'max_age', (head) => head.shelfMs >= oldestMs);
    }
    let incoming = 0;
    for (const job of group) incoming += job.bytes;
    if (space.isShort(settings)) await space.refresh(true);
    if (settings.whenFull === 'drop_oldest' && liveBytes(state) + incoming > this.#core.quotaBytes()) {
      await refreshHead(state, reader);
      const quota = this.#core.quotaBytes();
      const reason = quota < settings.maxBytes ? 'min_free_bytes' : 'max_bytes';
      if (liveBytes(state) + incoming > quota) await dropToQuota(context, quota, incoming, reason);
    }
    for (const queue of state.queues.values()) {
      if (queue.maxBytes === undefined || queue.bytes + incoming <= queue.maxBytes) continue;
      const target = Math.max(0, queue.maxBytes - incoming - dropStepBytes(queue.maxBytes));
      await dropFromQueue(context, queue, target);
    }
    if (batch.events.length > 0 || ledger.size > 0) batch.checkpoint = true;
  }

  headIsTooOld(): boolean {
    const { state, settings } = this.#core;
    const { shelfMs } = state.head;
    const { maxAgeSecs } = settings;
    if (maxAgeSecs <= 0 || shelfMs === undefined || headOffset(state) === state.tail) return false;
    return state.shelf.nowMs() - shelfMs > maxAgeSecs * 1000 + ageStepMs(maxAgeSecs);
  }

  /** For a walk that takes messages out of queues within that commit. */
  context(batch: CommitBatch, ledger: DropLedger): DropContext {
    const { state, reader } = this.#core;
    return {
      state,
      reader,
      ledger,
      gatewayId: this.#gatewayId,
      onUndo: (undo) => batch.onUndo(undo),
      unreadable: (queue, messages) => {
        const event = this.#damageEvent(queue, messages);
        batch.events.push(event);
        batch.add(this.eventEntry(event));
      },
    };
  }

  /** Adds what the commit loses to its events and messages. */
  tell(batch: CommitBatch, ledger: DropLedger): void {
    const events = ledger.events([...this.#core.state.queues.keys()]);
    batch.events.push(...events);
    const news = ledger.news(events);
    // The loss of nothing but such events (they expire too) is told, but makes no new message: else it would never end.
    if (news.every(({ deviceId, from }) => deviceId === this.#gatewayId && from !== undefined)) return;
    for (const event of news) batch.add(this.eventEntry(event));
  }

  #damageEvent(queue: QueueState, messages: number): DropEvent {
    return {
      kind: 'dropped',
      reason: 'damaged',
      deviceId: this.#gatewayId,
      epoch: this.#core.state.epoch,
      count: messages,
      queue: queue.name,
    };
  }

  eventEntry(event: DropEvent | QuarantineEvent): OutboxEntry {
    // Queues that take all need no mention; what every queue lost concerns the routed ones too.
    const queues = event.queue === undefined ? [...this.#core.state.queues.keys()] : [UPSTREAM_ENDPOINT, event.queue];
    return { message: eventMessage(event, this.#gatewayId, this.#core.clock.now()), queues };
  }
}
