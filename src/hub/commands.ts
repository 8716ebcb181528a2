// Cloud-to-device messages: at most 50 for each device, kept until they are completed, rejected, expired or purged, and given in
// order to the device's session as far as it takes them (contract/device-semantics.md, section 2; contract/service-06).
//
// Invariants
// - A command that `send` resolved for is in the store until it ended, and what ends it is one commit with its feedback.
// - Locks are in memory: a crash or the end of a session gives back what they held, without counting a delivery.
// - Everything about one device runs in its turn.

import type { Clock } from '../core/clock.ts';
import type { Commands, FeedbackRecord } from '../core/hub/messaging.ts';
import type { CommandMessage, CommandOutcome, DeliveredCommand, SessionId } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import { isoTime } from '../core/time.ts';
import { iotHubError } from '../iothub/errors.ts';
import { QUOTAS } from '../iothub/quotas.ts';
import { randomUuid } from '../platform/random.ts';
import { createCommandRelay, type CommandRelay } from './command-relay.ts';
import { CommandQueue, type QueuedCommand } from './command-queue.ts';
import { watchExpiries, type ExpiryWatch } from './command-expiry.ts';
import type { Feedback } from './feedback.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import type { DeviceRecord } from './identity-record.ts';
import { notFound } from './identity-rules.ts';
import { commandKey, commandsPrefix, expiryKey } from './keys.ts';
import type { HubSessions } from './sessions.ts';

export interface CommandSettings {
  /** Default 1 h, at most 2 days. */
  readonly defaultTtlMs: number;
  /** 1 to 100, default 10. */
  readonly maxDeliveryCount: number;
}

const LOCK_MS = 60_000;
const LONGEST_TTL_MS = 2 * 86_400_000;
const RETRY_MS = 5000;

/** As it is kept. */
interface KeptCommand extends QueuedCommand {
  readonly enqueuedMs: number;
  readonly deliveryCount: number;
  /** Base64. */
  readonly body: string;
  readonly message: Omit<CommandMessage, 'body'>;
}

export interface CommandsOptions {
  readonly storeOf: (hubId: string) => HubStore;
  readonly feedbackOf: (hubId: string) => Feedback;
  readonly hubIds: readonly string[];
  readonly sessions: HubSessions;
  readonly settings: CommandSettings;
  readonly clock: Clock;
  /** Something waits for a device without a session. Must not throw. */
  readonly onWaiting?: (hubId: string, deviceId: string) => void;
}

export interface HubCommands extends Commands {
  /** Hands on what the cloud behind the hub sends to a device, and keeps. */
  readonly offer: CommandRelay['offer'];
  /** Somebody is there who takes what waits for a device. */
  wake(hubId: string, deviceId: string): void;
  /** Queues in memory: of devices with a session that takes commands, or with locks. */
  readonly loaded: number;
  stop(): void;
}

type Ending = FeedbackRecord['statusCode'];

interface Device {
  readonly hubId: string;
  readonly store: HubStore;
  readonly deviceId: string;
}

interface Open {
  readonly queue: CommandQueue;
  cancelRelease: (() => void) | undefined;
}

export function createCommands(options: CommandsOptions): HubCommands {
  const { storeOf, feedbackOf, sessions, settings, clock, onWaiting } = options;
  const open = new Map<string, Open>();
  const stopping = new AbortController();
  const relay = createCommandRelay({
    clock,
    lockMs: LOCK_MS,
    ...settings,
    onWaiting: (hubId, deviceId) => wake(hubId, deviceId),
  });
  const watches = new Map<string, ExpiryWatch>();
  for (const hubId of options.hubIds) {
    const watch = watchExpiries({ store: storeOf(hubId), clock, expire: (deviceId) => expire(hubId, deviceId) });
    watches.set(hubId, watch);
  }

  function inTurn<T>(hubId: string, deviceId: string, work: (device: Device) => Promise<T>): Promise<T> {
    const store = storeOf(hubId);
    return store.turn(deviceId, () => work({ hubId, store, deviceId }));
  }

  async function recordOf({ store, deviceId }: Device): Promise<DeviceRecord> {
    const record = await store.identity({ deviceId });
    if (record === undefined || record.moduleId !== undefined) throw notFound({ deviceId });
    return record;
  }

  /** The device's queue, read when it is not in memory. */
  async function queueOf(device: Device, { generationId, commandCount }: DeviceRecord): Promise<Open> {
    const key = `${device.hubId}/${device.deviceId}`;
    const known = open.get(key);
    if (known?.queue.generationId === generationId) return known;
    known?.cancelRelease?.();
    const waiting: QueuedCommand[] = [];
    if (commandCount > 0) {
      const found = device.store.entries(commandsPrefix(device.deviceId));
      for await (const [, value] of found) waiting.push(value as KeptCommand);
    }
    if (open.size >= LIMITS.hub_command_queues) {
      throw iotHubError('ThrottlingException', 'Too many devices hold commands at the moment. Try again later.');
    }
    const loaded: Open = { queue: new CommandQueue(generationId, waiting), cancelRelease: undefined };
    open.set(key, loaded);
    return loaded;
  }

  /** After each work on a queue: it stays in memory while somebody needs it there. */
  function rest({ hubId, deviceId }: Device, held: Open): void {
    const key = `${hubId}/${deviceId}`;
    held.cancelRelease?.();
    held.cancelRelease = undefined;
    const releaseMs = held.queue.nextReleaseMs();
    if (releaseMs !== undefined) {
      held.cancelRelease = clock.after(Math.max(1, releaseMs - clock.monotonicMs()), () => wake(hubId, deviceId));
    } else if (sessions.find(hubId, { deviceId }, 'commands') === undefined && open.get(key) === held) {
      open.delete(key);
    }
  }

  async function kept({ store, deviceId }: Device, number: number): Promise<KeptCommand | undefined> {
    return (await store.json(commandKey(deviceId, number))) as KeptCommand | undefined;
  }

  /** Ends commands for good, with their feedback, in one commit. */
  async function end(device: Device, held: Open, ended: readonly QueuedCommand[], how: Ending): Promise<void> {
    if (ended.length === 0) return;
    const { store, deviceId, hubId } = device;
    const record = await recordOf(device);
    const records: FeedbackRecord[] = [];
    for (const { number } of ended) {
      const command = await kept(device, number);
      const feedback = command === undefined ? undefined : feedbackOn(command, record, how, clock.wallMs());
      if (feedback !== undefined) records.push(feedback);
    }
    const feedback = await feedbackOf(hubId).prepare(records);
    const commandCount = Math.max(0, held.queue.size - ended.length);
    await store.write({
      identities: [{ ref: { deviceId }, record: { ...record, commandCount } }],
      changes: [
        ...ended.flatMap(({ number, expiresAtMs }) => [
          { key: commandKey(deviceId, number) },
          { key: expiryKey(expiresAtMs, deviceId, number) },
        ]),
        ...feedback.changes,
      ],
    });
    for (const { number } of ended) held.queue.remove(number);
    feedback.done();
  }

  /** Locks the next command and reads it; what has expired meanwhile ends instead. */
  async function lockNext(device: Device, held: Open, sessionId?: SessionId): Promise<DeliveredCommand | undefined> {
    const { queue } = held;
    await end(device, held, queue.expired(clock.wallMs()), 'Expired');
    for (;;) {
      const next = queue.next();
      if (next === undefined) return undefined;
      const command = await kept(device, next.number);
      if (command === undefined) {
        // A salvage of the store has lost it.
        queue.remove(next.number);
        continue;
      }
      const lockToken = randomUuid();
      const lockedUntilMs = clock.monotonicMs() + LOCK_MS;
      queue.lock(next.number, { token: lockToken, sessionId, untilMs: lockedUntilMs });
      const { number, enqueuedMs, expiresAtMs, deliveryCount, body, message } = command;
      return {
        lockToken,
        lockedUntilMs,
        sequenceNumber: number,
        deliveryCount,
        enqueuedTimeMs: enqueuedMs,
        expiresAtMs,
        message: { ...message, body: Buffer.from(body, 'base64') },
      };
    }
  }

  /** Gives the device's session what it takes. */
  async function pump(device: Device, held: Open): Promise<void> {
    held.queue.release(clock.monotonicMs());
    for (;;) {
      const session = sessions.find(device.hubId, { deviceId: device.deviceId }, 'commands');
      if (session === undefined && held.queue.next() !== undefined) onWaiting?.(device.hubId, device.deviceId);
      if (session === undefined || session.commandCredit < 1) return;
      const { sessionId } = session;
      const relayed = relay.take(device.hubId, device.deviceId, sessionId);
      const command = relayed ?? (await lockNext(device, held, sessionId));
      if (command === undefined) return;
      if (sessions.takeCredit(sessionId)) sessions.send(sessionId, { kind: 'command', sessionId, command });
      else if (relayed === undefined) held.queue.unlock(command.sequenceNumber);
      else relay.giveBack(command.lockToken);
    }
  }

  /** In the device's turn: whatever changed, its session gets what it can. Never rejects. */
  function wake(hubId: string, deviceId: string, endedSession?: SessionId): void {
    if (stopping.signal.aborted) return;
    const work = inTurn(hubId, deviceId, async (device) => {
      const record = await device.store.identity({ deviceId });
      const known = open.get(`${hubId}/${deviceId}`);
      if (record === undefined || record.moduleId !== undefined) {
        known?.cancelRelease?.();
        open.delete(`${hubId}/${deviceId}`);
        return;
      }
      if (known === undefined && record.commandCount === 0 && !relay.has(hubId, deviceId)) return;
      const held = await queueOf(device, record);
      try {
        if (endedSession !== undefined) held.queue.release(clock.monotonicMs(), endedSession);
        await pump(device, held);
      } finally {
        rest(device, held);
      }
    });
    // The store is away: what waits is tried again.
    work.catch(() => void clock.after(RETRY_MS, () => wake(hubId, deviceId)));
  }

  function expire(hubId: string, deviceId: string): Promise<void> {
    return inTurn(hubId, deviceId, async (device) => {
      const record = await device.store.identity({ deviceId });
      if (record === undefined || record.moduleId !== undefined) return;
      const held = await queueOf(device, record);
      try {
        held.queue.release(clock.monotonicMs());
        await end(device, held, held.queue.expired(clock.wallMs()), 'Expired');
      } finally {
        rest(device, held);
      }
    });
  }

  async function abandon(device: Device, held: Open, number: number): Promise<void> {
    const command = await kept(device, number);
    if (command === undefined) {
      held.queue.remove(number);
      return;
    }
    const deliveryCount = command.deliveryCount + 1;
    if (deliveryCount >= settings.maxDeliveryCount) {
      await end(device, held, [command], 'DeliveryCountExceeded');
      return;
    }
    const change = changeOf(commandKey(device.deviceId, number), { ...command, deliveryCount });
    await device.store.write({ changes: [change] });
    held.queue.unlock(number);
  }

  sessions.listen({
    ready({ hubId, ref, interests, commandCredit }) {
      if (ref === undefined || ref.moduleId !== undefined || commandCredit < 1 || !interests.has('commands')) return;
      wake(hubId, ref.deviceId);
    },
    ended({ hubId, ref, sessionId }) {
      relay.sessionEnded(sessionId);
      if (ref === undefined || ref.moduleId !== undefined || !open.has(`${hubId}/${ref.deviceId}`)) return;
      wake(hubId, ref.deviceId, sessionId);
    },
  });

  return {
    get loaded() {
      return open.size;
    },
    async send(hubId, to, { expiresAtMs, body, ...message }) {
      const { deviceId, moduleId } = to;
      if (moduleId !== undefined) throw iotHubError('InvalidOperation', 'Modules take no cloud-to-device messages.');
      const now = clock.wallMs();
      checkSize(body, message);
      if (expiresAtMs !== undefined && expiresAtMs <= now) {
        throw iotHubError('InvalidMessageExpiryTime', 'The message has expired already.');
      }
      const untilMs = Math.trunc(Math.min(expiresAtMs ?? now + settings.defaultTtlMs, now + LONGEST_TTL_MS));
      await inTurn(hubId, deviceId, async (device) => {
        const record = await recordOf(device);
        const held = await queueOf(device, record);
        try {
          if (held.queue.size >= LIMITS.hub_device_commands) {
            await end(device, held, held.queue.expired(now), 'Expired');
          }
          if (held.queue.size >= LIMITS.hub_device_commands) {
            throw iotHubError(
              'DeviceMaximumQueueDepthExceeded',
              `${held.queue.size} messages already wait for device ${deviceId}; that is the most.`,
            );
          }
          const current = await recordOf(device);
          const number = current.commandsSent + 1;
          const command: KeptCommand = {
            number,
            enqueuedMs: now,
            expiresAtMs: untilMs,
            deliveryCount: 0,
            body: Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64'),
            message,
          };
          const next = { ...current, commandCount: held.queue.size + 1, commandsSent: number };
          await device.store.write({
            identities: [{ ref: { deviceId }, record: next }],
            changes: [
              changeOf(commandKey(deviceId, number), command),
              changeOf(expiryKey(untilMs, deviceId, number), 0),
            ],
          });
          held.queue.add(command);
          watches.get(hubId)?.added(untilMs);
        } finally {
          rest(device, held);
        }
      });
      wake(hubId, deviceId);
    },
    receive: (hubId, deviceId) =>
      inTurn(hubId, deviceId, async (device) => {
        const held = await queueOf(device, await recordOf(device));
        try {
          held.queue.release(clock.monotonicMs());
          return relay.take(hubId, deviceId) ?? (await lockNext(device, held));
        } finally {
          rest(device, held);
        }
      }),
    async settle(hubId, deviceId, lockToken, outcome) {
      if (relay.settle(lockToken, outcome)) return;
      await inTurn(hubId, deviceId, async (device) => {
        const held = open.get(`${hubId}/${deviceId}`);
        const command = held?.queue.holding(lockToken, clock.monotonicMs());
        if (held === undefined || command === undefined) {
          throw iotHubError('DeviceMessageLockLost', 'The lock of the message is over; it is delivered again.');
        }
        try {
          if (outcome === 'abandon') await abandon(device, held, command.number);
          else await end(device, held, [command], ENDINGS[outcome]);
        } finally {
          rest(device, held);
        }
      });
      wake(hubId, deviceId);
    },
    purge: (hubId, deviceId) =>
      inTurn(hubId, deviceId, async (device) => {
        const held = await queueOf(device, await recordOf(device));
        const all = held.queue.all();
        try {
          await end(device, held, all, 'Purged');
        } finally {
          rest(device, held);
        }
        return all.length;
      }),
    offer: (...offered) => relay.offer(...offered),
    wake: (hubId, deviceId) => wake(hubId, deviceId),
    receiveFeedback: (hubId, signal) => feedbackOf(hubId).receive(signal),
    settleFeedback: (hubId, lockToken, outcome) => feedbackOf(hubId).settle(lockToken, outcome),
    stop() {
      stopping.abort();
      relay.stop();
      for (const { cancelRelease } of open.values()) cancelRelease?.();
      for (const watch of watches.values()) watch.stop();
    },
  };
}

const ENDINGS = { complete: 'Success', reject: 'Rejected' } as const satisfies Record<
  Exclude<CommandOutcome, 'abandon'>,
  Ending
>;

function checkSize(body: Uint8Array, { properties, messageId }: Omit<CommandMessage, 'body'>): void {
  const bytes = Object.entries(properties).reduce(
    (sum, [name, value]) => sum + name.length + value.length,
    body.byteLength + (messageId?.length ?? 0),
  );
  if (bytes > QUOTAS.command_bytes) {
    throw iotHubError(
      'MessageTooLarge',
      `A cloud-to-device message has at most ${QUOTAS.command_bytes} bytes, not ${bytes}.`,
    );
  }
}

/** Undefined when nobody asked, or there is no id to name it by. */
function feedbackOn(
  { message: { ack, messageId } }: KeptCommand,
  { deviceId, generationId }: DeviceRecord,
  statusCode: Ending,
  wallMs: number,
): FeedbackRecord | undefined {
  const wanted = ack === 'full' || ack === (statusCode === 'Success' ? 'positive' : 'negative');
  if (!wanted || messageId === undefined) return undefined;
  return {
    originalMessageId: messageId,
    enqueuedTimeUtc: isoTime(wallMs),
    statusCode,
    description: statusCode,
    deviceId,
    deviceGenerationId: generationId,
  };
}
