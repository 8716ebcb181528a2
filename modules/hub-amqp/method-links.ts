// Direct methods over their pair of links (contract/device-amqp.md, section 8).

import {
  encodeAmqpMessage,
  iotHubError,
  LIMITS,
  randomUuid,
  uuidBytes,
  uuidText,
  type AmqpDelivery,
  type AmqpSender,
  type ToSession,
} from '#sdk';
import type { DeviceContext } from './device-context.ts';
import { amqpErrorOf } from './errors.ts';
import { linkQueue, type LinkQueue } from './link-queue.ts';
import { bodyOf } from './message-in.ts';

export class MethodLinks {
  readonly #context: DeviceContext;
  /** Ids of the hub by those on the wire: SDKs for C# take nothing but a UUID. */
  readonly #calls = new Map<string, string>();
  #requests: LinkQueue | undefined;

  constructor(context: DeviceContext) {
    this.#context = context;
  }

  requests(link: AmqpSender): void {
    this.#requests = linkQueue(link);
  }

  noRequests(): void {
    this.#requests = undefined;
    this.#calls.clear();
  }

  deliver({ requestId, name, payload }: Extract<ToSession, { readonly kind: 'method' }>): void {
    const id = randomUuid();
    this.#calls.set(id, requestId);
    // Calls that were never answered are over in time; the hub has so many under way for a device at most.
    for (const oldest of this.#calls.keys()) {
      if (this.#calls.size <= 2 * LIMITS.hub_identity_methods) break;
      this.#calls.delete(oldest);
    }
    this.#requests?.send(
      encodeAmqpMessage({
        properties: { correlationId: uuidBytes(id) },
        applicationProperties: { 'IoThub-methodname': name },
        data: payload,
      }),
      { isSettled: true },
    );
  }

  answer(delivery: AmqpDelivery): void {
    const { hub, sessionId, clock } = this.#context;
    hub.sessions.touch(sessionId);
    try {
      const { message } = delivery;
      const status = message?.applicationProperties['IoThub-status'];
      if (message === undefined || typeof status !== 'number' || !Number.isSafeInteger(status)) {
        throw iotHubError('ArgumentInvalid', 'The answer to a method has no IoThub-status.');
      }
      const { correlationId } = message;
      const id =
        correlationId instanceof Uint8Array && correlationId.byteLength === 16
          ? uuidText(correlationId)
          : String(correlationId).toLowerCase();
      const requestId = this.#calls.get(id);
      this.#calls.delete(id);
      // One that nobody waits for any more is taken and dropped.
      if (requestId !== undefined) hub.methods.answer(sessionId, requestId, { status, payload: bodyOf(message) });
      delivery.accept();
    } catch (error) {
      delivery.reject(amqpErrorOf(error, clock));
    }
  }
}
