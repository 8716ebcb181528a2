// One endpoint's view of the log: leases messages lane by lane and settles them.

import { GatewayError } from '../core/errors.ts';
import type { StoredMessage } from '../core/message.ts';
import type { Lane, OutboxQueue, QueueName, QueueStats, Settlement, TakeLimit } from '../core/outbox.ts';
import { throwIfAborted } from '../platform/abort.ts';
import { recordBytes, type Chunk } from './chunk-format.ts';
import type { LogCore } from './log-core.ts';
import type { ReferenceBlock } from './log-reader.ts';
import { lostRanges } from './lost-ranges.ts';
import type { Quarantine } from './quarantine.ts';
import type { QueueState } from './queue-state.ts';
import { dropGap } from './retention.ts';

const IGNORE = (): void => {};

export class LogQueue implements OutboxQueue {
  readonly #core: LogCore;
  readonly #quarantine: Quarantine;
  readonly #state: QueueState;
  /** The references read last. */
  #block: ReferenceBlock | undefined;
  /** Takes run one after another: two lanes share the cursor's neighbourhood. */
  #taking: Promise<unknown> = Promise.resolve();

  constructor(core: LogCore, quarantine: Quarantine, state: QueueState) {
    this.#core = core;
    this.#quarantine = quarantine;
    this.#state = state;
  }

  get name(): QueueName {
    return this.#state.name;
  }

  get state(): QueueState {
    return this.#state;
  }

  take(lane: Lane, limit: TakeLimit): Promise<readonly StoredMessage[]> {
    const taken = this.#taking.then(() => this.#take(lane, limit));
    // Without what was taken, which would be kept until the next time.
    this.#taking = taken.then(IGNORE, IGNORE);
    return taken;
  }

  async #take(lane: Lane, limit: TakeLimit): Promise<readonly StoredMessage[]> {
    const taken: StoredMessage[] = [];
    let bytes = 0;
    let chunk: Chunk | undefined;
    while (taken.length < limit.maxMessages && this.#state.hasAvailable(lane)) {
      if (this.#state.held) {
        if (taken.length > 0) break;
        await this.#core.decided();
        continue;
      }
      const next = this.#next(lane, limit.returnedFrom ?? 0);
      const offset = next instanceof Promise ? await next : next;
      if (offset === undefined) break;
      if (chunk === undefined || offset < chunk.firstOffset || offset >= chunk.firstOffset + chunk.count) {
        chunk = this.#core.reader.cached(offset) ?? (await this.#load(offset));
      }
      // Settled, dropped or lost while the disk was read: look again.
      if (chunk === undefined || this.#state.held || this.#state.isDone(offset)) continue;
      const index = offset - chunk.firstOffset;
      const size = recordBytes(chunk, index);
      if (taken.length > 0 && bytes + size > limit.maxBytes) break;
      taken.push(this.#core.reader.message(chunk, index));
      this.#state.lease(lane, offset, size);
      bytes += size;
    }
    return taken;
  }

  /** The next offset of a lane: the lowest of what was given back and what is fresh. Waits only for references. */
  #next(lane: Lane, returnedFrom: number): number | undefined | Promise<number | undefined> {
    const returned = this.#state.nextReturned(lane, returnedFrom);
    const { from, to } = this.#state.fresh(lane);
    const offset = this.#state.nextUntouched(from);
    if (returned !== undefined && (returned < offset || offset >= to)) return returned;
    if (offset >= to) return undefined;
    const segment = this.#state.segmentAt(offset);
    return segment.takes === 'all'
      ? offset
      : this.#nextRouted(lane, returnedFrom, { offset, to: Math.min(to, segment.to) });
  }

  async #nextRouted(
    lane: Lane,
    returnedFrom: number,
    { offset, to }: { readonly offset: number; readonly to: number },
  ): Promise<number | undefined> {
    const reference = await this.#nextReference(offset, to);
    if (reference === offset) return offset;
    // Nothing between is ours (what is leased or was given back is a reference too): the cursor may pass it.
    this.#state.skip(offset, reference);
    return this.#next(lane, returnedFrom);
  }

  /** The first reference at or above `offset`; `to` when there is none below it. */
  async #nextReference(offset: number, to: number): Promise<number> {
    for (let from = offset; from < to;) {
      let block = this.#block;
      if (block === undefined || from < block.from || from >= block.to) {
        block = await this.#core.read(() => this.#core.reader.references(this.#state.id, from, to));
        this.#block = block;
      }
      const found = block.offsets.find((reference) => reference >= from);
      if (found !== undefined) return Math.min(found, to);
      from = Math.max(block.to, from + 1);
    }
    return to;
  }

  /** Reads the chunk of an offset; a gap is taken out of every queue, with an event. */
  async #load(offset: number): Promise<Chunk | undefined> {
    const core = this.#core;
    const located = await core.read(() => core.reader.locate(offset, core.state.tail));
    if ('chunk' in located) return located.chunk;
    await tellMissing(core, located.missing.from, located.missing.to);
    return undefined;
  }

  async available(lane: Lane, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    while (!this.#state.hasAvailable(lane)) {
      if (this.#core.closed) throw new GatewayError('GW_STORE_CLOSED', 'The outbox is closed.');
      await this.#core.changes(this.#state.id).wait(signal);
    }
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    const rejected: { readonly offset: number; readonly reason: string }[] = [];
    for (const settlement of settlements) {
      if (settlement.outcome === 'accepted') {
        const to = settlement.offset + (settlement.count ?? 1);
        for (let { offset } = settlement; offset < to; offset += 1) {
          if (this.#state.settle(offset)) this.#state.accepted += 1;
        }
      } else if (settlement.outcome === 'rejected') rejected.push(settlement);
      else this.#state.giveBack(settlement.offset);
    }
    this.#core.touch();
    this.#core.forgetPassed();
    // Also after `accepted`: room in the window may be what `available` waits for.
    this.#core.changes(this.#state.id).notify();
    if (rejected.length > 0) await this.#quarantine.put(this.#state, rejected);
  }

  split(): void {
    if (this.#state.split()) {
      this.#core.touch();
      this.#core.changes(this.#state.id).notify();
    }
  }

  stats(): QueueStats {
    const { state, reader } = this.#core;
    const shelfMs = reader.cached(this.#state.cursor)?.shelfMs ?? state.head.shelfMs;
    return this.#state.stats(shelfMs === undefined ? undefined : Math.max(0, state.shelf.nowMs() - shelfMs));
  }
}

/** Takes what cannot be read out of every queue that still wants it, with the news of it. */
export async function tellMissing(core: LogCore, from: number, to: number): Promise<void> {
  // Read before the commit: where LevelDB itself meets the damage the store is salvaged, and the commit finds it sound.
  await core.read(() => lostRanges(core.state, core.reader, from, to));
  await core.change({
    prepare: (batch, context) => {
      batch.checkpoint = true;
      return dropGap(context, [...core.state.queues.values()], from, to);
    },
  });
}
