// Messages that an endpoint will never accept: kept beside the log until a person sends them again or discards them.

import { PROPERTY_FIELDPOST_EVENT, type StoredMessage } from '../core/message.ts';
import { LIMITS } from '../core/limits.ts';
import type { QuarantinedMessage } from '../core/outbox.ts';
import { decodeChunk, decodeRecord } from './chunk-decoder.ts';
import { ChunkEncoder } from './chunk-encoder.ts';
import { recordBytes } from './chunk-format.ts';
import type { CommitBatch } from './commit-batch.ts';
import { DropLedger, type QuarantineEvent } from './drop-ledger.ts';
import { parseQuarantineKey, QUARANTINE_END, quarantineKey } from './keys.ts';
import type { LogCore } from './log-core.ts';
import type { QueueState } from './queue-state.ts';
import { seal, unseal } from './sealed.ts';

interface QuarantineRecord {
  readonly queue: string;
  readonly reason: string;
  readonly atMs: number;
  readonly offset: number;
  /** The message as a chunk of one, in base64: rare and small, and one codec less. */
  readonly chunk: string;
}

/** A reason comes from a peer: kept to a size that a log line can take. */
const REASON_CHARS = 512;
const PAGE = 256;

export class Quarantine {
  readonly #core: LogCore;
  readonly #encoder = new ChunkEncoder();

  constructor(core: LogCore) {
    this.#core = core;
  }

  /**
   * Moves leased messages of a queue here, each with its event; durable when it resolves. One that a limit takes in a commit
   * under way is no longer leased, and comes back when that commit fails: so there is a commit behind it in any case, which
   * is answered after it, or refused with it.
   */
  async put(
    queue: QueueState,
    rejected: readonly { readonly offset: number; readonly reason: string }[],
  ): Promise<void> {
    const core = this.#core;
    const messages: { readonly stored: StoredMessage; readonly bytes: number; readonly reason: string }[] = [];
    for (const { offset, reason } of rejected) {
      if (!queue.isLeased(offset)) continue;
      const located = await core.read(() => core.reader.locate(offset, core.state.tail));
      if (!('chunk' in located)) {
        // Gone from the disk meanwhile: given back, the next take finds the gap and reports it.
        queue.giveBack(offset);
        continue;
      }
      const index = offset - located.chunk.firstOffset;
      const bytes = recordBytes(located.chunk, index);
      messages.push({ stored: decodeRecord(located.chunk, index), bytes, reason: reason.slice(0, REASON_CHARS) });
    }
    try {
      await core.change({
        apply: (batch) => {
          for (const { stored, bytes, reason } of messages) this.#move(batch, queue, stored, bytes, reason);
        },
      });
    } catch (error) {
      for (const { stored } of messages) queue.giveBack(stored.offset);
      core.changes(queue.id).notify();
      throw error;
    }
    await this.#trim();
  }

  #move(batch: CommitBatch, queue: QueueState, stored: StoredMessage, bytes: number, reason: string): void {
    const { state, clock } = this.#core;
    if (!queue.settle(stored.offset)) return;
    const { quarantine } = state;
    const value = this.#encode({ queue: queue.name, reason, atMs: clock.wallMs() }, stored);
    batch.writes.push({ key: quarantineKey(quarantine.nextId), value });
    batch.checkpoint = true;
    quarantine.nextId += 1;
    quarantine.messages += 1;
    quarantine.bytes += value.length;
    queue.quarantined += 1;
    batch.onUndo(() => {
      quarantine.messages -= 1;
      quarantine.bytes -= value.length;
      queue.quarantined -= 1;
      queue.restore(stored.offset, bytes);
    });
    const event: QuarantineEvent = {
      kind: 'quarantined',
      reason,
      deviceId: stored.message.deviceId,
      epoch: stored.epoch,
      seq: stored.seq,
      queue: queue.name,
    };
    batch.events.push(event);
    // An event that its endpoint refuses makes no further event: else a refusal of all of them would never end.
    if (stored.message.properties[PROPERTY_FIELDPOST_EVENT] === undefined)
      batch.add(this.#core.limits.eventEntry(event));
  }

  #encode(
    about: { readonly queue: string; readonly reason: string; readonly atMs: number },
    stored: StoredMessage,
  ): Buffer {
    const encoder = this.#encoder;
    encoder.start({ epoch: stored.epoch, shelfMs: 0, time: stored.message.time });
    encoder.add(stored.message, stored.seq);
    const { bytes } = encoder.finish({ firstOffset: stored.offset, logBytesBefore: 0 });
    const record: QuarantineRecord = { ...about, offset: stored.offset, chunk: bytes.toString('base64') };
    return seal(record);
  }

  /** Past the limits the oldest go, with a drop event. */
  async #trim(): Promise<void> {
    const { quarantine } = this.#core.state;
    while (quarantine.messages > LIMITS.quarantine_messages || quarantine.bytes > LIMITS.quarantine_bytes) {
      const oldest = await this.list({ limit: Math.min(PAGE, Math.ceil(quarantine.messages / 64)) });
      if (oldest.length === 0) return;
      await this.#remove(oldest, 'max_bytes');
    }
  }

  async list(options: { afterId?: string; limit: number }): Promise<QuarantinedMessage[]> {
    const after = Number(options.afterId ?? 0);
    const found: QuarantinedMessage[] = [];
    await this.#core.read(async (level) => {
      found.length = 0;
      for await (const { key, value } of level.entries({ gte: quarantineKey(after + 1), lt: QUARANTINE_END })) {
        if (found.length >= options.limit) break;
        const message = decodeQuarantined(key, value);
        if (message !== undefined) found.push(message);
      }
    });
    return found;
  }

  async #get(ids: readonly string[]): Promise<QuarantinedMessage[]> {
    const found: QuarantinedMessage[] = [];
    for (const id of new Set(ids)) {
      const number = Number(id);
      if (!Number.isSafeInteger(number) || number < 1) continue;
      const key = quarantineKey(number);
      const value = await this.#core.read((level) => level.get(key));
      const message = value === undefined ? undefined : decodeQuarantined(key, value);
      if (message !== undefined) found.push(message);
    }
    return found;
  }

  /** Appends the messages again for their queue alone; each keeps its epoch, `seq` and id. */
  async requeue(ids: readonly string[]): Promise<number> {
    const core = this.#core;
    let count = 0;
    for (let from = 0; from < ids.length; from += PAGE) {
      const messages = (await this.#get(ids.slice(from, from + PAGE))).filter(({ queue }) =>
        core.state.queues.has(queue),
      );
      if (messages.length === 0) continue;
      await core.change({
        apply: (batch) => {
          for (const { id, queue, stored } of messages) {
            this.#delete(batch, id);
            batch.addAgain(stored, queue);
          }
        },
      });
      count += messages.length;
    }
    return count;
  }

  async discard(ids: readonly string[]): Promise<number> {
    let count = 0;
    for (let from = 0; from < ids.length; from += PAGE) {
      const messages = await this.#get(ids.slice(from, from + PAGE));
      if (messages.length > 0) await this.#remove(messages, 'purged');
      count += messages.length;
    }
    return count;
  }

  async #remove(messages: readonly QuarantinedMessage[], reason: 'max_bytes' | 'purged'): Promise<void> {
    await this.#core.change({
      prepare: (batch, context) => {
        batch.checkpoint = true;
        const ledger = new DropLedger();
        for (const { id, queue, stored } of messages) {
          this.#delete(batch, id);
          const { seq, epoch } = stored;
          ledger.add({ deviceId: stored.message.deviceId, epoch, seq, reason, queue });
        }
        context.tellNow(ledger.events([...this.#core.state.queues.keys()]));
        return Promise.resolve();
      },
    });
  }

  #delete(batch: CommitBatch, id: string): void {
    const { quarantine } = this.#core.state;
    const bytes = quarantine.messages > 0 ? Math.floor(quarantine.bytes / quarantine.messages) : 0;
    batch.writes.push({ key: quarantineKey(Number(id)), value: undefined });
    batch.checkpoint = true;
    quarantine.messages -= 1;
    quarantine.bytes -= bytes;
    batch.onUndo(() => {
      quarantine.messages += 1;
      quarantine.bytes += bytes;
    });
  }
}

function decodeQuarantined(key: Buffer, value: Buffer): QuarantinedMessage | undefined {
  const id = parseQuarantineKey(key);
  const record = unseal(value) as QuarantineRecord | undefined;
  if (id === undefined || record === undefined) return undefined;
  const chunk = decodeChunk(Buffer.from(record.chunk, 'base64'), record.offset);
  if (chunk === undefined) return undefined;
  return {
    id: String(id),
    queue: record.queue,
    reason: record.reason,
    atMs: record.atMs,
    stored: decodeRecord(chunk, 0),
  };
}
