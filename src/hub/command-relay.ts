// Cloud-to-device messages on their way from the cloud behind the hub to a device's session. The cloud keeps them until they are
// settled here, so that they are in memory alone: a crash has them delivered again, as the service does.
//
// Invariants
// - A message is settled once: by its device, or by being given up. One that a session has is not given up before the lock ends.
// - What a session that ended had, or a lock that ran out held, is delivered again before what came later.
// - What a device completed or rejected is not given to it again because the cloud could not be told.

import type { Clock } from '../core/clock.ts';
import type { CommandOutcome, DeliveredCommand, SessionId } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import type { CloudCommand } from '../core/session-devices.ts';
import { iotHubError } from '../iothub/errors.ts';
import { abortError } from '../platform/abort.ts';
import { randomUuid } from '../platform/random.ts';
import { createSettledCommands } from './settled-commands.ts';

export interface CommandRelayOptions {
  readonly clock: Clock;
  readonly lockMs: number;
  /** Of a message that the cloud takes not back. */
  readonly maxDeliveryCount: number;
  /** Of a message for which nobody says until when it holds. */
  readonly defaultTtlMs: number;
  /** There is something for a device to take. Must not throw. */
  readonly onWaiting: (hubId: string, deviceId: string) => void;
}

export interface CommandRelay {
  /**
   * Resolves when the device has settled it; not by what it gives back, where the cloud does not take that.
   * @throws GatewayError GW_ABORTED; GW_IOTHUB DeviceMaximumQueueDepthExceeded.
   */
  offer(hubId: string, deviceId: string, command: CloudCommand, signal: AbortSignal): Promise<CommandOutcome>;
  has(hubId: string, deviceId: string): boolean;
  /** Locks the first that nobody holds. @param sessionId undefined: for whoever asked over HTTPS. */
  take(hubId: string, deviceId: string, sessionId?: SessionId): DeliveredCommand | undefined;
  /** What was taken could not be sent. */
  giveBack(lockToken: string): void;
  /** Whether the lock is one of these messages, and held still. */
  settle(lockToken: string, outcome: CommandOutcome): boolean;
  sessionEnded(sessionId: SessionId): void;
  stop(): void;
}

interface Asker {
  /** Aborts when the link ends. */
  readonly link: AbortSignal;
  readonly onAbort: () => void;
  readonly resolve: (outcome: CommandOutcome) => void;
  readonly reject: (reason: unknown) => void;
}

interface Entry {
  readonly hubId: string;
  readonly deviceId: string;
  readonly number: number;
  readonly enqueuedMs: number;
  readonly command: CloudCommand;
  /** Whoever offered it last: over the link that they have to the cloud. */
  asker: Asker;
  deliveryCount: number;
  lock: { readonly token: string; readonly sessionId: SessionId | undefined; readonly cancel: () => void } | undefined;
}

export function createCommandRelay(options: CommandRelayOptions): CommandRelay {
  const { clock, lockMs, maxDeliveryCount, defaultTtlMs, onWaiting } = options;
  /** By hub and device, in their order. */
  const waiting = new Map<string, Set<Entry>>();
  const locked = new Map<string, Entry>();
  const settled = createSettledCommands(clock);
  let number = 0;

  function remove(entry: Entry): void {
    const key = `${entry.hubId}/${entry.deviceId}`;
    const queue = waiting.get(key);
    queue?.delete(entry);
    if (queue?.size === 0) waiting.delete(key);
  }

  function unlock(entry: Entry): void {
    if (entry.lock === undefined) return;
    entry.lock.cancel();
    locked.delete(entry.lock.token);
    entry.lock = undefined;
  }

  /** It is for anybody again. */
  function free(entry: Entry): void {
    unlock(entry);
    giveUp(entry);
    onWaiting(entry.hubId, entry.deviceId);
  }

  function end(entry: Entry): void {
    entry.asker.link.removeEventListener('abort', entry.asker.onAbort);
    unlock(entry);
    remove(entry);
  }

  /** What a session has may yet be settled. */
  function giveUp(entry: Entry): void {
    const { link, reject } = entry.asker;
    if (!link.aborted || entry.lock !== undefined) return;
    end(entry);
    reject(abortError(link));
  }

  function settle(entry: Entry, outcome: CommandOutcome): void {
    const { link, resolve } = entry.asker;
    end(entry);
    const key = settledKey(entry);
    if (key !== undefined && outcome !== 'abandon') settled.note(key, outcome, link);
    resolve(outcome);
  }

  function settledKey({ hubId, deviceId, command }: Pick<Entry, 'hubId' | 'deviceId' | 'command'>): string | undefined {
    const { messageId } = command.message;
    return messageId === undefined ? undefined : `${hubId}/${deviceId}/${messageId}`;
  }

  /** The same message, which came over a link that is gone, and is with its device still. */
  function held(queue: ReadonlySet<Entry>, { message }: CloudCommand): Entry | undefined {
    if (message.messageId === undefined) return undefined;
    return [...queue].find(
      ({ asker, command }) => asker.link.aborted && command.message.messageId === message.messageId,
    );
  }

  function newEntry(hubId: string, deviceId: string, command: CloudCommand, asker: Asker): Entry {
    number += 1;
    const deliveryCount = command.deliveryCount ?? 0;
    return { hubId, deviceId, number, enqueuedMs: clock.wallMs(), command, asker, deliveryCount, lock: undefined };
  }

  return {
    offer(hubId, deviceId, command, link) {
      const key = settledKey({ hubId, deviceId, command });
      const known = key === undefined ? undefined : settled.find(key);
      if (known !== undefined) return Promise.resolve(known);
      if (link.aborted) return Promise.reject(abortError(link));
      const queue = waiting.get(`${hubId}/${deviceId}`) ?? new Set<Entry>();
      const same = held(queue, command);
      if (same === undefined && queue.size >= LIMITS.hub_device_commands) {
        const text = `${queue.size} messages already wait for device ${deviceId}; that is the most.`;
        return Promise.reject(iotHubError('DeviceMaximumQueueDepthExceeded', text));
      }
      waiting.set(`${hubId}/${deviceId}`, queue);
      return new Promise((resolve, reject) => {
        const asker: Asker = { link, resolve, reject, onAbort: () => giveUp(entry) };
        const entry = same ?? newEntry(hubId, deviceId, command, asker);
        same?.asker.reject(abortError(same.asker.link));
        entry.asker = asker;
        link.addEventListener('abort', asker.onAbort, { once: true });
        queue.add(entry);
        if (same === undefined) onWaiting(hubId, deviceId);
      });
    },
    has: (hubId, deviceId) => waiting.has(`${hubId}/${deviceId}`),
    take(hubId, deviceId, sessionId) {
      const entry = [...(waiting.get(`${hubId}/${deviceId}`) ?? [])].find(({ lock }) => lock === undefined);
      if (entry === undefined) return undefined;
      const token = randomUuid();
      entry.lock = { token, sessionId, cancel: clock.after(lockMs, () => free(entry)) };
      locked.set(token, entry);
      const { command, enqueuedMs, deliveryCount } = entry;
      return {
        lockToken: token,
        lockedUntilMs: clock.monotonicMs() + lockMs,
        sequenceNumber: entry.number,
        deliveryCount,
        enqueuedTimeMs: enqueuedMs,
        expiresAtMs: command.expiresAtMs ?? enqueuedMs + defaultTtlMs,
        message: command.message,
      };
    },
    giveBack(lockToken) {
      const entry = locked.get(lockToken);
      if (entry === undefined) return;
      unlock(entry);
      giveUp(entry);
    },
    settle(lockToken, outcome) {
      const entry = locked.get(lockToken);
      if (entry === undefined) return false;
      if (outcome !== 'abandon' || entry.command.deliveryCount !== undefined) settle(entry, outcome);
      else if (entry.deliveryCount + 1 >= maxDeliveryCount) settle(entry, 'reject');
      else {
        entry.deliveryCount += 1;
        free(entry);
      }
      return true;
    },
    sessionEnded(sessionId) {
      for (const entry of locked.values()) if (entry.lock?.sessionId === sessionId) free(entry);
    },
    stop() {
      settled.stop();
      for (const entry of locked.values()) entry.lock?.cancel();
    },
  };
}
