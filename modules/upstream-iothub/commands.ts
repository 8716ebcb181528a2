// What comes down to a device at the hub, whatever the protocol: direct methods, and cloud-to-device messages, which wait while
// their device is away. Those to the gateway's own device name the leaf device that they are for.

import {
  errorText,
  fieldCommand,
  PROPERTY_FIELDPOST_COMMAND,
  WRITE,
  type Clock,
  isDeviceId,
  type CommandAnswer,
  type CommandReceiver,
  type DeviceId,
  type FieldCommand,
} from '#sdk';
import { MESSAGE_LIFE_MS, type CloudMessage, type CloudMessageOutcome, type HubMethodAnswer } from './cloud-message.ts';
import { isClockSet } from './refusals.ts';
import { callSession, deliverToSession } from './session-commands.ts';
import { PROPERTY_DEVICE_ID } from './telemetry.ts';

/** How often it is looked whether a device that is away is back, or what was not taken can be. */
const AWAY_MS = 5000;
/** Of a message id, so that it can be the id of a command. */
const ID_CHARS = 100;

export interface HubCommandsOptions {
  readonly gatewayId: string;
  /** The leaf device that all of it is for; undefined: it comes to the gateway's own device. */
  readonly leafId?: string;
  readonly clock: Clock;
  readonly receiver: CommandReceiver;
}

export interface HubCommands {
  /** Carries out a direct method. Never rejects. */
  method(name: string, payload: Uint8Array): Promise<HubMethodAnswer>;
  /**
   * Carries out a message; while its device is away it waits, for `waitMs` at most where that is given.
   * @throws GatewayError GW_ABORTED when the signal aborts before it has begun.
   */
  message(message: CloudMessage, signal: AbortSignal, waitMs?: number): Promise<CloudMessageOutcome>;
  /** An answer that could not be sent. */
  answerLost(method: string, status: number): void;
}

export function createHubCommands({ gatewayId, leafId, clock, receiver }: HubCommandsOptions): HubCommands {
  /** Of a leaf device. */
  async function callField(deviceId: string, name: string, payload: Uint8Array): Promise<CommandAnswer> {
    try {
      const { command, expiresAtMs } = fieldCommand(deviceId, name, payload);
      return await receiver.run(command, { expiresAtMs });
    } catch (error) {
      return { status: 400, code: 'GW_MESSAGE_INVALID', reason: errorText(error) };
    }
  }

  const isSession = (deviceId: string): deviceId is DeviceId =>
    isDeviceId(deviceId) && receiver.sessions?.has(deviceId) === true;

  return {
    async method(name, payload) {
      if (leafId === undefined) {
        const { status, body } = await receiver.callMethod(name, payload);
        return { status, body: Buffer.from(JSON.stringify(body)) };
      }
      if (isSession(leafId)) return callSession(receiver, leafId, name, payload);
      const { status, ...body } = await callField(leafId, name, payload);
      return { status, body: Buffer.from(JSON.stringify(body)) };
    },

    async message(message, signal, waitMs = MESSAGE_LIFE_MS) {
      const { messageId, expiresAtMs = Number.NaN, property, body } = message;
      if (leafId !== undefined && isSession(leafId)) {
        return deliverToSession({ receiver, deviceId: leafId, clock, message, signal, waitMs });
      }
      const deviceId = leafId ?? property(PROPERTY_DEVICE_ID);
      if (deviceId === undefined) {
        const error = `The property ${PROPERTY_DEVICE_ID} is missing, which names the leaf device.`;
        receiver.onIgnored('not_a_command', { id: messageId, error });
        return 'refused';
      }
      let field: FieldCommand;
      try {
        field = fieldCommand(deviceId, property(PROPERTY_FIELDPOST_COMMAND) ?? WRITE, body);
      } catch (error) {
        receiver.onIgnored('not_a_command', { device: deviceId, id: messageId, error: errorText(error) });
        return 'refused';
      }
      const endsAtMs = clock.monotonicMs() + MESSAGE_LIFE_MS;
      const waitsUntilMs = clock.monotonicMs() + waitMs;
      const id = messageId === undefined || messageId.length > ID_CHARS ? undefined : `c2d.${messageId}`;
      for (;;) {
        if (!receiver.isAway(deviceId)) {
          const { status } = await receiver.run(field.command, { id, expiresAtMs: field.expiresAtMs });
          // Else not taken, and nothing is remembered of it.
          if (status !== 429 && status !== 503) return status < 300 ? 'done' : 'refused';
        }
        // The hub hands out nothing that has expired by its clock: ours counts for what has waited here, if it is set.
        const isExpired = isClockSet(clock) && clock.wallMs() >= expiresAtMs;
        if (isExpired || clock.monotonicMs() >= endsAtMs) {
          receiver.onIgnored('expired', { device: deviceId, id: messageId });
          return 'refused';
        }
        if (clock.monotonicMs() >= waitsUntilMs) return 'waiting';
        await clock.sleep(AWAY_MS, signal);
      }
    },

    answerLost: (method, status) =>
      receiver.onIgnored('answer_not_sent', { device: leafId ?? gatewayId, method, status }),
  };
}
