// Outboxes on a real disk for tests, and ways to look at all that they hold.

import { parseDeviceId } from '../../src/core/device.ts';
import type { StoredMessage } from '../../src/core/message.ts';
import type { Outbox, OutboxEvent, OutboxSettings, QueueDefinition } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import type { LevelFactory } from '../../src/platform/level-handle.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { openOutbox } from '../../src/store/open.ts';
import { message } from './builders.ts';

export const SETTINGS: OutboxSettings = {
  maxBytes: 1024 ** 3,
  maxAgeSecs: 0,
  minFreeBytes: 0,
  whenFull: 'reject',
  commitIntervalMs: 0,
  pollCommitIntervalMs: 0,
};

/** With a quota that tests reach, and the oldest dropped then. */
export const DROPPING: OutboxSettings = { ...SETTINGS, maxBytes: 10_000_000, whenFull: 'drop_oldest' };

export interface TestOutboxOptions {
  readonly settings?: Partial<OutboxSettings>;
  readonly queues?: readonly QueueDefinition[];
  readonly level?: LevelFactory;
  readonly onEvent?: (event: OutboxEvent) => void;
}

/** One strict queue that takes everything, named `out`, unless told otherwise. */
export function openTestOutbox(directory: string, options: TestOutboxOptions = {}): Promise<Outbox> {
  return openOutbox({
    directory,
    gatewayId: parseDeviceId('gateway-1'),
    clock: new SystemClock(),
    random: systemRandom,
    settings: { ...SETTINGS, ...options.settings },
    queues: options.queues ?? [{ name: 'out', takes: 'all', order: 'strict' }],
    ...(options.level === undefined ? {} : { level: options.level }),
    ...(options.onEvent === undefined ? {} : { onEvent: options.onEvent }),
  });
}

/** Appends `count` messages of one device with the texts `${device}-${number}` and filler, in one append. */
export async function appendNumbered(
  outbox: Outbox,
  device: string,
  from: number,
  count: number,
  bytes = 100,
): Promise<void> {
  await outbox.append(
    Array.from({ length: count }, (_, index) => ({
      message: message({ device, text: numberedText(device, from + index, bytes) }),
      queues: [],
    })),
  );
}

/** Filler that does not compress, so that sizes on disk are what they seem. */
export function numberedText(device: string, number: number, bytes: number): string {
  let text = `${device}-${number} `;
  for (let state = number + 1; text.length < bytes;) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    text += state.toString(36);
  }
  return text.slice(0, Math.max(bytes, `${device}-${number} `.length));
}

/** The number of a message made by `appendNumbered`. */
export function numberOf({ message: { deviceId, body } }: StoredMessage): number {
  const match = /^(.+)-(\d+) /.exec(Buffer.from(body).toString());
  if (match?.[1] !== deviceId) throw new Error(`A message of ${deviceId} has a body that nobody wrote.`);
  return Number(match[2]);
}

/** Takes and accepts all that a queue has; returns it in order. */
export async function drain(outbox: Outbox, queue = 'out'): Promise<StoredMessage[]> {
  const all: StoredMessage[] = [];
  const from = outbox.queue(queue);
  for (;;) {
    const batch = [
      ...(await from.take('history', { maxMessages: 1000, maxBytes: 1024 ** 2 })),
      ...(await from.take('live', { maxMessages: 1000, maxBytes: 1024 ** 2 })),
    ];
    if (batch.length === 0) return all;
    all.push(...batch);
    await from.settle(batch.map(({ offset }) => ({ offset, outcome: 'accepted' })));
  }
}

/** The body of a message that the gateway sent about itself, else undefined. */
export function gatewayEvent(stored: StoredMessage): Record<string, unknown> | undefined {
  if (stored.message.properties['fieldpost-event'] === undefined) return undefined;
  return JSON.parse(Buffer.from(stored.message.body).toString()) as Record<string, unknown>;
}
