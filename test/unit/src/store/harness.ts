// What the store's tests share: an outbox on a directory of its own, and a LevelDB with faults in between.

import type { DeviceId } from '../../../../src/core/device.ts';
import type { Outbox, OutboxEntry, OutboxEvent, OutboxSettings, QueueDefinition } from '../../../../src/core/outbox.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import type { LevelFactory, LevelHandle } from '../../../../src/platform/level-handle.ts';
import { openLevel } from '../../../../src/platform/level.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { openOutbox } from '../../../../src/store/open.ts';
import type { OutboxOpenOptions } from '../../../../src/store/options.ts';
import { message } from '../../../support/builders.ts';

export const UPSTREAM: QueueDefinition = { name: '$upstream', takes: 'all', order: 'live_first' };

export const SETTINGS: OutboxSettings = {
  maxBytes: 100_000_000,
  maxAgeSecs: 0,
  minFreeBytes: 0,
  whenFull: 'drop_oldest',
  commitIntervalMs: 0,
  pollCommitIntervalMs: 0,
};

export interface Opened {
  readonly outbox: Outbox;
  readonly events: OutboxEvent[];
}

/** Opens an outbox with one queue that takes all, unless the options say otherwise. */
export async function openTestOutbox(directory: string, options: Partial<OutboxOpenOptions> = {}): Promise<Opened> {
  const events: OutboxEvent[] = [];
  const outbox = await openOutbox({
    directory,
    gatewayId: 'gateway' as DeviceId,
    clock: new SystemClock(),
    random: systemRandom,
    settings: SETTINGS,
    queues: [UPSTREAM],
    onEvent: (event) => events.push(event),
    // Above every floor, and too little for the ballast file.
    freeBytes: () => Promise.resolve(24 * 1024 * 1024),
    ...options,
  });
  return { outbox, events };
}

export function entry(text: string, device = 'meter-1', queues: readonly string[] = []): OutboxEntry {
  return { message: message({ device, text }), queues };
}

export function texts(messages: readonly { readonly message: { readonly body: Uint8Array } }[]): string[] {
  return messages.map((stored) => Buffer.from(stored.message.body).toString());
}

/** All bodies that a queue holds, in order. */
export async function held(outbox: Outbox, queue = '$upstream'): Promise<string[]> {
  return texts(await outbox.browse({ queue, limit: 1_000_000 }));
}

export interface Faults {
  /** Called before each write; may throw, or wait. */
  beforeWrite: () => Promise<void> | void;
  /** Called after each write that succeeded below; throwing makes it a failure whose data is on disk. */
  afterWrite: () => Promise<void> | void;
  /** Called before each reopening. */
  beforeOpen: () => Promise<void> | void;
  opens: number;
}

/** A LevelDB whose writes pass through `faults`. */
export function faultyLevel(): { readonly faults: Faults; readonly level: LevelFactory } {
  const faults: Faults = { beforeWrite: () => {}, afterWrite: () => {}, beforeOpen: () => {}, opens: 0 };
  const level: LevelFactory = async (directory, tuning) => {
    await faults.beforeOpen();
    faults.opens += 1;
    const below = await openLevel(directory, tuning);
    const handle: LevelHandle = {
      write: async (writes, options) => {
        await faults.beforeWrite();
        await below.write(writes, options);
        await faults.afterWrite();
      },
      get: (key) => below.get(key),
      entries: (range) => below.entries(range),
      keys: (range) => below.keys(range),
      flush: () => below.flush(),
      compact: (first, last) => below.compact(first, last),
      close: () => below.close(),
    };
    return handle;
  };
  return { faults, level };
}
