// What an outbox is given. Every part that touches the world is an argument, so that tests own it.

import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import type { Logger } from '../core/log.ts';
import type { OutboxEvent, OutboxSettings, QueueDefinition } from '../core/outbox.ts';
import type { LevelFactory } from '../platform/level-handle.ts';
import type { Random } from '../platform/random.ts';

export interface OutboxOptions {
  /** The gateway's own device: drop and quarantine events are its messages. */
  readonly gatewayId: DeviceId;
  readonly clock: Clock;
  readonly random: Random;
  readonly settings: OutboxSettings;
  readonly queues: readonly QueueDefinition[];
  /** Told of commits, drops, quarantines and recovery. Must not throw. */
  readonly onEvent?: (event: OutboxEvent) => void;
  readonly log?: Logger;
}

export interface OutboxOpenOptions extends OutboxOptions {
  /** The LevelDB directory, `<data>/db/log`; created when it is not there. */
  readonly directory: string;
  /** Free bytes of the file system that holds `directory`. Default: statfs(2). */
  readonly freeBytes?: () => Promise<number>;
  /** Opens LevelDB; tests put faults in between. */
  readonly level?: LevelFactory;
}
