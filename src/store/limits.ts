// What a commit evicts so that the log and its queues keep to their limits, and how every loss is told: as an event, and by a
// message of the gateway's own device, in the same batch or joined with others after a while.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { UPSTREAM_ENDPOINT } from '../core/endpoint.ts';
import { LIMITS } from '../core/limits.ts';
import type { DropReason, OutboxEntry, OutboxSettings } from '../core/outbox.ts';
import type { CommitBatch } from './commit-batch.ts';
import {
  eventMessage,
  joinNews,
  NEWS_BYTES,
  type DropEvent,
  type DropLedger,
  type QuarantineEvent,
} from './drop-ledger.ts';
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

/** What limits take is told at once after a quiet time, and then in messages this far apart. */
export const NEWS_INTERVAL_MS = 60_000;
const BY_LIMIT: ReadonlySet<DropReason> = new Set(['max_bytes', 'max_age', 'min_free_bytes', 'queue_max_bytes']);

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
  /** When a message last told what a limit took. What an earlier life left is told soon. */
  #toldMs = Number.NEGATIVE_INFINITY;
  /** Told by the commit under way. */
  #telling = 0;

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
    ledger.tellsLimits = this.#isDue();
    if (this.headIsTooOld()) {
      const oldestMs = state.shelf.nowMs() - settings.maxAgeSecs * 1000;
      await dropFromHead(context, 'max_age', (head) => head.shelfMs >= oldestMs);
    }
    let incoming = ledger.tellsLimits ? state.untold.length * NEWS_BYTES : 0;
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
      tellNow: (events) => {
        batch.events.push(...events);
        this.#addMessages(batch, events);
      },
      unreadable: (queue, messages) => {
        const event = this.#damageEvent(queue, messages);
        batch.events.push(event);
        batch.add(this.eventEntry(event));
      },
    };
  }

  /** Ranges that limits took and that no durable message tells. */
  get untoldLosses(): number {
    return this.#core.state.untold.length + this.#telling;
  }

  /** The commit is durable. */
  accepted(): void {
    this.#telling = 0;
  }

  /** What limits took is to be told now, though nothing comes in. */
  owed(): boolean {
    return this.#core.state.untold.length > 0 && this.#isDue();
  }

  #isDue(): boolean {
    return this.#core.clock.monotonicMs() - this.#toldMs >= NEWS_INTERVAL_MS;
  }

  /** Adds what the commit loses to its events, and to its messages what is told at once or has waited long enough. */
  tell(batch: CommitBatch, ledger: DropLedger): void {
    const { state } = this.#core;
    const events = ledger.events([...state.queues.keys()]);
    batch.events.push(...events);
    const news = ledger.news(events);
    const byLimit = news.filter(({ reason }) => BY_LIMIT.has(reason));
    this.#addMessages(
      batch,
      news.filter(({ reason }) => !BY_LIMIT.has(reason)),
    );
    this.#gather(batch, this.#isOwnOnly(byLimit) ? [] : byLimit, ledger.tellsLimits);
  }

  /** The loss of nothing but such events (they expire too) is told, but makes no new message: else it would never end. */
  #isOwnOnly(events: readonly DropEvent[]): boolean {
    return events.every(({ deviceId, from }) => deviceId === this.#gatewayId && from !== undefined);
  }

  #addMessages(batch: CommitBatch, events: readonly DropEvent[]): void {
    if (this.#isOwnOnly(events)) return;
    for (const event of events) batch.add(this.eventEntry(event));
  }

  /** A limit takes in steps, each of which concerns about every device: the news of them is joined for a while. */
  #gather(batch: CommitBatch, news: readonly DropEvent[], due: boolean): void {
    const { state, clock } = this.#core;
    const { untold } = state;
    if (news.length === 0 && (!due || untold.length === 0)) return;
    const joined = untold.length === 0 ? news : joinNews([...untold, ...news]);
    const toldMs = this.#toldMs;
    batch.onUndo(() => {
      state.untold = untold;
      this.#toldMs = toldMs;
      this.#telling = 0;
    });
    if (due || joined.length >= LIMITS.outbox_untold_losses) {
      for (const event of joined) batch.add(this.eventEntry(event));
      state.untold = [];
      this.#telling = joined.length;
      this.#toldMs = clock.monotonicMs();
    } else state.untold = joinNews(joined);
    batch.checkpoint = true;
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
