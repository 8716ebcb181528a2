// A twin over its pair of links: requests on one, answers and notifications on the other (contract/device-amqp.md, section 7).

import {
  amqpInt,
  amqpLong,
  encodeAmqpMessage,
  iotHubError,
  iotHubErrorOf,
  plainErrorBody,
  randomUuid,
  type AmqpDelivery,
  type AmqpIncoming,
  type AmqpSender,
  type AmqpValue,
} from '#sdk';
import type { DeviceContext } from './device-context.ts';
import { amqpErrorOf } from './errors.ts';
import { linkQueue, type LinkQueue } from './link-queue.ts';
import { bodyOf } from './message-in.ts';

const DESIRED = '/notifications/twin/properties/desired';
const REPORTED = '/properties/reported';

interface Answer {
  readonly status: number;
  readonly version?: number;
  readonly body?: Uint8Array;
}

export class TwinLinks {
  readonly #context: DeviceContext;
  readonly #onInterest: () => void;
  #replies: LinkQueue | undefined;
  #wantsDesired = false;

  constructor(context: DeviceContext, onInterest: () => void) {
    this.#context = context;
    this.#onInterest = onInterest;
  }

  /** It asked for notifications and did not take that back. */
  get wantsDesired(): boolean {
    return this.#wantsDesired;
  }

  replies(link: AmqpSender): void {
    this.#replies = linkQueue(link);
  }

  noReplies(): void {
    this.#replies = undefined;
    this.#wantsDesired = false;
  }

  notify(patch: Uint8Array): void {
    // Without a correlation id, by which clients tell it from an answer.
    this.#replies?.send(encodeAmqpMessage({ annotations: { resource: '/properties/desired' }, data: patch }), SETTLED);
  }

  async request(delivery: AmqpDelivery): Promise<void> {
    const { hub, sessionId, clock } = this.#context;
    const { message } = delivery;
    hub.sessions.touch(sessionId);
    if (message === undefined) {
      delivery.reject(amqpErrorOf(iotHubError('ArgumentInvalid', 'A request for a twin is no batch.'), clock));
      return;
    }
    if (this.#replies?.isFull === true) {
      delivery.reject(amqpErrorOf(iotHubError('ThrottlingException', 'The answers so far were not read.'), clock));
      return;
    }
    delivery.accept();
    const { status, version, body } = await this.#answer(message);
    const annotations: Record<string, AmqpValue> = { status: amqpInt(status) };
    if (version !== undefined) annotations['version'] = amqpLong(version);
    this.#replies?.send(
      encodeAmqpMessage({
        annotations,
        properties: { correlationId: message.correlationId },
        data: body ?? new Uint8Array(0),
      }),
      SETTLED,
    );
  }

  async #answer(message: AmqpIncoming): Promise<Answer> {
    const { hub, hubId, ref, clock } = this.#context;
    const { operation, resource, version } = message.annotations;
    try {
      switch (`${String(operation)} ${typeof resource === 'string' ? resource.toLowerCase() : ''}`) {
        case 'GET ':
          return { status: 200, body: await hub.twins.own(hubId, ref) };
        case `PATCH ${REPORTED}`: {
          const base = typeof version === 'number' ? version : undefined;
          return { status: 204, version: await hub.twins.report(hubId, ref, bodyOf(message), base) };
        }
        case `PUT ${DESIRED}`:
        case `DELETE ${DESIRED}`:
          this.#wantsDesired = operation === 'PUT';
          this.#onInterest();
          return { status: 200 };
        default:
          throw iotHubError('ArgumentInvalid', 'The operation or the resource of the twin is not known.');
      }
    } catch (error) {
      const fault = iotHubErrorOf(error);
      const body = plainErrorBody(fault, randomUuid().replaceAll('-', ''), clock.wallMs());
      return { status: fault.httpStatus, body: Buffer.from(body) };
    }
  }
}

const SETTLED = { isSettled: true } as const;
