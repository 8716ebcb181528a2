// What back ends do over AMQP: send cloud-to-device messages, and read the feedback on them (contract/service-06).

import {
  iotHubError,
  Notifier,
  parseCommandTarget,
  uuidBytes,
  type AmqpDelivery,
  type AmqpOutcome,
  type AmqpReceiver,
  type AmqpSender,
  type AmqpSent,
  type Clock,
  type CommandOutcome,
  type FeedbackBatch,
  type Hub,
  type HubInfo,
} from '#sdk';
import { receive, type InFlightBytes } from './credit.ts';
import { amqpErrorOf } from './errors.ts';
import { commandOf } from './message-in.ts';
import { encodeFeedback } from './message-out.ts';
import { unsettledDeliveries } from './unsettled.ts';

export interface ServiceContext {
  readonly hub: Hub;
  readonly info: HubInfo;
  readonly clock: Clock;
  readonly inFlight: InFlightBytes;
}

export function commandsReceiver(link: AmqpReceiver, { hub, info, clock, inFlight }: ServiceContext): void {
  async function take(delivery: AmqpDelivery): Promise<void> {
    try {
      const { message } = delivery;
      if (message === undefined) throw iotHubError('ArgumentInvalid', 'Commands are sent one by one.');
      const to = parseCommandTarget(message.to ?? '');
      if (to === undefined) {
        throw iotHubError('InvalidOperation', 'Amqp Message.Properties.To must contain the device identifier.');
      }
      await hub.commands.send(info.hubId, to, commandOf(message));
      delivery.accept();
    } catch (error) {
      delivery.reject(amqpErrorOf(error, clock));
    }
  }
  receive(link, inFlight, take);
}

const OUTCOMES: Readonly<Record<AmqpOutcome, CommandOutcome>> = {
  accepted: 'complete',
  rejected: 'reject',
  released: 'abandon',
  modified: 'abandon',
};

/** Sends batches of feedback until the signal aborts. What was not settled then goes to the next reader. @throws GatewayError as the store. */
export async function sendFeedback(link: AmqpSender, context: ServiceContext, signal: AbortSignal): Promise<void> {
  const { hub, info, clock } = context;
  const { hubId } = info;
  const capacity = new Notifier();
  const locked = new Set<string>();
  const unsettled = unsettledDeliveries();
  link.onCapacity = () => capacity.notify();

  async function settle(token: string, outcome: AmqpOutcome, sent: AmqpSent): Promise<void> {
    locked.delete(token);
    try {
      await hub.commands.settleFeedback(hubId, token, OUTCOMES[outcome]);
      sent.settle('accepted');
    } catch (error) {
      sent.settle(amqpErrorOf(error, clock));
    }
    unsettled.remove(sent);
  }

  function send(batch: FeedbackBatch): void {
    const { lockToken } = batch;
    locked.add(lockToken);
    const sent = link.send(encodeFeedback(batch, info), {
      tag: uuidBytes(lockToken),
      onOutcome: (outcome, one) => void settle(lockToken, outcome, one),
    });
    unsettled.add(sent);
  }

  const giveBack = (token: string): Promise<void> =>
    hub.commands.settleFeedback(hubId, token, 'abandon').catch(() => {});
  try {
    while (!signal.aborted) {
      if (link.capacity === 0) {
        await capacity.wait(signal).catch(() => {});
        continue;
      }
      const batch = await hub.commands.receiveFeedback(hubId, signal);
      if (batch === undefined) continue;
      if (link.capacity > 0) send(batch);
      else await giveBack(batch.lockToken);
    }
  } finally {
    await Promise.all(Array.from(locked, giveBack));
  }
}
