// Direct methods of one identity over AMQP: a pair of links in its session, calls on one, answers on the other
// (contract/device-amqp.md, section 8).

import {
  amqpInt,
  deviceLinkAddress,
  encodeAmqpMessage,
  randomUuid,
  type AmqpClientSession,
  type AmqpDelivery,
  type AmqpError,
  type AmqpId,
} from '#sdk';
import { LINK_PROPERTIES } from './client-name.ts';
import type { HubMethodAnswer } from './cloud-message.ts';
import type { HubCommands } from './commands.ts';

export interface AmqpMethodsOptions {
  readonly session: AmqpClientSession;
  /** At the hub. */
  readonly deviceId: string;
  readonly apiVersion: string;
  readonly commands: Pick<HubCommands, 'method' | 'answerLost'>;
  readonly onClosed: (error: AmqpError | undefined) => void;
}

/** Under way at once; the hub keeps the others. */
const METHODS = 16;
const MAX_CALL_BYTES = 256 * 1024;
/** As of one that went away just before. */
const GONE = { status: 404, body: Buffer.from('{"reason":"The device has gone away."}') };

/**
 * As long as the links stand, the hub says of the device that it is there. Returns what closes them, and answers for the device
 * what it has not answered.
 */
export function openAmqpMethods({ session, deviceId, apiVersion, commands, onClosed }: AmqpMethodsOptions): () => void {
  /** Calls not yet answered. */
  const open = new Set<AmqpId>();
  /** Answers that wait for credit. */
  const unsent: Uint8Array[] = [];
  const link = {
    address: deviceLinkAddress({ deviceId }, 'methods/devicebound'),
    // By it the hub finds the two that belong together.
    properties: {
      ...LINK_PROPERTIES,
      'com.microsoft:api-version': apiVersion,
      'com.microsoft:channel-correlation-id': `methods:${randomUuid()}`,
    },
    onClosed,
  };

  function flush(): void {
    while (answers.capacity > 0) {
      const answer = unsent.shift();
      if (answer === undefined) return;
      answers.send(answer);
    }
  }

  function answer(correlationId: AmqpId, { status, body }: HubMethodAnswer): void {
    open.delete(correlationId);
    unsent.push(
      encodeAmqpMessage({
        properties: { correlationId },
        applicationProperties: { 'IoThub-status': amqpInt(status) },
        data: body,
      }),
    );
    flush();
  }

  async function take(delivery: AmqpDelivery): Promise<void> {
    const { applicationProperties, body, correlationId } = delivery.message ?? {};
    const name = applicationProperties?.['IoThub-methodname'];
    if (typeof name === 'string' && correlationId !== undefined) {
      open.add(correlationId);
      const answered = await commands.method(name, body ?? new Uint8Array(0));
      if (session.isOver || !open.has(correlationId)) commands.answerLost(name, answered.status);
      else answer(correlationId, answered);
    }
    // Another may come now.
    delivery.accept();
  }

  const answers = session.openSender({
    ...link,
    window: METHODS,
    onOpen: () => {},
    onCapacity: flush,
    onAnswer: () => {},
  });
  const calls = session.openReceiver({
    ...link,
    credit: METHODS,
    maxMessageBytes: MAX_CALL_BYTES,
    onOpen: () => {},
    onDelivery: (delivery) => void take(delivery),
  });
  return () => {
    for (const correlationId of open) answer(correlationId, GONE);
    calls.close();
    answers.close();
  };
}
