// Devices of adapters as devices of the hub: registered when they show themselves, connected while they are good, written to
// through the dispatcher by direct methods, desired properties and cloud-to-device messages, their confirmed values being the
// reported ones.

import type { Clock } from '../core/clock.ts';
import type { CommandAnswer } from '../core/command.ts';
import { isDeviceId, isReachable, type DeviceId, type DeviceState } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { MethodAnswer, MethodCall } from '../core/hub/messaging.ts';
import type { PointValue } from '../core/reading.ts';
import type { DeviceRegistry, RegisteredDevice } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import { iotHubError, iotHubErrorName } from '../iothub/errors.ts';
import type { Telemetry } from '../observe/events.ts';
import type { HubCommands } from './commands.ts';
import { reportOf, withdrawalOf, type Outcome } from './desired-answers.ts';
import { fieldCommand, WRITE } from '../iothub/field-command.ts';
import { createFieldInbox } from './field-inbox.ts';
import type { Presence } from './identity-record.ts';
import type { HubRegistry } from './identity-registry.ts';
import type { DirectCall } from './methods.ts';
import type { Json, JsonObject } from './twin-record.ts';
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
  /** An identity is new or gone: a device that is still there is registered again when it shows itself next. */
  identityChanged(hubId: string, deviceId: string, kind: 'created' | 'deleted'): void;
  /** Undefined while the device has no identity that is known. */
  generationOf(hubId: string, deviceId: string): string | undefined;
  start(): void;
  stop(): Promise<void>;
}

const DESIRED_ACTOR = 'hub:desired';

export function createGatewayDevices(options: GatewayDevicesOptions): GatewayDevices {
  const { hubId, field, identities, twins, commands, clock, telemetry } = options;
  const { registry, dispatcher } = field;
  /** Generation by device. */
  const registered = new Map<string, string>();
  /** One line of work a device: registering it, then its desired properties. */
  const work = new Map<string, Promise<void>>();
  const lastState = new Map<string, DeviceState>();
  /** Whose messages are about to be carried out. */
  const emptying = new Set<DeviceId>();
  const stopping = new AbortController();
  const inbox = createFieldInbox({
    hubId,
    registry,
    dispatcher,
    commands,
    clock,
    telemetry,
    onWritten: (deviceId, { values }) => queue(deviceId, () => report(deviceId, values ?? {})),
  });
  let unsubscribe: (() => void) | undefined;

  function deviceOf(hub: string, { deviceId, moduleId }: IdentityRef): RegisteredDevice | undefined {
    if (hub !== hubId || moduleId !== undefined || !isDeviceId(deviceId)) return undefined;
    return registry.get(deviceId);
  }

  function queue(deviceId: string, step: () => Promise<void>): void {
    const done = (work.get(deviceId) ?? Promise.resolve()).then(step).catch((error: unknown) => {
      telemetry.emit('hub_device_not_synchronised', { key: deviceId, device: deviceId, error: errorText(error) });
    });
    work.set(deviceId, done);
    void done.then(() => {
      if (work.get(deviceId) === done) work.delete(deviceId);
    });
  }

  /** Finds the device's identity, or makes one. */
  async function register(deviceId: DeviceId): Promise<void> {
    if (registered.has(deviceId)) return;
    let generationId;
    try {
      ({ generationId } = await identities().device(hubId, deviceId));
    } catch (error) {
      if (iotHubErrorName(error) !== 'DeviceNotFound') throw error;
      if (!field.autoRegister) return;
      const made = { deviceId, isGatewayDevice: true, authentication: { type: 'none' } } as const;
      generationId = await identities().createDevice(hubId, made);
    }
    registered.set(deviceId, generationId);
  }

  function seen({ deviceId, state }: RegisteredDevice): void {
    const isBack = isReachable(state) && !isReachable(lastState.get(deviceId));
    lastState.set(deviceId, state);
    if (!registered.has(deviceId)) queue(deviceId, () => register(deviceId));
    if (!isBack) return;
    queue(deviceId, () => synchronise(deviceId));
    commands().wake(hubId, deviceId);
  }

  function empty(deviceId: DeviceId): void {
    if (emptying.has(deviceId)) return;
    emptying.add(deviceId);
    queue(deviceId, () => {
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
    if (device === undefined || !isReachable(device.state)) return;
    const outcomes: Record<string, Outcome> = {};
    const values: Record<string, PointValue> = {};
    for (const [name, value] of Object.entries(patch)) {
      const point = device.info.points.find((one) => one.name === name);
      if (point === undefined || value === null) continue;
      if (!point.writable) outcomes[name] = { status: 400, reason: 'The point cannot be written.' };
      else if (isScalar(value)) values[name] = value;
      else outcomes[name] = { status: 400, reason: 'A point takes a number, a boolean or a text.' };
    }
    Object.assign(outcomes, await dispatcher.applyDesired(deviceId, values, { actor: DESIRED_ACTOR }));
    const { desired, reported } = await twins().record(hubId, { deviceId });
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
    if (!isReachable(state)) {
      throw iotHubError(
        'DeviceNotOnline',
        `The device is ${state}; nothing is delivered to a device that is not good.`,
      );
    }
    const answer = await dispatcher.run(fieldCommand(deviceId, name, payload), {
      actor: `hub:${caller ?? 'service'}`,
      timeoutMs: responseTimeoutMs,
    });
    if (answer.status === 504) throw iotHubError('GatewayTimeout', answer.reason ?? 'The device did not answer.');
    if (name === WRITE && answer.status === 200) queue(deviceId, () => report(deviceId, answer.values ?? {}));
    return answerOf(answer);
  }

  return {
    presence(hub, ref) {
      const device = deviceOf(hub, ref);
      if (device === undefined) return undefined;
      const { wallMs } = device.since;
      return { isConnected: isReachable(device.state), connectionChangedMs: wallMs, activityMs: wallMs };
    },
    get connectedCount() {
      return registry.list().filter(({ deviceId, state }) => isReachable(state) && registered.has(deviceId)).length;
    },
    commandsWait(hub, deviceId) {
      const device = deviceOf(hub, { deviceId });
      if (device !== undefined && isReachable(device.state)) empty(device.deviceId);
    },
    direct(hub, ref, methodCall) {
      const device = deviceOf(hub, ref);
      return device === undefined ? undefined : call(device, methodCall);
    },
    twinChanged({ hubId: hub, ref, by, desired, twin }) {
      const device = by === 'service' && desired !== undefined ? deviceOf(hub, ref) : undefined;
      if (device === undefined) return;
      queue(device.deviceId, () => applyDesired(device.deviceId, desired ?? {}, twin.desired.version));
    },
    identityChanged(hub, deviceId, kind) {
      const device = deviceOf(hub, { deviceId });
      if (hub === hubId) registered.delete(deviceId);
      if (kind === 'created' && device !== undefined) queue(deviceId, () => register(device.deviceId));
    },
    generationOf: (hub, deviceId) => (hub === hubId ? registered.get(deviceId) : undefined),
    start() {
      unsubscribe = registry.subscribe(seen);
      for (const device of registry.list()) seen(device);
    },
    async stop() {
      unsubscribe?.();
      stopping.abort();
      await Promise.all(work.values());
    },
  };
}

function answerOf({ status, ...rest }: CommandAnswer): MethodAnswer {
  return { status, payload: Buffer.from(JSON.stringify(rest)) };
}

function isScalar(value: Json): value is number | boolean | string {
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string';
}
