import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../../../src/core/device.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { ChunkEncoder } from '../../../../src/store/chunk-encoder.ts';
import { recordBytes, type Chunk } from '../../../../src/store/chunk-format.ts';
import { DropLedger } from '../../../../src/store/drop-ledger.ts';
import type { LogReader } from '../../../../src/store/log-reader.ts';
import { emptyState } from '../../../../src/store/log-state.ts';
import { QueueState } from '../../../../src/store/queue-state.ts';
import { dropFromHead, refreshHead } from '../../../../src/store/retention.ts';
import { message } from '../../../support/builders.ts';

describe('the head of the log', () => {
  it('does not pass what a commit that failed gave back while the disk was read', async () => {
    const state = emptyState('epoch', new SystemClock());
    const queue = QueueState.create(1, { name: 'q', takes: 'all', order: 'strict' }, 0);
    state.queues.set('q', queue);
    queue.append(0, 2, 2, 20);
    state.tail = 2;
    state.head = { first: 0, logBytes: 0, shelfMs: 1 };
    queue.drop(0, 10);
    const reader = {
      cached: () => undefined,
      locate: (offset: number) => {
        // The commit that dropped it fails meanwhile.
        queue.restore(0, 10);
        return Promise.resolve({ chunk: { firstOffset: offset, count: 1, logBytesBefore: 10, shelfMs: 2 } as Chunk });
      },
    };
    await refreshHead(state, reader as unknown as LogReader);
    expect(state.head).toEqual({ first: 0, logBytes: 0, shelfMs: 1 });
  });
});

describe('what a limit takes', () => {
  it('does not count as lost what was delivered while the disk was read', async () => {
    const clock = new SystemClock();
    const state = emptyState('epoch', clock);
    const encoder = new ChunkEncoder();
    encoder.start({ epoch: 'epoch', shelfMs: 1, time: clock.now() });
    encoder.add(message({ device: 'meter-1', text: 'delivered' }), 1);
    encoder.add(message({ device: 'meter-1', text: 'waits' }), 2);
    const chunk = encoder.finish({ firstOffset: 0, logBytesBefore: 0 });
    const bytes = recordBytes(chunk, 0);
    const all = QueueState.create(1, { name: 'all', takes: 'all', order: 'strict' }, 0);
    const routed = QueueState.create(2, { name: 'routed', takes: 'routed', order: 'strict' }, 0);
    all.append(0, 2, 2, bytes + recordBytes(chunk, 1));
    routed.append(0, 2, 1, recordBytes(chunk, 1));
    state.queues.set('all', all).set('routed', routed);
    state.tail = 2;
    all.lease('live', 0, bytes);
    const reader = {
      cached: () => undefined,
      locate: () => Promise.resolve({ chunk }),
      references: () => {
        // The endpoint answers meanwhile.
        all.settle(0);
        return Promise.resolve({ to: 2, offsets: [1], bytes: 0 });
      },
    };
    const ledger = new DropLedger();
    const context = {
      state,
      reader: reader as unknown as LogReader,
      ledger,
      gatewayId: 'gateway' as DeviceId,
      onUndo: () => {},
      tellNow: () => {},
      unreadable: () => {},
    };
    await dropFromHead(context, 'max_bytes', () => false);
    expect(ledger.events(['all', 'routed'])).toMatchObject([{ deviceId: 'meter-1', from: 2, to: 2, count: 1 }]);
    expect([all.dropped, routed.dropped]).toEqual([1, 1]);
  });
});
