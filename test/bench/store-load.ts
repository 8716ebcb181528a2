// Outboxes and messages for the store's benches, with the product's own settings.

import { randomFillSync } from 'node:crypto';
import { parseDeviceId } from '../../src/core/device.ts';
import type { Outbox, OutboxEntry, OutboxSettings } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { openOutbox } from '../../src/store/open.ts';

const clock = new SystemClock();

const SETTINGS: OutboxSettings = {
  maxBytes: 8 * 1024 ** 3,
  maxAgeSecs: 0,
  minFreeBytes: 0,
  whenFull: 'reject',
  commitIntervalMs: 0,
  pollCommitIntervalMs: 0,
};

export interface BenchOutboxOptions {
  /** Queues that take everything. */
  readonly queues: readonly string[];
  readonly settings?: Partial<OutboxSettings>;
  /** Told of each commit. */
  readonly onCommit?: (messages: number) => void;
}

export function openBenchOutbox(directory: string, options: BenchOutboxOptions): Promise<Outbox> {
  const { queues, settings, onCommit } = options;
  return openOutbox({
    directory,
    gatewayId: parseDeviceId('gateway-1'),
    clock,
    random: systemRandom,
    settings: { ...SETTINGS, ...settings },
    queues: queues.map((name) => ({ name, takes: 'all', order: 'live_first' })),
    onEvent: (event) => {
      if (event.kind === 'committed') onCommit?.(event.messages);
    },
  });
}

/** Bodies that do not compress, so that bytes on the disk are what they seem. */
export function payloads(count: number, bodyBytes: number): readonly Buffer[] {
  return Array.from({ length: count }, () => randomFillSync(Buffer.allocUnsafe(bodyBytes)));
}

/** Bodies as polls make them, of about that size; they compress as such bodies do. */
export function jsonPayloads(count: number, bodyBytes: number): readonly Buffer[] {
  return Array.from({ length: count }, (_, index) => {
    const values: Record<string, number> = {};
    for (let point = 0; ; point += 1) {
      values[`point_${point}`] = Math.round((230 + Math.random() * 10) * 100) / 100;
      const text = JSON.stringify({ device: `meter-${index % 500}`, time: '2026-01-02T03:04:05.678Z', values });
      if (text.length >= bodyBytes) return Buffer.from(text);
    }
  });
}

/** A message as a poll makes it now. */
export function polledEntry(device: string, body: Uint8Array): OutboxEntry {
  return {
    message: { deviceId: parseDeviceId(device), body, properties: {}, systemProperties: {}, time: clock.now() },
    queues: [],
  };
}
