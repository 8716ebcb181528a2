// Claims-based security: tokens are put on `$cbs`, each is answered there (contract/device-amqp.md, section 4;
// contract/service-01, section 6.3).

import {
  amqpInt,
  encodeAmqpMessage,
  iotHubError,
  iotHubErrorOf,
  type AmqpDelivery,
  type AmqpIncoming,
  type AmqpReceiver,
  type AmqpSender,
} from '#sdk';
import { bodyOf } from './message-in.ts';
import { linkQueue, type LinkQueue } from './link-queue.ts';

/** Links on which requests are answered: those for `$cbs`, or those for `$management`. */
export class ReplyLinks {
  readonly #links = new Map<AmqpSender, LinkQueue>();

  add(link: AmqpSender): void {
    this.#links.set(link, linkQueue(link));
  }

  remove(link: AmqpSender): void {
    this.#links.delete(link);
  }

  /** The one that a request names, else one of its session, else any. */
  find(request: AmqpIncoming | undefined, from: AmqpReceiver): LinkQueue | undefined {
    const all = [...this.#links.keys()].toReversed();
    const replyTo = request?.replyTo;
    const isNamed = (link: AmqpSender): boolean =>
      replyTo !== undefined && (link.peerAddress === replyTo || link.name === replyTo);
    const link =
      all.find(isNamed) ?? all.find(({ sessionNumber }) => sessionNumber === from.sessionNumber) ?? all.at(0);
    return link === undefined ? undefined : this.#links.get(link);
  }
}

/** Answers one request. Does not reject. */
export async function answerPutToken(
  delivery: AmqpDelivery,
  replies: LinkQueue | undefined,
  put: (token: string) => Promise<unknown>,
): Promise<void> {
  const { message } = delivery;
  delivery.accept();
  if (message === undefined) return;
  const { 'status-code': code, text } = await outcome(message, put);
  replies?.send(
    encodeAmqpMessage({
      properties: { correlationId: message.messageId },
      applicationProperties: { 'status-code': amqpInt(code), 'status-description': text },
      value: '',
    }),
  );
}

async function outcome(
  message: AmqpIncoming,
  put: (token: string) => Promise<unknown>,
): Promise<{ readonly 'status-code': number; readonly text: string }> {
  try {
    const { operation, type } = message.applicationProperties;
    if (operation !== 'put-token') throw iotHubError('ArgumentInvalid', 'The operation of $cbs is put-token.');
    if (type === 'jwt') throw iotHubError('IotHubUnauthorized', 'This hub takes shared access signatures only.');
    await put(Buffer.from(bodyOf(message)).toString('utf8'));
    return { 'status-code': 200, text: 'OK' };
  } catch (error) {
    const { httpStatus, message: text } = iotHubErrorOf(error);
    return { 'status-code': httpStatus, text };
  }
}
