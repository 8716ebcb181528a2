// Commands from a queue of the broker: a receiving link that is opened again when it was lost. What comes is settled once the
// answer is out: until then the broker keeps it, and gives it again after a loss of the connection, when it is answered from
// its record.

import {
  type AmqpClient,
  type AmqpClientReceiver,
  type AmqpDelivery,
  type AmqpId,
  type Clock,
  type CommandReceiver,
  conditionText,
  LIMITS,
  PROPERTY_FIELDPOST_COMMAND,
} from '#sdk';
import { DEVICE_PROPERTY } from './outgoing-message.ts';

export interface CommandLinkOptions {
  readonly client: Pick<AmqpClient, 'openReceiver'>;
  readonly address: string;
  /** Whether a command must say until when it holds. */
  readonly needsExpiry: boolean;
  readonly receiver: CommandReceiver;
  readonly clock: Clock;
}

/** A command that is not answered yet. */
export interface TakenCommand {
  readonly replyTo: string | undefined;
  /** Correlation id of the request, else its message id. */
  readonly correlationId: AmqpId | undefined;
  readonly accept: () => void;
}

/** Commands under way at once; the broker keeps the others. */
const CREDIT = 32;
/** With headers and all. */
const MAX_MESSAGE_BYTES = LIMITS.command_bytes + 64 * 1024;
const REOPEN_INITIAL_MS = 1000;
const REOPEN_CEILING_MS = 60_000;
const WRITE = 'write';

export class CommandLink {
  readonly #options: CommandLinkOptions;
  readonly #taken = new Map<number, TakenCommand>();
  #receiver: AmqpClientReceiver | undefined;
  #nextToken = 0;
  #refusals = 0;
  #fault: string | undefined;
  #cancelReopen: (() => void) | undefined;
  #isEnded = false;

  constructor(options: CommandLinkOptions) {
    this.#options = options;
    this.#open();
  }

  /** Why no commands come, for people; undefined while they may. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** Takes out the command of that token; undefined when its link is gone. */
  take(token: number): TakenCommand | undefined {
    const taken = this.#taken.get(token);
    this.#taken.delete(token);
    return taken;
  }

  end(): void {
    this.#isEnded = true;
    this.#cancelReopen?.();
    this.#taken.clear();
    this.#receiver?.close();
  }

  #open(): void {
    if (this.#isEnded) return;
    const { address, client, clock, receiver } = this.#options;
    this.#receiver = client.openReceiver({
      address,
      credit: CREDIT,
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onOpen: () => {
        this.#fault = undefined;
      },
      onDelivery: (delivery) => {
        this.#refusals = 0;
        this.#deliver(delivery);
      },
      onClosed: (error) => {
        // Without them messages go on all the same. What was taken is given again by the broker.
        this.#taken.clear();
        const reason = error === undefined ? 'The broker ended the link.' : conditionText(error);
        this.#fault = `No commands come from "${address}": ${reason}`;
        receiver.onIgnored('not_subscribed', { address, error: reason });
        const waitMs = Math.min(REOPEN_CEILING_MS, REOPEN_INITIAL_MS * 2 ** Math.min(this.#refusals, 16));
        this.#refusals += 1;
        this.#cancelReopen = clock.after(waitMs, () => this.#open());
      },
    });
  }

  #deliver(delivery: AmqpDelivery): void {
    const { clock, needsExpiry, receiver } = this.#options;
    const { message } = delivery;
    const deviceId = message?.applicationProperties[DEVICE_PROPERTY];
    const command = message?.applicationProperties[PROPERTY_FIELDPOST_COMMAND] ?? WRITE;
    const payload = message?.body;
    if (typeof deviceId !== 'string' || typeof command !== 'string' || payload === undefined) {
      const description = `A command has the application property ${DEVICE_PROPERTY} and a body of data or text.`;
      delivery.reject({ condition: 'amqp:invalid-field', description });
      receiver.onIgnored('not_a_command', {});
      return;
    }
    const token = this.#nextToken;
    this.#nextToken += 1;
    const correlationId = message?.correlationId ?? message?.messageId;
    this.#taken.set(token, { replyTo: message?.replyTo, correlationId, accept: () => delivery.accept() });
    // A ttl is what is left of it (AMQP 1.0, 3.2.1): brokers count it down, or drop what is past it.
    const { absoluteExpiryTimeMs = Number.POSITIVE_INFINITY, ttlMs = Number.POSITIVE_INFINITY } = message ?? {};
    const expiresAtMs = Math.min(absoluteExpiryTimeMs, clock.wallMs() + ttlMs);
    receiver.onCommand({
      deviceId,
      command,
      payload,
      token,
      ...(needsExpiry && { needsExpiry: true as const }),
      ...(Number.isFinite(expiresAtMs) && { expiresAtMs }),
    });
  }
}
