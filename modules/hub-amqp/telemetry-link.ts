// Telemetry of a device or module: single messages and batches, settled once they are stored.

import {
  errorText,
  iotHubError,
  LIMITS,
  QUOTAS,
  type AmqpDelivery,
  type AmqpIncoming,
  type AmqpReceiver,
  type TelemetryMessage,
} from '#sdk';
import { receive } from './credit.ts';
import type { DeviceContext } from './device-context.ts';
import { amqpErrorOf } from './errors.ts';
import { telemetryOf } from './message-in.ts';

/** `amqp-message-format` of several messages in one transfer. */
const BATCH = 0x8001_3700;

export function telemetryReceiver(link: AmqpReceiver, context: DeviceContext): void {
  const { hub, ref, sessionId, modelId, clock, inFlight, onFault } = context;

  async function take(delivery: AmqpDelivery): Promise<void> {
    try {
      const messages = messagesOf(delivery, modelId);
      const [first] = messages;
      if (first !== undefined && onFault?.(first.properties, delivery) === true) return;
      hub.sessions.touch(sessionId);
      await hub.telemetry.send(context.principal(), ref, messages);
      delivery.accept();
    } catch (error) {
      delivery.reject(amqpErrorOf(error, clock));
    }
  }

  receive(link, inFlight, take);
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid; MessageTooLarge of a batch (contract/device-semantics.md, section 2). */
function messagesOf(delivery: AmqpDelivery, modelId: string | undefined): readonly TelemetryMessage[] {
  const { format, message, bytes } = delivery;
  if (message !== undefined) return [telemetryOf(message, modelId)];
  if (format !== BATCH) throw iotHubError('ArgumentInvalid', `The message format ${format} is not known.`);
  if (bytes > QUOTAS.device_message_bytes) {
    throw iotHubError('MessageTooLarge', `The batch has ${bytes} bytes; the most is ${QUOTAS.device_message_bytes}.`);
  }
  const batch = partsOf(delivery);
  if (batch.length === 0) throw iotHubError('ArgumentInvalid', 'The batch is empty.');
  return batch.map((one) => telemetryOf(one, modelId));
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid: sent again it would be no better. */
function partsOf(delivery: AmqpDelivery): readonly AmqpIncoming[] {
  try {
    return delivery.batch(LIMITS.hub_batch_messages);
  } catch (error) {
    throw iotHubError('ArgumentInvalid', errorText(error));
  }
}
