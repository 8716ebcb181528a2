// The outbox without a disk: the same log and queues over ordered bytes in memory. For tests, and for what may be lost.

import type { Outbox } from '../core/outbox.ts';
import { LogCore } from './log-core.ts';
import { emptyState } from './log-state.ts';
import { MemoryLevel } from './memory-level.ts';
import type { OutboxOptions } from './options.ts';
import { configureQueues, LogOutbox } from './outbox.ts';
import { EPOCH_CHARS } from './identity.ts';
import { memorySpace } from './space.ts';

export function createMemoryOutbox(options: OutboxOptions): Outbox {
  const level = new MemoryLevel();
  const state = emptyState(options.random.id(EPOCH_CHARS), options.clock);
  configureQueues(state, options.queues);
  const core = new LogCore({
    level,
    state,
    clock: options.clock,
    gatewayId: options.gatewayId,
    settings: options.settings,
    onEvent: options.onEvent,
    log: options.log,
    space: memorySpace,
    reopen: () => Promise.resolve({ level, salvaged: false, gaps: [] }),
  });
  return new LogOutbox(core, () => Promise.resolve());
}
