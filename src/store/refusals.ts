// Messages that never got into the log, because `drop_newest` refused them or ingress could not keep them: the listener
// hears of them within a tick; the log when there is room again, summed up by device and reason.

import type { DeviceId } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import type { Loss, OutboxEntry, OutboxEvent } from '../core/outbox.ts';
import type { CommitBatch } from './commit-batch.ts';
import type { DropEvent } from './drop-ledger.ts';
import { liveBytes, type LogState } from './log-state.ts';

/** What it needs of the engine. */
export interface RefusalsHost {
  readonly state: LogState;
  quotaBytes(): number;
  emit(event: OutboxEvent): void;
  readonly limits: { eventEntry(event: DropEvent): OutboxEntry };
}

interface Sum {
  readonly deviceId: DeviceId;
  readonly reason: Loss['reason'];
  untold: number;
  unwritten: number;
}

export class Refusals {
  readonly #core: RefusalsHost;
  /** By device and reason. */
  readonly #sums = new Map<string, Sum>();

  constructor(core: RefusalsHost) {
    this.#core = core;
  }

  report(losses: readonly Loss[]): void {
    for (const { deviceId, count, reason } of losses) {
      const key = `${reason} ${deviceId}`;
      const sum = this.#sums.get(key);
      if (sum === undefined) {
        if (this.#sums.size >= LIMITS.outbox_devices) continue;
        this.#sums.set(key, { deviceId, reason, untold: count, unwritten: count });
      } else {
        sum.untold += count;
        sum.unwritten += count;
      }
    }
  }

  #event({ deviceId, reason }: Sum, count: number): DropEvent {
    return { kind: 'dropped', reason, deviceId, epoch: this.#core.state.epoch, count };
  }

  tell(): void {
    for (const sum of this.#sums.values()) {
      if (sum.untold === 0) continue;
      this.#core.state.droppedTotal += sum.untold;
      this.#core.emit(this.#event(sum, sum.untold));
      sum.untold = 0;
    }
  }

  /** Whether sums can be written now: there are some, and the log is not full. */
  owed(): boolean {
    return this.#sums.size > 0 && liveBytes(this.#core.state) < this.#core.quotaBytes();
  }

  /** Writes the sums into the log, when it is not full any more. */
  write(batch: CommitBatch): void {
    if (!this.owed()) return;
    this.tell();
    const written = [...this.#sums];
    this.#sums.clear();
    for (const [, sum] of written) batch.add(this.#core.limits.eventEntry(this.#event(sum, sum.unwritten)));
    batch.onUndo(() => {
      for (const [key, sum] of written) {
        const since = this.#sums.get(key);
        if (since === undefined) this.#sums.set(key, sum);
        else since.unwritten += sum.unwritten;
      }
    });
  }
}
