// Messages that `drop_newest` refused: the listener hears of them within a tick; the log when there is room again, summed
// up by device.

import type { DeviceId } from '../core/device.ts';
import { LIMITS } from '../core/limits.ts';
import type { OutboxEntry, OutboxEvent } from '../core/outbox.ts';
import type { CommitBatch } from './commit-batch.ts';
import type { DropEvent } from './drop-ledger.ts';
import { liveBytes, type LogState } from './log-state.ts';

/** What it needs of the engine. */
export interface RefusalsHost {
  readonly state: LogState;
  quotaBytes(): number;
  emit(event: OutboxEvent): void;
  eventEntry(event: DropEvent): OutboxEntry;
}

export class Refusals {
  readonly #core: RefusalsHost;
  readonly #byDevice = new Map<DeviceId, { untold: number; unwritten: number }>();

  constructor(core: RefusalsHost) {
    this.#core = core;
  }

  add(entries: readonly OutboxEntry[]): void {
    for (const { message } of entries) {
      const { deviceId } = message;
      if (this.#byDevice.size >= LIMITS.outbox_devices && !this.#byDevice.has(deviceId)) continue;
      const counts = this.#byDevice.get(deviceId) ?? { untold: 0, unwritten: 0 };
      this.#byDevice.set(deviceId, { untold: counts.untold + 1, unwritten: counts.unwritten + 1 });
    }
  }

  #event(deviceId: DeviceId, count: number): DropEvent {
    return { kind: 'dropped', reason: 'outbox_full', deviceId, epoch: this.#core.state.epoch, count };
  }

  tell(): void {
    for (const [deviceId, counts] of this.#byDevice) {
      if (counts.untold === 0) continue;
      this.#core.state.droppedTotal += counts.untold;
      this.#core.emit(this.#event(deviceId, counts.untold));
      counts.untold = 0;
    }
  }

  /** Whether sums can be written now: there are some, and the log is not full. */
  owed(): boolean {
    return this.#byDevice.size > 0 && liveBytes(this.#core.state) < this.#core.quotaBytes();
  }

  /** Writes the sums into the log, when it is not full any more. */
  write(batch: CommitBatch): void {
    if (!this.owed()) return;
    this.tell();
    const written = [...this.#byDevice];
    for (const [deviceId, { unwritten }] of written) {
      batch.add(this.#core.eventEntry(this.#event(deviceId, unwritten)));
      this.#byDevice.delete(deviceId);
    }
    batch.onUndo(() => {
      for (const [deviceId, { unwritten }] of written) {
        const since = this.#byDevice.get(deviceId) ?? { untold: 0, unwritten: 0 };
        this.#byDevice.set(deviceId, { untold: since.untold, unwritten: since.unwritten + unwritten });
      }
    });
  }
}
