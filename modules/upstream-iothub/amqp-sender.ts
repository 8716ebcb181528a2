// A sending link of one identity, which is attached once the hub has its token.

import {
  GatewayError,
  errorText,
  isGatewayError,
  type AmqpClient,
  type AmqpClientSender,
  type AmqpSenderOptions,
} from '#sdk';
import { tokenRefused } from './amqp-conditions.ts';

/**
 * @param ready resolves when the identity may attach; rejects with a GatewayError, which then ends the link.
 * @param awaits what that waits for, as a sentence.
 */
export function openWhenReady(
  client: Pick<AmqpClient, 'openSender'>,
  options: AmqpSenderOptions,
  ready: Promise<void>,
  awaits: string,
): AmqpClientSender {
  let sender: AmqpClientSender | undefined;
  let isClosed = false;
  ready.then(
    () => {
      if (!isClosed) sender = client.openSender(options);
    },
    (error: unknown) => {
      if (isClosed) return;
      isClosed = true;
      options.onClosed(tokenRefused(isGatewayError(error) ? error : new GatewayError('GW_INTERNAL', errorText(error))));
    },
  );
  return {
    get awaits() {
      return sender === undefined ? awaits : undefined;
    },
    get maxMessageBytes() {
      return sender?.maxMessageBytes;
    },
    get hasCredit() {
      return sender?.hasCredit ?? false;
    },
    get capacity() {
      return sender?.capacity ?? 0;
    },
    send: (message, format) => {
      if (sender === undefined) throw new GatewayError('GW_INTERNAL', 'The link is not attached.');
      return sender.send(message, format);
    },
    close: () => {
      isClosed = true;
      sender?.close();
    },
  };
}
