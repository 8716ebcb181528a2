// What the cloud sends to a device at the local hub, handed to the device as it is: it answers methods and settles messages itself.

import { iotHubErrorOf, type Clock, type CommandOutcome, type CommandReceiver, type DeviceId } from '#sdk';
import { MESSAGE_LIFE_MS, type CloudMessage, type CloudMessageOutcome, type HubMethodAnswer } from './cloud-message.ts';
import { isClockSet } from './refusals.ts';

/** Before a message that could not be taken is offered again. */
const AGAIN_MS = 5000;

/** Never rejects. */
export async function callSession(
  { sessions }: CommandReceiver,
  deviceId: DeviceId,
  name: string,
  payload: Uint8Array,
): Promise<HubMethodAnswer> {
  try {
    const { status, payload: body } = (await sessions?.invoke(deviceId, name, payload)) ?? NOBODY;
    return { status, body };
  } catch (error) {
    // It went away just now: the cloud says itself of one that is away that it is.
    const { httpStatus, message } = iotHubErrorOf(error);
    return { status: httpStatus, body: Buffer.from(JSON.stringify({ reason: message })) };
  }
}

const NOBODY: { readonly status: number; readonly payload: Uint8Array } = { status: 404, payload: Buffer.alloc(0) };

const OUTCOMES: Readonly<Record<CommandOutcome, CloudMessageOutcome>> = {
  complete: 'done',
  abandon: 'waiting',
  reject: 'refused',
};

interface Delivery {
  readonly receiver: CommandReceiver;
  readonly deviceId: DeviceId;
  readonly clock: Clock;
  readonly message: CloudMessage;
  readonly signal: AbortSignal;
  readonly waitMs: number;
}

/** As `HubCommands.message`. */
export async function deliverToSession(delivery: Delivery): Promise<CloudMessageOutcome> {
  const { receiver, deviceId, clock, message, signal, waitMs } = delivery;
  const { messageId, expiresAtMs, deliveryCount } = message;
  const leftMs = expiresAtMs !== undefined && isClockSet(clock) ? expiresAtMs - clock.wallMs() : MESSAGE_LIFE_MS;
  const lifeMs = Math.max(0, Math.min(leftMs, MESSAGE_LIFE_MS));
  const over = new AbortController();
  const cancel = clock.after(Math.min(lifeMs, waitMs), () => over.abort());
  const both = AbortSignal.any([signal, over.signal]);
  try {
    for (;;) {
      try {
        const command = { message: message.content(), expiresAtMs, deliveryCount };
        const outcome = await receiver.sessions?.deliver(deviceId, command, both);
        return OUTCOMES[outcome ?? 'reject'];
      } catch (error) {
        if (signal.aborted) throw error;
        const onAbort = (reason: unknown): void => {
          if (signal.aborted) throw reason;
        };
        if (!over.signal.aborted) await clock.sleep(AGAIN_MS, both).catch(onAbort);
      }
      if (!over.signal.aborted) continue;
      // What can be given back expires in the cloud, which says so to its sender.
      if (waitMs < lifeMs || deliveryCount !== undefined) return 'waiting';
      receiver.onIgnored('expired', { device: deviceId, id: messageId });
      return 'refused';
    }
  } finally {
    cancel();
  }
}
