// Devices of adapters as devices of the hub: registered when they show themselves, connected while they are good, written to
// through the dispatcher by direct methods, desired properties and cloud-to-device messages, their confirmed values being the
// reported ones.

import type { Clock } from '../core/clock.ts';
import type { CommandAnswer } from '../core/command.ts';
import { isDeviceId, isReachable, type DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { MethodAnswer, MethodCall } from '../core/hub/messaging.ts';
import type { DeviceRegistry, RegisteredDevice } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import { iotHubError, iotHubErrorName } from '../iothub/errors.ts';
import type { Telemetry } from '../observe/events.ts';
import type { HubCommands } from './commands.ts';
import { refusedNames, reportOf, withdrawalOf, writesOf } from '../iothub/desired-answers.ts';
import { fieldCommand, WRITE } from '../iothub/field-command.ts';
import { createDeviceWork } from './device-work.ts';
import { createFieldInbox } from './field-inbox.ts';
import { createFieldStanding } from './field-standing.ts';
import type { Presence } from './identity-record.ts';
import type { HubRegistry } from './identity-registry.ts';
import type { DirectCall } from './methods.ts';
import type { JsonObject } from '../iothub/twin-record.ts';
import type { HubTwins, TwinChange } from './twins.ts';

export interface FieldSide {
  readonly registry: DeviceRegistry;
  readonly dispatcher: Pick<Dispatcher, 'run' | 'applyDesired'>;
  /** Registers devices when they show themselves. */
  readonly autoRegister: boolean;
}

export interface GatewayDevicesOptions {
  /** The hub that they belong to. */
  readonly hubId: string;
  readonly field: FieldSide;
  readonly identities: () => HubRegistry;
  readonly twins: () => HubTwins;
  readonly commands: () => Pick<HubCommands, 'receive' | 'settle' | 'wake'>;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

export interface GatewayDevices {
  /** Undefined for what is no device of an adapter. */
  presence(hubId: string, ref: IdentityRef): Presence | undefined;
  readonly direct: DirectCall;
  /** Those that have an identity and are good. */
  readonly connectedCount: number;
  /** Cloud-to-device messages wait for a device that has no session of its own. */
  commandsWait(hubId: string, deviceId: string): void;
  /** Desired properties that changed are written to the device. */
  twinChanged(change: TwinChange): void;
  /**
   * A disabled identity shuts its device out, and a deleted one does until the device, should it go away and come back, is
   * registered again. Resolves when that counts, or the store is away: then it is looked at again until it answers.
   */
  identityChanged(hubId: string, deviceId: string, kind: 'created' | 'updated' | 'deleted'): Promise<void>;
  /** Undefined while the device has no identity that is known. */
  generationOf(hubId: string, deviceId: string): string | undefined;
  /** A device of an adapter sent a message: whether it goes to the hub's events. */
  admits(deviceId: string): boolean;
  start(): void;
  stop(): Promise<void>;
}

const DESIRED_ACTOR = 'hub:desired';

export function createGatewayDevices(options: GatewayDevicesOptions): GatewayDevices {
  const { hubId, field, identities, twins, commands, clock, telemetry } = options;
  const { registry, dispatcher } = field;
  const standing = createFieldStanding(
    () => clock.wallMs(),
    (device, reason) => telemetry.emit('hub_device_shut_out', { device, reason }),
  );
  const work = createDeviceWork(clock, (device, error) => {
    telemetry.emit('hub_device_not_synchronised', { key: device, device, error: errorText(error) });
  });
  /** Whose messages are about to be carried out. */
  const emptying = new Set<DeviceId>();
  const stopping = new AbortController();
  const inbox = createFieldInbox({
    hubId,
    isOnline: (deviceId) => isOnline(registry.get(deviceId)),
    dispatcher,
    commands,
    clock,
    telemetry,
    onWritten: (deviceId, { values }) => work.queue(deviceId, () => report(deviceId, values ?? {})),
  });
  let unsubscribe: (() => void) | undefined;

  function deviceOf(hub: string, { deviceId, moduleId }: IdentityRef): RegisteredDevice | undefined {
    if (hub !== hubId || moduleId !== undefined || !isDeviceId(deviceId)) return undefined;
    return registry.get(deviceId);
  }

  /** Good, and a device of the hub. */
  function isOnline(device: RegisteredDevice | undefined): device is RegisteredDevice {
    return device !== undefined && isReachable(device.state) && !standing.isShutOut(device.deviceId);
  }

  /** Finds the device's identity, or makes one. */
  async function register(deviceId: DeviceId): Promise<void> {
    // It has left the configuration, or is there.
    if (registry.get(deviceId) === undefined || standing.generationOf(deviceId) !== undefined) return;
    try {
      await find(deviceId);
    } catch (error) {
      if (iotHubErrorName(error) !== 'DeviceNotFound') throw error;
      if (!field.autoRegister) {
        if (!standing.isShutOut(deviceId)) standing.lost(deviceId, 'unregistered');
        return;
      }
      const made = { deviceId, isGatewayDevice: true, authentication: { type: 'none' } } as const;
      standing.found(deviceId, { generationId: await identities().createDevice(hubId, made), status: 'enabled' });
    }
  }

  /** @throws GatewayError GW_IOTHUB DeviceNotFound, as the store. */
  async function find(deviceId: DeviceId): Promise<void> {
    const isBack = standing.found(deviceId, await identities().device(hubId, deviceId));
    if (isBack) resume(deviceId);
  }

  /** What waited for a device that is back. */
  function resume(deviceId: DeviceId): void {
    work.queue(deviceId, () => synchronise(deviceId));
    commands().wake(hubId, deviceId);
  }

  function seen({ deviceId, state }: RegisteredDevice): void {
    const isBack = standing.saw(deviceId, isReachable(state));
    // A deleted one only when it comes back: to go away is what follows when a device is taken down.
    const isExpected = isBack || !standing.isShutOut(deviceId);
    if (isExpected && standing.generationOf(deviceId) === undefined) work.insist(deviceId, () => register(deviceId));
    if (isBack) resume(deviceId);
  }

  function empty(deviceId: DeviceId): void {
    if (emptying.has(deviceId)) return;
    emptying.add(deviceId);
    work.queue(deviceId, () => {
      emptying.delete(deviceId);
      return inbox.empty(deviceId, stopping.signal);
    });
  }

  /** What is desired and was not confirmed while the device was away. */
  async function synchronise(deviceId: DeviceId): Promise<void> {
    let twin;
    try {
      twin = await twins().record(hubId, { deviceId });
    } catch (error) {
      if (iotHubErrorName(error) === 'DeviceNotFound') return;
      throw error;
    }
    const { desired, reported } = twin;
    const open = Object.entries(desired.value).filter(([name, value]) => reported.value[name] !== value);
    await applyDesired(deviceId, Object.fromEntries(open), desired.version);
  }

  /** Writes what names a point, and reports what the device says that it holds then, or why it was not written. */
  async function applyDesired(deviceId: DeviceId, patch: JsonObject, version: number): Promise<void> {
    const device = registry.get(deviceId);
    if (!isOnline(device)) return;
    const { values, refused } = writesOf(patch, device.info.points);
    const answers = await dispatcher.applyDesired(deviceId, values, { actor: DESIRED_ACTOR });
    const { desired, reported } = await twins().record(hubId, { deviceId });
    const outcomes = { ...refused, ...answers, ...refusedNames(patch, desired.value, device.info.points) };
    await report(deviceId, {
      ...withdrawalOf(desired.value, reported.value),
      ...reportOf(outcomes, reported.value, version),
    });
  }

  async function report(deviceId: DeviceId, patch: Readonly<Record<string, unknown>>): Promise<void> {
    if (Object.keys(patch).length === 0) return;
    await twins().report(hubId, { deviceId }, Buffer.from(JSON.stringify(patch)));
  }

  async function call(device: RegisteredDevice, { name, payload, caller, responseTimeoutMs }: MethodCall) {
    const { deviceId, state } = device;
    if (!isOnline(device)) {
      const why = standing.isShutOut(deviceId) ? 'disabled' : state;
      throw iotHubError('DeviceNotOnline', `The device is ${why}; nothing is delivered to a device that is not good.`);
    }
    const { command, expiresAtMs } = fieldCommand(deviceId, name, payload);
    const answer = await dispatcher.run(command, {
      expiresAtMs,
      actor: `hub:${caller ?? 'service'}`,
      timeoutMs: responseTimeoutMs,
    });
    // Also of a write that was done in part.
    if (name === WRITE && answer.values !== undefined)
      work.queue(deviceId, () => report(deviceId, answer.values ?? {}));
    if (answer.status === 504) throw iotHubError('GatewayTimeout', answer.reason ?? 'The device did not answer.');
    return answerOf(answer);
  }

  return {
    presence(hub, ref) {
      const device = deviceOf(hub, ref);
      if (device === undefined) return undefined;
      const { wallMs } = device.since;
      const activityMs = Math.max(
        standing.lastMessageMs(device.deviceId) ?? 0,
        device.state === 'unknown' ? 0 : wallMs,
      );
      const connectionChangedMs = standing.connectionChangedMs(device.deviceId) ?? wallMs;
      return { isConnected: isOnline(device), connectionChangedMs, ...(activityMs > 0 && { activityMs }) };
    },
    get connectedCount() {
      return registry.list().filter((device) => isOnline(device) && standing.generationOf(device.deviceId)).length;
    },
    commandsWait(hub, deviceId) {
      const device = deviceOf(hub, { deviceId });
      if (isOnline(device)) empty(device.deviceId);
    },
    direct(hub, ref, methodCall) {
      const device = deviceOf(hub, ref);
      return device === undefined ? undefined : call(device, methodCall);
    },
    twinChanged({ hubId: hub, ref, by, desired, twin }) {
      const device = by === 'service' && desired !== undefined ? deviceOf(hub, ref) : undefined;
      if (device === undefined) return;
      work.queue(device.deviceId, () => applyDesired(device.deviceId, desired ?? {}, twin.desired.version));
    },
    async identityChanged(hub, deviceId, kind) {
      const device = deviceOf(hub, { deviceId });
      if (device === undefined) {
        // No device of an adapter, or one that has left the configuration: should it come back, it is looked at again.
        if (hub === hubId) standing.forget(deviceId);
      } else if (kind === 'deleted') {
        work.giveUp(device.deviceId);
        standing.lost(deviceId, 'deleted');
      } else {
        await find(device.deviceId).catch((error: unknown) => {
          // The store is away. One that is gone again is told of by itself.
          if (iotHubErrorName(error) !== 'DeviceNotFound') work.insist(device.deviceId, () => find(device.deviceId));
        });
      }
    },
    generationOf: (hub, deviceId) => (hub === hubId ? standing.generationOf(deviceId) : undefined),
    admits: (deviceId) => standing.admits(deviceId),
    start() {
      unsubscribe = registry.subscribe(seen);
      for (const device of registry.list()) seen(device);
    },
    async stop() {
      unsubscribe?.();
      stopping.abort();
      await work.stop();
    },
  };
}

function answerOf({ status, ...rest }: CommandAnswer): MethodAnswer {
  return { status, payload: Buffer.from(JSON.stringify(rest)) };
}
