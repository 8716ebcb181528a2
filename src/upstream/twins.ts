// The twins of an upstream transport: one for each identity that it connects, and those with something left to do from before.

import type { Clock } from '../core/clock.ts';
import { isDeviceId, type DeviceId } from '../core/device.ts';
import type { Endpoint, UpstreamTransport } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { JsonValue } from '../core/reading.ts';
import type { SessionDevices } from '../core/session-devices.ts';
import type { StateSpace } from '../core/state.ts';
import type { DeviceRegistry } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import { readTwinState } from './twin-message.ts';
import { SessionTwin } from './session-twin.ts';
import { newTwinState, type TwinState } from './twin-state.ts';
import { TwinSync } from './twin-sync.ts';

export interface UpstreamTwinsOptions {
  /** The endpoint's name, for the audit. */
  readonly name: string;
  readonly gatewayId: DeviceId;
  /** Where the twins are kept. */
  readonly space: StateSpace;
  readonly registry: Pick<DeviceRegistry, 'get' | 'isExpected' | 'subscribe'>;
  readonly dispatcher: Pick<Dispatcher, 'run'>;
  /** Devices with sessions at the local hub. */
  readonly sessions?: SessionDevices;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

export interface UpstreamTwins {
  /** Resolves when the twin of a device at the local hub is as the peer has it, or the signal aborts. Never rejects. */
  fetched(deviceId: DeviceId, signal: AbortSignal): Promise<void>;
  /** A device confirmed values that came by another way: its twin reports them. */
  confirmed(leafId: string, values: Readonly<Record<string, JsonValue>>): void;
  stop(): void;
}

/** Until the state store can be read. */
const AGAIN_MS = 5000;

/** Has the transport's twins kept in step with the devices; undefined where it carries none. */
export function attachTwins(
  endpoint: Endpoint | UpstreamTransport,
  options: UpstreamTwinsOptions,
): UpstreamTwins | undefined {
  const transport: UpstreamTransport | undefined = 'receiveTwins' in endpoint ? endpoint : undefined;
  if (transport?.receiveTwins === undefined) return undefined;
  const { name, gatewayId, space, registry, clock, telemetry } = options;
  /** By identity: no more than have connections, or had. */
  const syncs = new Map<string, TwinSync>();
  /** Of devices at the local hub. As many. */
  const sessionTwins = new Map<string, SessionTwin>();
  const { sessions } = options;
  const stopping = new AbortController();
  const loaded = load();

  async function load(): Promise<void> {
    for (;;) {
      try {
        for await (const [key, value] of space.entries()) {
          const state = readTwinState(value);
          if (state !== undefined && isDeviceId(key) && !syncs.has(key)) syncs.set(key, create(key, state));
        }
        break;
      } catch (error) {
        if (stopping.signal.aborted) return;
        telemetry.emit('twin_not_synchronised', { key: gatewayId, device: gatewayId, error: errorText(error) });
        await clock.sleep(AGAIN_MS, stopping.signal).catch(() => {});
      }
    }
    for (const sync of syncs.values()) sync.start();
  }

  function create(deviceId: DeviceId, state: TwinState): TwinSync {
    const scope = deviceId === gatewayId ? 'gateway' : { leafId: deviceId };
    return new TwinSync({ ...options, deviceId, scope, state, actor: `upstream:${name}:desired` });
  }

  function syncOf(deviceId: DeviceId): TwinSync {
    const known = syncs.get(deviceId) ?? create(deviceId, newTwinState(clock.wallMs()));
    syncs.set(deviceId, known);
    return known;
  }

  function sessionTwinOf(deviceId: DeviceId, { twins }: SessionDevices): SessionTwin {
    const known = sessionTwins.get(deviceId) ?? new SessionTwin({ ...options, deviceId, twins });
    sessionTwins.set(deviceId, known);
    return known;
  }

  const unwatch = sessions?.watch((deviceId) => sessionTwins.get(deviceId)?.changed());
  const unsubscribe = registry.subscribe(({ deviceId }) => {
    syncs.get(deviceId)?.seen(deviceId);
    syncs.get(gatewayId)?.seen(deviceId);
  });
  transport.receiveTwins({
    onLink: (link) => {
      const { deviceId } = link;
      // No adapter has it: it takes what is desired, and reports, itself.
      if (sessions?.has(deviceId) === true) sessionTwinOf(deviceId, sessions).open(link);
      else {
        void loaded.then(() => {
          if (!stopping.signal.aborted) syncOf(deviceId).open(link);
        });
      }
    },
    onDesired: (link, patch, version) => {
      syncs.get(link.deviceId)?.desired(link, patch, version);
      sessionTwins.get(link.deviceId)?.desired(link, patch, version);
    },
  });
  return {
    fetched: async (deviceId, signal) => {
      if (sessions?.has(deviceId) === true) await sessionTwinOf(deviceId, sessions).fetched(signal);
    },
    confirmed: (leafId, values) =>
      void loaded.then(() => (syncs.get(leafId) ?? syncOf(gatewayId)).confirmed(leafId, values)),
    stop() {
      stopping.abort();
      unsubscribe();
      unwatch?.();
      for (const twin of sessionTwins.values()) twin.stop();
      for (const sync of syncs.values()) sync.stop();
    },
  };
}
