// Claims-based security: tokens are put on `$cbs`, one for each identity of a connection, and each is answered there
// (contract/device-amqp.md, section 4).

import {
  encodeAmqpMessage,
  GatewayError,
  randomUuid,
  type AmqpClient,
  type AmqpClientSender,
  type AmqpClientSession,
  type AmqpDelivery,
  type AmqpError,
  type Clock,
} from '#sdk';
import { LINK_PROPERTIES } from './client-name.ts';

export interface CbsOptions {
  readonly client: Pick<AmqpClient, 'openSession'>;
  /** For messages to people. */
  readonly target: string;
  /** For the answer to one token, the links included. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** What the hub says of a token. */
export interface CbsAnswer {
  /** As over HTTP: 200, 401, 404, … */
  readonly status: number;
  readonly description: string;
}

interface Request {
  readonly bytes: Uint8Array;
  readonly resolve: (answer: CbsAnswer) => void;
  readonly reject: (error: GatewayError) => void;
  readonly cancelTimeout: () => void;
}

const ADDRESS = '$cbs';
/** Tokens under way at once; the hub gives credit for a hundred. */
const WINDOW = 128;
const MAX_ANSWER_BYTES = 64 * 1024;

export class CbsLinks {
  readonly #options: CbsOptions;
  /** By message id; those in `#unsent` are not yet sent. */
  readonly #requests = new Map<string, Request>();
  readonly #unsent = new Set<string>();
  #session: AmqpClientSession | undefined;
  #sender: AmqpClientSender | undefined;
  #openLinks = 0;

  constructor(options: CbsOptions) {
    this.#options = options;
  }

  /**
   * Puts a token.
   * @param audience whom it is for: `host/devices/id`.
   * @throws GatewayError GW_TIMEOUT, GW_DISCONNECTED.
   */
  put(audience: string, token: string): Promise<CbsAnswer> {
    const { clock, target, timeoutMs } = this.#options;
    const messageId = randomUuid();
    const bytes = encodeAmqpMessage({
      properties: { messageId, to: ADDRESS, replyTo: 'cbs' },
      applicationProperties: {
        operation: 'put-token',
        type: 'servicebus.windows.net:sastoken',
        name: encodeURIComponent(audience),
      },
      value: token,
    });
    return new Promise((resolve, reject) => {
      const cancelTimeout = clock.after(timeoutMs, () => {
        const text = `${target} did not answer to a token within ${timeoutMs} ms.`;
        this.#take(messageId)?.reject(new GatewayError('GW_TIMEOUT', text));
      });
      this.#requests.set(messageId, { bytes, resolve, reject, cancelTimeout });
      this.#unsent.add(messageId);
      if (this.#session === undefined) this.#open();
      this.#flush();
    });
  }

  /** The connection is over. */
  end(): void {
    this.#lost(undefined);
  }

  #open(): void {
    const session = this.#options.client.openSession();
    const onClosed = (error: AmqpError | undefined): void => {
      if (this.#session === session) this.#lost(error);
    };
    const onOpen = (): void => {
      this.#openLinks += 1;
      this.#flush();
    };
    this.#session = session;
    session.openReceiver({
      address: ADDRESS,
      properties: LINK_PROPERTIES,
      credit: WINDOW,
      maxMessageBytes: MAX_ANSWER_BYTES,
      onOpen,
      onClosed,
      onDelivery: (delivery) => this.#answered(delivery),
    });
    this.#sender = session.openSender({
      address: ADDRESS,
      properties: LINK_PROPERTIES,
      window: WINDOW,
      onOpen,
      onClosed,
      onCapacity: () => this.#flush(),
      // What counts comes back as a message.
      onAnswer: () => {},
    });
  }

  #flush(): void {
    // An answer must find its link.
    if (this.#openLinks < 2) return;
    for (const messageId of this.#unsent) {
      if (this.#sender === undefined || this.#sender.capacity < 1) return;
      this.#unsent.delete(messageId);
      const request = this.#requests.get(messageId);
      if (request !== undefined) this.#sender.send(request.bytes);
    }
  }

  #answered(delivery: AmqpDelivery): void {
    delivery.accept();
    const { correlationId, applicationProperties } = delivery.message ?? {};
    const request = typeof correlationId === 'string' ? this.#take(correlationId) : undefined;
    const { 'status-code': status, 'status-description': description } = applicationProperties ?? {};
    request?.resolve({
      status: typeof status === 'number' ? status : 500,
      description: typeof description === 'string' ? description : '',
    });
  }

  #lost(error: AmqpError | undefined): void {
    this.#session?.close();
    this.#session = undefined;
    this.#sender = undefined;
    this.#openLinks = 0;
    const why = error === undefined ? '' : ` (${error.condition})`;
    const lost = new GatewayError('GW_DISCONNECTED', `${this.#options.target} ended the link for tokens${why}.`);
    for (const messageId of this.#requests.keys()) this.#take(messageId)?.reject(lost);
  }

  #take(messageId: string): Request | undefined {
    const request = this.#requests.get(messageId);
    this.#requests.delete(messageId);
    this.#unsent.delete(messageId);
    request?.cancelTimeout();
    return request;
  }
}
