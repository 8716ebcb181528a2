// What devices send up: checked, stamped with who sent it, and stored before it is acknowledged.

import type { Clock } from '../core/clock.ts';
import { isDeviceId } from '../core/device.ts';
import { isGatewayError } from '../core/errors.ts';
import type { Principal } from '../core/hub/access.ts';
import type { IdentityRef, IdentityRegistry } from '../core/hub/identity.ts';
import type { TelemetryIntake } from '../core/hub/messaging.ts';
import type { TelemetryMessage } from '../core/hub/telemetry-message.ts';
import { messageBytes, type HubStamps, type Message } from '../core/message.ts';
import { iotHubError, iotHubErrorOf } from '../iothub/errors.ts';
import { QUOTAS } from '../iothub/quotas.ts';
import { isHubStamp } from '../iothub/stamps.ts';

export interface TelemetryIntakeOptions {
  /** The one door in: resolves after the sync of the one commit that has them all. */
  readonly ingress: { messages(messages: readonly Message[], signal?: AbortSignal): Promise<void> };
  /** Asked only for whom a policy speaks; devices and modules were let in with all that is needed. */
  readonly identities: Pick<IdentityRegistry, 'device' | 'module'>;
  readonly clock: Clock;
}

/** Characters of `message-id` and `correlation-id` (contract/device-semantics.md, section 1). */
const ID_MAX_CHARS = 128;

export function createTelemetryIntake(options: TelemetryIntakeOptions): TelemetryIntake {
  const { ingress, identities, clock } = options;
  /** The stamps of each session's last message: the next one nearly always has the same, and shares the object. */
  const lastStamps = new WeakMap<Principal, HubStamps>();

  function stampsOf(principal: Principal, generationId: string, message: TelemetryMessage): HubStamps {
    const { interfaceId, outputName, modelId } = message;
    const { authMethod } = principal;
    const last = lastStamps.get(principal);
    if (
      last?.generationId === generationId &&
      last.interfaceId === interfaceId &&
      last.outputName === outputName &&
      last.dataSchema === modelId
    ) {
      return last;
    }
    const stamps: HubStamps = {
      authMethod,
      generationId,
      source: 'Telemetry',
      ...(interfaceId === undefined ? {} : { interfaceId }),
      ...(modelId === undefined ? {} : { dataSchema: modelId }),
      ...(outputName === undefined ? {} : { outputName }),
    };
    lastStamps.set(principal, stamps);
    return stamps;
  }

  async function generationOf(principal: Principal, from: IdentityRef): Promise<string> {
    const { deviceId, moduleId } = from;
    if (principal.kind !== 'policy') {
      const { identity } = principal;
      if (identity?.deviceId === deviceId && identity.moduleId === moduleId) return principal.generationId ?? '';
      throw notAllowed(from);
    }
    if (!principal.permissions.includes('DeviceConnect')) throw notAllowed(from);
    const device = await identities.device(principal.hubId, deviceId);
    if (device.status === 'disabled') throw iotHubError('DeviceDisabled', `Device ${deviceId} is disabled.`);
    if (moduleId === undefined) return device.generationId;
    return (await identities.module(principal.hubId, { deviceId, moduleId })).generationId;
  }

  return {
    async send(principal, from, telemetry, signal) {
      const { deviceId, moduleId } = from;
      if (!isDeviceId(deviceId)) throw iotHubError('ArgumentInvalid', 'The id of the device is not allowed.');
      const generationId = await generationOf(principal, from);
      const time = clock.now();
      const messages = telemetry.map((message): Message => {
        const sent: Message = {
          hubId: principal.hubId,
          hub: stampsOf(principal, generationId, message),
          deviceId,
          ...(moduleId === undefined ? {} : { moduleId }),
          body: message.body,
          properties: withoutStamps(message.properties),
          systemProperties: message.systemProperties,
          time,
        };
        check(sent);
        return sent;
      });
      try {
        await ingress.messages(messages, signal);
      } catch (error) {
        // The caller has stopped waiting, or it is no fault that a device could do anything about.
        if (!isGatewayError(error) || isGatewayError(error, 'GW_ABORTED')) throw error;
        const { name, message } = iotHubErrorOf(error);
        throw iotHubError(name, message);
      }
    },
  };
}

function notAllowed({ deviceId, moduleId }: IdentityRef): Error {
  const who = moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;
  return iotHubError('IotHubUnauthorizedAccess', `These credentials may not send as ${who}.`);
}

/** What only the hub may say is left out of what a device says, whatever its case: nobody can speak for another. */
function withoutStamps(properties: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const names = Object.keys(properties);
  if (!names.some(isHubStamp)) return properties;
  return Object.fromEntries(names.filter((name) => !isHubStamp(name)).map((name) => [name, properties[name] ?? '']));
}

function check(message: Message): void {
  const bytes = messageBytes(message);
  if (bytes > QUOTAS.device_message_bytes) {
    throw iotHubError(
      'MessageTooLarge',
      `The message has ${bytes} bytes; the most is ${QUOTAS.device_message_bytes}, properties included.`,
    );
  }
  for (const name of ['messageId', 'correlationId'] as const) {
    const id = message.systemProperties[name];
    if (id === undefined || id.length <= ID_MAX_CHARS) continue;
    throw iotHubError('ArgumentInvalid', `${name} has ${id.length} characters; the most is ${ID_MAX_CHARS}.`);
  }
}
