// What comes down to one identity over AMQP (contract/device-amqp.md, sections 5, 6 and 8): the links of its direct methods and its
// cloud-to-device messages, in one session, opened again when they were lost. A message is settled when the dispatcher has
// answered. While a leaf device is away its messages wait at the hub, without a link to hand them out on.

import {
  amqpInt,
  conditionText,
  deviceLinkAddress,
  encodeAmqpMessage,
  errorText,
  LIMITS,
  randomUuid,
  uuidText,
  type AmqpClient,
  type AmqpClientReceiver,
  type AmqpClientSender,
  type AmqpClientSession,
  type AmqpDelivery,
  type AmqpError,
  type AmqpId,
  type Clock,
  type CommandMessage,
} from '#sdk';
import { openAmqpTwin, type AmqpTwinOwner } from './amqp-twin.ts';
import type { CloudMessage } from './cloud-message.ts';
import type { HubCommands } from './commands.ts';

export interface AmqpDownlinkOptions {
  readonly client: Pick<AmqpClient, 'openSession'>;
  /** At the hub. */
  readonly deviceId: string;
  /** Resolves when the hub has the identity's token. */
  readonly ready: () => Promise<void>;
  readonly commands: HubCommands;
  /** Whether the device that all is for is away; never for what the gateway shares out. */
  readonly isAway: () => boolean;
  /** Undefined: nobody wants the twin. */
  readonly twin: AmqpTwinOwner | undefined;
  readonly onNotSubscribed: (reason: string) => void;
  readonly clock: Clock;
}

/** Under way at once; the hub keeps the others. */
const MESSAGES = 8;
const METHODS = 16;
/** A message is given back before its lock of 60 s ends (contract/device-semantics.md, section 2). */
const HOLD_MS = 45_000;
const MAX_MESSAGE_BYTES = 256 * 1024;
const REOPEN_INITIAL_MS = 1000;
const REOPEN_CEILING_MS = 60_000;
/** What the SDKs for C, C# and Java say. */
const API_VERSION = '2020-09-30';
const REFUSED: AmqpError = {
  condition: 'amqp:not-allowed',
  description: 'The message is no command, has expired, or the device refused it.',
};

export class AmqpDownlink {
  readonly #options: AmqpDownlinkOptions;
  #session: AmqpClientSession | undefined;
  #messages: AmqpClientReceiver | undefined;
  #answers: AmqpClientSender | undefined;
  /** Answers to methods that wait for credit. */
  #unsent: Uint8Array[] = [];
  /** Aborts with the links. */
  #life = new AbortController();
  #refusals = 0;
  #openedMs = 0;
  #cancelReopen: (() => void) | undefined;
  #isEnded = false;

  constructor(options: AmqpDownlinkOptions) {
    this.#options = options;
    void this.#open();
  }

  /** Once a second or so: whether the device is there. */
  tick(): void {
    const { clock, deviceId, isAway } = this.#options;
    const session = this.#session;
    if (session === undefined) return;
    if (clock.monotonicMs() - this.#openedMs > REOPEN_CEILING_MS) this.#refusals = 0;
    if (isAway() === (this.#messages === undefined)) return;
    if (this.#messages !== undefined) {
      this.#messages.close();
      this.#messages = undefined;
      return;
    }
    this.#messages = session.openReceiver({
      address: deviceLinkAddress({ deviceId }, 'messages/devicebound'),
      credit: MESSAGES,
      maxMessageBytes: LIMITS.command_bytes + 64 * 1024,
      properties: { 'com.microsoft:api-version': API_VERSION },
      onOpen: () => {},
      onClosed: (error) => this.#closed(session, error),
      onDelivery: (delivery) => void this.#takeMessage(delivery),
    });
  }

  end(): void {
    this.#isEnded = true;
    this.#cancelReopen?.();
    this.#close();
  }

  async #open(): Promise<void> {
    const { client, clock, deviceId, ready, twin } = this.#options;
    try {
      await ready();
    } catch (error) {
      this.#lost(errorText(error));
      return;
    }
    if (this.#isEnded) return;
    const session = client.openSession();
    this.#session = session;
    this.#openedMs = clock.monotonicMs();
    this.#life = new AbortController();
    const onClosed = (error: AmqpError | undefined): void => this.#closed(session, error);
    const method = {
      address: deviceLinkAddress({ deviceId }, 'methods/devicebound'),
      // By it the hub finds the two that belong together.
      properties: {
        'com.microsoft:api-version': API_VERSION,
        'com.microsoft:channel-correlation-id': `methods:${randomUuid()}`,
      },
      onClosed,
    };
    this.#answers = session.openSender({
      ...method,
      window: METHODS,
      onOpen: () => {},
      onCapacity: () => this.#flush(),
      onAnswer: () => {},
    });
    session.openReceiver({
      ...method,
      credit: METHODS,
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onOpen: () => {},
      onDelivery: (delivery) => void this.#takeMethod(delivery),
    });
    if (twin !== undefined) {
      const { signal } = this.#life;
      openAmqpTwin({ ...twin, session, hubDeviceId: deviceId, apiVersion: API_VERSION, signal, onClosed, clock });
    }
    this.tick();
  }

  async #takeMethod(delivery: AmqpDelivery): Promise<void> {
    const { commands } = this.#options;
    const session = this.#session;
    const { applicationProperties, body, correlationId } = delivery.message ?? {};
    const name = applicationProperties?.['IoThub-methodname'];
    if (typeof name === 'string' && correlationId !== undefined) {
      const { status, body: answer } = await commands.method(name, body ?? new Uint8Array(0));
      if (this.#session === session && session !== undefined) {
        this.#unsent.push(
          encodeAmqpMessage({
            properties: { correlationId },
            applicationProperties: { 'IoThub-status': amqpInt(status) },
            data: answer,
          }),
        );
        this.#flush();
      } else commands.answerLost(name, status);
    }
    // Another may come now.
    delivery.accept();
  }

  #flush(): void {
    while (this.#answers !== undefined && this.#answers.capacity > 0) {
      const answer = this.#unsent.shift();
      if (answer === undefined) return;
      this.#answers.send(answer);
    }
  }

  async #takeMessage(delivery: AmqpDelivery): Promise<void> {
    const message = messageOf(delivery);
    if (message === undefined) {
      delivery.reject(REFUSED);
      return;
    }
    try {
      const outcome = await this.#options.commands.message(message, this.#life.signal, HOLD_MS);
      if (outcome === 'done') delivery.accept();
      else if (outcome === 'waiting') delivery.release();
      else delivery.reject(REFUSED);
    } catch {
      // The links have ended before it began: the hub hands it out again.
      delivery.release();
    }
  }

  #closed(session: AmqpClientSession, error: AmqpError | undefined): void {
    if (this.#session !== session) return;
    this.#lost(error === undefined ? 'The hub ended the link.' : conditionText(error));
  }

  #lost(reason: string): void {
    this.#close();
    if (this.#isEnded) return;
    const { clock, onNotSubscribed } = this.#options;
    if (this.#refusals === 0) onNotSubscribed(reason);
    const waitMs = Math.min(REOPEN_CEILING_MS, REOPEN_INITIAL_MS * 2 ** Math.min(this.#refusals, 16));
    this.#refusals += 1;
    this.#cancelReopen = clock.after(waitMs, () => void this.#open());
  }

  #close(): void {
    const session = this.#session;
    this.#session = undefined;
    this.#messages = undefined;
    this.#answers = undefined;
    this.#unsent = [];
    this.#life.abort();
    session?.close();
  }
}

function messageOf({ message }: AmqpDelivery): CloudMessage | undefined {
  if (message?.body === undefined) return undefined;
  const { absoluteExpiryTimeMs: expiresAtMs, annotations, applicationProperties, body } = message;
  return {
    messageId: idText(message.messageId) ?? placeId(annotations),
    expiresAtMs,
    property: (name) => {
      const value = applicationProperties[name];
      return typeof value === 'string' ? value : undefined;
    },
    body,
    content: () => contentOf(message, body),
  };
}

/** As it is handed on to a device that takes it itself. */
function contentOf(message: NonNullable<AmqpDelivery['message']>, body: Uint8Array): CommandMessage {
  const { applicationProperties, contentEncoding, contentType } = message;
  const { 'iothub-ack': ack, ...properties } = applicationProperties;
  const [messageId, correlationId] = [idText(message.messageId), idText(message.correlationId)];
  return {
    body,
    properties: Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, String(value)])),
    ...(messageId !== undefined && { messageId }),
    ...(correlationId !== undefined && { correlationId }),
    ...(contentType !== undefined && { contentType }),
    ...(contentEncoding !== undefined && { contentEncoding }),
    ack: ack === 'positive' || ack === 'negative' || ack === 'full' ? ack : 'none',
  };
}

function idText(id: AmqpId | undefined): string | undefined {
  if (id === undefined || typeof id === 'string') return id;
  if (typeof id === 'number') return String(id);
  return id.byteLength === 16 ? uuidText(id) : Buffer.from(id).toString('base64');
}

/** A message without an id is told by its place in the queue of the hub, when it comes again because its settlement was lost. */
function placeId(annotations: Readonly<Record<string, unknown>>): string | undefined {
  const { 'x-opt-sequence-number': number, 'iothub-enqueuedtime': enqueued } = annotations;
  if (typeof number !== 'number' || !(enqueued instanceof Date)) return undefined;
  return `${number}@${enqueued.getTime()}`;
}
