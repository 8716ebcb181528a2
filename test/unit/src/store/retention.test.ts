import { describe, expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import type { Chunk } from '../../../../src/store/chunk-format.ts';
import type { LogReader } from '../../../../src/store/log-reader.ts';
import { emptyState } from '../../../../src/store/log-state.ts';
import { QueueState } from '../../../../src/store/queue-state.ts';
import { refreshHead } from '../../../../src/store/retention.ts';

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
