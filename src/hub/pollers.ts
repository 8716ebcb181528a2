// Devices that ask for their messages over HTTPS. They hold no session: they count as listening for a while after they asked, so that
// what the cloud behind the hub has for them is fetched; whoever asks for the first time waits for it a moment.

import type { Clock } from '../core/clock.ts';
import type { DeliveredCommand } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';

export interface PollersOptions {
  /** The hub that stands in for the cloud. */
  readonly hubId: string;
  readonly receive: (hubId: string, deviceId: string) => Promise<DeliveredCommand | undefined>;
  /** Whether the cloud has messages for the device. @throws GatewayError as the store. */
  readonly isOfCloud: (deviceId: string) => Promise<boolean>;
  /** Resolves, soon in any case, when the device is connected to the cloud, where that can be reached. Never rejects. */
  readonly reached: (deviceId: string) => Promise<void>;
  /** A device that did not listen does so now. Must not throw. */
  readonly onListening: (deviceId: string) => void;
  readonly clock: Clock;
}

export interface Pollers {
  /** As `Commands.receive`. */
  receive(hubId: string, deviceId: string): Promise<DeliveredCommand | undefined>;
  /** Something for a device has come from the cloud. */
  arrived(deviceId: string): void;
  isListening(deviceId: string): boolean;
  listening(): readonly string[];
}

/** As long as its link to the cloud is kept for the next time. */
const LISTENING_MS = 60_000;
/** From when it is connected there. */
const ARRIVAL_MS = 1000;

export function createPollers({ hubId, clock, ...options }: PollersOptions): Pollers {
  /** When they asked last, by the monotonic clock; the one that is longest ago first. */
  const asked = new Map<string, number>();
  /** Of those who wait. */
  const waiting = new Map<string, Set<() => void>>();

  const isListening = (deviceId: string): boolean =>
    clock.monotonicMs() - (asked.get(deviceId) ?? Number.NEGATIVE_INFINITY) < LISTENING_MS;

  function note(deviceId: string): void {
    const isNew = !isListening(deviceId);
    asked.delete(deviceId);
    asked.set(deviceId, clock.monotonicMs());
    for (const known of asked.keys()) {
      if (isListening(known) && asked.size <= LIMITS.hub_polling_devices) break;
      asked.delete(known);
    }
    if (isNew) options.onListening(deviceId);
  }

  async function arrival(deviceId: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const own = waiting.get(deviceId) ?? new Set();
    waiting.set(deviceId, own.add(resolve));
    const patience = new AbortController();
    const late = options
      .reached(deviceId)
      .then(() => clock.sleep(ARRIVAL_MS, patience.signal))
      .catch(() => {});
    await Promise.race([promise, late]);
    patience.abort();
    own.delete(resolve);
    if (own.size === 0) waiting.delete(deviceId);
  }

  return {
    async receive(hub, deviceId) {
      const isNew = hub === hubId && !isListening(deviceId);
      if (hub === hubId) note(deviceId);
      const command = await options.receive(hub, deviceId);
      if (command !== undefined || !isNew || !(await options.isOfCloud(deviceId))) return command;
      await arrival(deviceId);
      return options.receive(hub, deviceId);
    },
    arrived(deviceId) {
      for (const resolve of waiting.get(deviceId) ?? []) resolve();
    },
    isListening,
    listening: () => [...asked.keys()].filter(isListening),
  };
}
