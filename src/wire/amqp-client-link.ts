// One link of an AMQP client, where nothing else is said in a session of its own: a peer that ends the session over one address
// (RabbitMQ does where there is none) harms no other, and credit that one address withholds holds up no other.

import { errorOf, incomingOf } from './amqp-incoming.ts';
import { outcomeState, settle, terminusOf } from './amqp-link.ts';
import type {
  AmqpAnswer,
  AmqpClientReceiver,
  AmqpClientSender,
  AmqpReceiverOptions,
  AmqpSenderOptions,
} from './amqp-client-types.ts';
import type { ClientSession, SessionLink } from './amqp-client-session.ts';
import type { RheaContext, RheaDelivery, RheaFrame, RheaLibrary, RheaLink, RheaSession } from './amqp-rhea.ts';
import type { AmqpDelivery, AmqpError } from './amqp-types.ts';

/** What a link needs of its connection. */
export interface ClientLinkHost {
  readonly library: RheaLibrary;
  readonly isOpen: boolean;
  readonly isCongested: boolean;
  /** The peer broke the protocol. */
  fault(detail: string): void;
}

/** Messages of a session that wait for the peer to open its window (AMQP 1.0, 2.5.6). */
const MAX_WAITING = 512;
/** All that a sender understands (3.5.3). */
const OUTCOMES = ['amqp:accepted:list', 'amqp:rejected:list', 'amqp:released:list', 'amqp:modified:list'];

abstract class ClientLink implements SessionLink {
  protected readonly host: ClientLinkHost;
  protected readonly session: ClientSession;
  protected readonly link: RheaLink;
  #state: 'attaching' | 'open' | 'detached' | 'ended' = 'attaching';
  /** Of the peer's DETACH. */
  #error: AmqpError | undefined;
  readonly #onClosed: (error: AmqpError | undefined) => void;

  constructor(
    host: ClientLinkHost,
    session: ClientSession,
    attach: (session: RheaSession) => RheaLink,
    onClosed: (error: AmqpError | undefined) => void,
  ) {
    this.host = host;
    this.session = session;
    this.#onClosed = onClosed;
    this.link = attach(session.rhea);
    session.add(this.link, this);
    const ignore = (): void => {};
    for (const role of ['sender', 'receiver']) {
      this.link.on(`${role}_error`, ignore);
      this.link.on(`${role}_close`, () => this.#detached());
    }
  }

  protected get isOpen(): boolean {
    return this.#state === 'open' && this.host.isOpen;
  }

  protected get hasEnded(): boolean {
    return this.#state === 'ended';
  }

  /** An answer without a terminus refuses: the DETACH behind it says why (2.6.3). */
  protected opened(terminus: Parameters<typeof terminusOf>[0], onOpen: () => void): void {
    if (this.#state !== 'attaching' || terminusOf(terminus) === undefined) return;
    this.#state = 'open';
    onOpen();
  }

  close(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.link.close();
    this.session.remove(this.link);
  }

  ended(error: AmqpError | undefined): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#onClosed(this.#error ?? error);
  }

  forget(): void {
    this.#state = 'ended';
  }

  /**
   * Lets go of both ATTACHes but for what the library reads again: it keeps each with an object for every field, 3 kB, for as
   * long as the link stands, and a gateway has thousands of links.
   */
  attached(): void {
    const { local, remote } = this.link;
    const { role, snd_settle_mode: sender, rcv_settle_mode: receiver } = local.attach;
    local.attach = { role, snd_settle_mode: sender, rcv_settle_mode: receiver };
    remote.attach = {};
  }

  #detached(): void {
    if (this.#state === 'ended') return;
    this.#state = 'detached';
    this.#error = errorOf(this.link.error);
    // The library answers with a DETACH of its own first; after the END of its session that would end the connection.
    setImmediate(() => {
      this.session.remove(this.link);
      this.ended(undefined);
    });
  }
}

export class ClientSender extends ClientLink implements AmqpClientSender {
  readonly #options: AmqpSenderOptions;
  #maxMessageBytes: number | undefined;
  #sent = 0;

  constructor(host: ClientLinkHost, session: ClientSession, options: AmqpSenderOptions) {
    const attach = (rhea: RheaSession): RheaLink =>
      rhea.open_sender({
        ...propertiesOf(options),
        source: { outcomes: OUTCOMES },
        target: { address: options.address },
        snd_settle_mode: 0,
        rcv_settle_mode: 0,
        treat_modified_as_released: false,
      });
    super(host, session, attach, options.onClosed);
    this.#options = options;
    const { link } = this;
    link.on('sender_open', () => {
      const { max_message_size: bytes, target } = link.remote.attach;
      // 0 means none (2.7.3); what does not fit a number is as good as none.
      this.#maxMessageBytes = typeof bytes === 'number' && bytes > 0 ? bytes : undefined;
      this.opened(target, options.onOpen);
    });
    link.on('sender_flow', () => this.#wake());
    link.on('sender_draining', () => link.set_drained(true));
    link.on('accepted', ({ delivery }) => this.#answered(delivery, { outcome: 'accepted' }));
    link.on('released', ({ delivery }) => this.#answered(delivery, { outcome: 'released' }));
    link.on('rejected', ({ delivery }) => {
      const { error } = delivery.remote_state as { error?: unknown };
      this.#answered(delivery, { outcome: 'rejected', error: errorOf(error) });
    });
    link.on('modified', ({ delivery }) => {
      const { undeliverable_here: undeliverable } = delivery.remote_state as { undeliverable_here?: unknown };
      this.#answered(delivery, { outcome: 'modified', undeliverableHere: undeliverable === true });
    });
    link.on('settled', ({ delivery }) => {
      const outcome = delivery.remote_state?.constructor.composite_type;
      if (outcome === undefined || outcome === 'received') this.#answered(delivery, { outcome: 'unknown' });
    });
  }

  get maxMessageBytes(): number | undefined {
    return this.#maxMessageBytes;
  }

  get hasCredit(): boolean {
    return this.link.credit - this.session.waiting > 0;
  }

  get capacity(): number {
    if (!this.isOpen || this.host.isCongested) return 0;
    const { waiting } = this.session;
    return Math.min(this.link.credit - waiting, this.session.rhea.outgoing.available(), MAX_WAITING - waiting);
  }

  /** The connection takes bytes again. */
  wake(): void {
    this.#wake();
  }

  send(message: Uint8Array, format = 0): number {
    const number = this.#sent;
    const tag = Buffer.allocUnsafe(4);
    tag.writeUInt32BE(number);
    this.#sent += 1;
    this.link.send(message, tag, format);
    return number;
  }

  flowed(): void {
    setImmediate(() => this.#wake());
  }

  #wake(): void {
    if (this.isOpen) this.#options.onCapacity();
  }

  #answered(delivery: RheaDelivery, answer: AmqpAnswer): void {
    if (this.hasEnded) return;
    if (!delivery.remote_settled) {
      // The peer leaves the settling to us; nothing more comes of it.
      delivery.update(true);
      delivery.remote_settled = true;
    }
    // Room in the session comes when the library is through with the frame.
    if (this.session.rhea.outgoing.available() === 0) setImmediate(() => this.#wake());
    this.#options.onAnswer(delivery.tag.readUInt32BE(0), answer);
  }
}

export class ClientReceiver extends ClientLink implements AmqpClientReceiver {
  readonly #options: AmqpReceiverOptions;
  /** Bytes of the message under way. */
  #bytes = 0;

  constructor(host: ClientLinkHost, session: ClientSession, options: AmqpReceiverOptions) {
    const attach = (rhea: RheaSession): RheaLink =>
      rhea.open_receiver({
        ...propertiesOf(options),
        source: { address: options.address },
        snd_settle_mode: 0,
        rcv_settle_mode: 0,
        autoaccept: false,
        credit_window: 0,
      });
    super(host, session, attach, options.onClosed);
    this.#options = options;
    const { link } = this;
    link.on('receiver_open', () => {
      this.opened(link.remote.attach.source, () => {
        link.flow(options.credit);
        options.onOpen();
      });
    });
    link.on('message', (context) => this.#deliver(context));
  }

  /** Counts and marks a frame of a message. What is too much is dropped while it comes. */
  admits(frame: RheaFrame): boolean {
    const isFirst = this.link._incomplete === undefined;
    if (isFirst && this.link.credit < 1) {
      this.host.fault('a message came without credit');
      return false;
    }
    const { payload = EMPTY } = frame;
    this.#bytes = (isFirst ? 0 : this.#bytes) + payload.byteLength;
    frame.payload = this.#bytes > this.#options.maxMessageBytes ? EMPTY : payload;
    return true;
  }

  #deliver({ delivery, message: raw }: RheaContext): void {
    if (!this.isOpen) return;
    const { library } = this.host;
    const isSettled = delivery.remote_settled;
    let isDone = false;
    const end = (outcome: 'accepted' | 'released' | AmqpError): void => {
      if (isDone || !this.isOpen) return;
      isDone = true;
      // One more may come in its place.
      this.link.flow(1);
      const kind = typeof outcome === 'string' ? outcome : 'rejected';
      settle(delivery, () => this.session.rhea.incoming.updated, outcomeState(library, outcome), kind);
    };
    const settling = { accept: () => end('accepted'), release: () => end('released'), reject: end };
    const { maxMessageBytes, onDelivery } = this.#options;
    if (this.#bytes > maxMessageBytes) {
      const description = `A message has at most ${maxMessageBytes} bytes, not ${this.#bytes}.`;
      end({ condition: 'amqp:link:message-size-exceeded', description });
      return;
    }
    let message: AmqpDelivery['message'];
    try {
      message = incomingOf(library.message.decode(raw as Uint8Array));
    } catch {
      end({ condition: 'amqp:decode-error', description: 'It is not an AMQP message.' });
      return;
    }
    onDelivery({ format: 0, isSettled, bytes: this.#bytes, message, batch: () => [], ...settling });
  }
}

/** Of the ATTACH. */
function propertiesOf({ properties }: AmqpSenderOptions | AmqpReceiverOptions): object {
  return properties === undefined ? {} : { properties };
}

const EMPTY = Buffer.alloc(0);
