// One stream of the log, as its readers see it: places, and messages from any of them on.

import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type {
  OutboxStream,
  StreamDefinition,
  StreamMessage,
  StreamName,
  StreamPartition,
  StreamPosition,
} from '../core/outbox.ts';
import type { Timestamp } from '../core/time.ts';
import { throwIfAborted } from '../platform/abort.ts';
import { recordBytes, type Chunk } from './chunk-format.ts';
import type { LogCore } from './log-core.ts';
import type { LogState } from './log-state.ts';
import { closedError } from './reopening.ts';
import type { StreamBlock } from './stream-block.ts';
import { StreamIndex } from './stream-index.ts';
import { StreamState } from './stream-state.ts';
import { tellMissing } from './queue.ts';

export class LogStream implements OutboxStream {
  readonly #core: LogCore;
  readonly #state: StreamState;
  readonly #index: StreamIndex;

  constructor(core: LogCore, state: StreamState) {
    this.#core = core;
    this.#state = state;
    this.#index = new StreamIndex(state, (work) => core.read(work));
  }

  get name(): StreamName {
    return this.#state.name;
  }

  get partitions(): number {
    return this.#state.partitions;
  }

  get createdAtMs(): number {
    return this.#state.createdAtMs;
  }

  partition(partition: number): StreamPartition {
    this.#check(partition);
    return this.#state.partition(partition);
  }

  async locate(partition: number, position: StreamPosition): Promise<number> {
    this.#check(partition);
    const first = this.#state.first(partition);
    const next = this.#state.next(partition);
    switch (position.kind) {
      case 'earliest':
        return first;
      case 'latest':
        return next;
      case 'sequence':
        return clamp(position.inclusive ? position.value : position.value + 1, first, next);
      case 'offset':
        return this.#numberAt(partition, position.inclusive ? position.value : position.value + 1);
      case 'time':
        return this.#numberAfterTime(partition, position.afterMs);
    }
  }

  /** The number of the first message of a partition at or above an offset. */
  async #numberAt(partition: number, offset: number): Promise<number> {
    const { tail } = this.#core.state;
    const next = this.#state.next(partition);
    const block = offset >= tail ? undefined : await this.#index.at(Math.max(0, offset), tail);
    if (block === undefined) return next;
    let number = block.bases[partition] ?? 0;
    for (let index = 0; block.first + index < offset; index += 1) {
      if (block.places[index] === partition + 1) number += 1;
    }
    return clamp(number, this.#state.first(partition), next);
  }

  async #numberAfterTime(partition: number, afterMs: number): Promise<number> {
    const { oldest } = this.#state;
    const { tail } = this.#core.state;
    if (oldest === undefined) return this.#state.next(partition);
    const last = await this.#index.lastWhere(
      async (block) => {
        const chunk = await this.#chunk(block);
        // One that cannot be read is passed over: nobody will be given anything of it.
        return chunk === undefined || this.#wallMs(chunk.time) <= afterMs;
      },
      oldest.first,
      tail,
    );
    return this.#numberAt(partition, last === undefined ? oldest.first : last.to);
  }

  async read(
    partition: number,
    from: number,
    limit: { readonly maxMessages: number; readonly maxBytes: number },
  ): Promise<readonly StreamMessage[]> {
    this.#check(partition);
    const { tail } = this.#core.state;
    const found: StreamMessage[] = [];
    let bytes = 0;
    let sequence = Math.max(from, this.#state.first(partition));
    if (sequence >= this.#state.next(partition)) return found;
    let block = await this.#index.find(partition, sequence, tail);
    while (block !== undefined) {
      const chunk = await this.#chunk(block);
      let number = block.bases[partition] ?? 0;
      for (let index = 0; chunk !== undefined && index < block.places.length; index += 1) {
        if (block.places[index] !== partition + 1) continue;
        const own = number;
        number += 1;
        if (own < sequence) continue;
        const size = recordBytes(chunk, index);
        const isFull = found.length >= limit.maxMessages || bytes + size > limit.maxBytes;
        if (isFull && found.length > 0) {
          this.#index.notePlace(partition, own, block.first);
          return found;
        }
        found.push({
          sequence: own,
          enqueuedMs: this.#wallMs(chunk.time),
          stored: this.#core.reader.message(chunk, index),
        });
        bytes += size;
        sequence = own + 1;
      }
      this.#index.notePlace(partition, sequence, block.to);
      if (found.length >= limit.maxMessages) break;
      block = await this.#index.at(block.to, tail);
    }
    return found;
  }

  async available(partition: number, from: number, signal: AbortSignal): Promise<void> {
    this.#check(partition);
    throwIfAborted(signal);
    while (this.#state.next(partition) <= from) {
      if (this.#core.closed) throw closedError();
      await this.#core.changes(`stream ${this.#state.id}`).wait(signal);
    }
  }

  /** Undefined when it cannot be read, which is told, or is deleted meanwhile. */
  async #chunk(block: StreamBlock): Promise<Chunk | undefined> {
    const { reader, state } = this.#core;
    const located = reader.cached(block.first) ?? (await this.#core.read(() => reader.locate(block.first, state.tail)));
    if (!('missing' in located)) return 'chunk' in located ? located.chunk : located;
    if (block.first >= state.clearedTo) await tellMissing(this.#core, located.missing.from, located.missing.to);
    return undefined;
  }

  /** When it was stored: as the clock said, or as it should have said when it was not known yet. */
  #wallMs({ clock, bootId, monotonicMs, wallMs }: Timestamp): number {
    const offsetMs = clock === 'synced' ? undefined : this.#core.state.clockOffsets.get(bootId);
    return Math.round(offsetMs === undefined ? wallMs : monotonicMs + offsetMs);
  }

  #check(partition: number): void {
    if (Number.isInteger(partition) && partition >= 0 && partition < this.#state.partitions) return;
    throw new GatewayError(
      'GW_NOT_FOUND',
      `The stream "${this.#state.name}" has no partition ${partition}: it has ${this.#state.partitions}.`,
    );
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/**
 * Applies the configured streams to the state: new ones are empty, those not named are detached.
 * @throws GatewayError GW_OUTBOX_FULL for a stream too many.
 */
export function configureStreams(state: LogState, definitions: readonly StreamDefinition[], nowMs: number): void {
  for (const stream of state.streams.values()) stream.detached = true;
  for (const definition of definitions) {
    const { name } = definition;
    let stream = state.streams.get(name);
    if (stream === undefined) {
      if (state.streams.size >= LIMITS.outbox_streams) {
        throw new GatewayError(
          'GW_OUTBOX_FULL',
          `The outbox has ${LIMITS.outbox_streams} streams; ${name} is one too many.`,
        );
      }
      const partitions = clamp(definition.partitions, 1, LIMITS.stream_partitions);
      const id = Math.max(0, ...[...state.streams.values()].map((other) => other.id)) + 1;
      stream = StreamState.create({ id, name, partitions, createdAtMs: Math.round(nowMs) });
      state.streams.set(name, stream);
    }
    stream.configure(definition);
  }
}
