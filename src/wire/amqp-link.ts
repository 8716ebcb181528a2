// One link of an AMQP connection, either way, on the `rhea` library.

import { batchOf, incomingOf, recordOf, textOf } from './amqp-incoming.ts';
import {
  typedError,
  type RheaComposite,
  type RheaDelivery,
  type RheaLibrary,
  type RheaLink,
  type RheaSession,
} from './amqp-rhea.ts';
import type {
  AmqpConnection,
  AmqpDelivery,
  AmqpError,
  AmqpOutcome,
  AmqpReceiver,
  AmqpSender,
  AmqpSendOptions,
  AmqpSent,
} from './amqp-types.ts';

const SELECTOR_FILTER = 'apache.org:selector-filter:string';
const SELECTOR_DESCRIPTOR = 0x0000_468c_0000_0004;
/** Messages of a session that wait for the end of a turn or for the peer to open its window (AMQP 1.0, 2.5.6). */
const MAX_WAITING = 512;

/** What a link needs of its connection. */
export interface LinkHost {
  readonly library: RheaLibrary;
  readonly connection: AmqpConnection;
  readonly isCongested: boolean;
  /** Whether a session can still be written to. */
  hasSession(session: RheaSession): boolean;
  /** Its links are told when it has room again. */
  roomWanted(session: RheaSession): void;
  linkClosed(link: ServerReceiver | ServerSender): void;
}

abstract class ServerLink {
  readonly name: string;
  readonly connection: AmqpConnection;
  readonly sessionNumber: number;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly desiredCapabilities: readonly string[];
  protected readonly link: RheaLink;
  protected readonly host: LinkHost;
  #isOpen = true;

  constructor(host: LinkHost, link: RheaLink, sessionNumber: number) {
    this.host = host;
    this.link = link;
    this.connection = host.connection;
    this.name = link.name;
    this.sessionNumber = sessionNumber;
    const { attach } = link.remote;
    this.properties = recordOf(attach.properties);
    this.desiredCapabilities = textsOf(attach.desired_capabilities);
    // The library looks in a wrong place for it, and would keep the link in its table for ever.
    link.remote.handle = attach.handle;
    // It goes on with the object of an earlier link of the same name.
    link.credit = 0;
    link.delivery_count = 0;
    link.local.detach.value[2] = undefined;
    link.local.attach.source = terminusOf(attach.source);
    link.local.attach.target = terminusOf(attach.target);
    link.local.attach.snd_settle_mode = attach.snd_settle_mode ?? 2;
    link.local.attach.rcv_settle_mode = attach.rcv_settle_mode ?? 0;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  close(error?: AmqpError): void {
    if (!this.#isOpen) return;
    // The third field of a DETACH (AMQP 1.0, 2.7.7).
    if (error !== undefined) this.link.local.detach.value[2] = typedError(this.host.library, error);
    this.link.close();
    this.ended();
  }

  /** Over, whoever ended it. */
  ended(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.host.linkClosed(this as unknown as ServerReceiver | ServerSender);
  }

  protected state(outcome: 'accepted' | 'released' | AmqpError): unknown {
    return outcomeState(this.host.library, outcome);
  }
}

/** What a DISPOSITION says of a message. */
export function outcomeState(library: RheaLibrary, outcome: 'accepted' | 'released' | AmqpError): unknown {
  const { message } = library;
  let state: RheaComposite;
  if (outcome === 'accepted') state = message.accepted();
  else if (outcome === 'released') state = message.released();
  else {
    state = message.rejected({});
    state.value[0] = typedError(library, outcome);
  }
  return state.described();
}

/**
 * The library joins neighbouring dispositions of one turn without a look at the second one's state, so that a refused message
 * would count as accepted: anything but a row of acceptances is written by itself.
 */
const lastOutcome = new WeakMap<readonly unknown[], string>();

export function settle(
  delivery: RheaDelivery,
  waiting: () => readonly unknown[],
  state: unknown,
  outcome: string,
): void {
  const { connection } = delivery.link;
  const before = waiting();
  if (before.length > 0 && (outcome !== 'accepted' || lastOutcome.get(before) !== 'accepted')) connection._process();
  delivery.update(true, state);
  lastOutcome.set(waiting(), outcome);
}

export class ServerReceiver extends ServerLink implements AmqpReceiver {
  readonly role = 'receiver';
  onDelivery: (delivery: AmqpDelivery) => void = (delivery) => delivery.release();
  /** Bytes of the delivery under way. */
  #bytes = 0;
  /** Frames of a delivery are being passed over. */
  #isSkipping = false;

  get address(): string | undefined {
    return textOf(this.link.remote.attach.target?.address);
  }

  get peerAddress(): string | undefined {
    return textOf(this.link.remote.attach.source?.address);
  }

  grant(credit: number): void {
    if (this.isOpen) this.link.flow(credit);
  }

  get credit(): number {
    return this.link.credit;
  }

  /** The first frame of a message, or a further one. */
  get isBetween(): boolean {
    return this.link._incomplete === undefined && !this.#isSkipping;
  }

  /** Counts a frame; returns how many bytes its message has so far. */
  count(bytes: number): number {
    if (this.isBetween) this.#bytes = 0;
    this.#bytes += bytes;
    return this.#bytes;
  }

  /** Passes over a frame that came for a link that is closed here. */
  skip(deliveryId: number | null | undefined, more: boolean): void {
    const { incoming } = this.link.session;
    incoming.next_transfer_id += 1;
    if (this.isBetween && typeof deliveryId === 'number') incoming.next_delivery_id = deliveryId + 1;
    this.#isSkipping = more;
  }

  override ended(): void {
    const { _incomplete: incomplete } = this.link;
    if (incomplete !== undefined) {
      // Its place in the session's window is free again; the rest of its frames is passed over.
      incomplete.settled = true;
      this.link._incomplete = undefined;
      this.#isSkipping = true;
    }
    super.ended();
  }

  deliver(delivery: RheaDelivery, decoded: unknown): void {
    const { library } = this.host;
    let isDone = false;
    const end = (outcome: 'accepted' | 'released' | AmqpError): void => {
      if (isDone || !this.host.hasSession(this.link.session)) return;
      isDone = true;
      const kind = typeof outcome === 'string' ? outcome : 'rejected';
      settle(delivery, () => this.link.session.incoming.updated, this.state(outcome), kind);
    };
    const format = delivery.format ?? 0;
    const raw = decoded instanceof Uint8Array ? decoded : undefined;
    const message = format === 0 ? (raw === undefined ? decoded : library.message.decode(raw)) : undefined;
    this.onDelivery({
      format,
      isSettled: delivery.remote_settled,
      bytes: this.#bytes,
      message: message === undefined ? undefined : incomingOf(message),
      batch: (maxMessages) => batchOf(library, raw ?? new Uint8Array(0), maxMessages),
      accept: () => end('accepted'),
      release: () => end('released'),
      reject: end,
    });
  }
}

export class ServerSender extends ServerLink implements AmqpSender {
  readonly role = 'sender';
  onCapacity: () => void = () => {};
  readonly #outcomes = new WeakMap<RheaDelivery, (outcome: AmqpOutcome) => void>();
  /** Ids of deliveries that wait in the library, for the end of this turn or for the session's window. */
  readonly #waiting: number[] = [];
  #isReady = false;
  #sent = 0;

  constructor(host: LinkHost, link: RheaLink, sessionNumber: number) {
    super(host, link, sessionNumber);
    // The library would send what it is given now before its ATTACH.
    setImmediate(() => {
      this.#isReady = true;
      if (this.isOpen) this.onCapacity();
    });
  }

  get address(): string | undefined {
    return textOf(this.link.remote.attach.source?.address);
  }

  get peerAddress(): string | undefined {
    return textOf(this.link.remote.attach.target?.address);
  }

  get selector(): string | undefined {
    for (const [name, filter] of Object.entries(recordOf(this.link.remote.attach.source?.filter))) {
      const { descriptor, value } = recordOf(filter);
      const isSelector = name === SELECTOR_FILTER || recordOf(descriptor)['value'] === SELECTOR_DESCRIPTOR;
      if (isSelector) return textOf(filter) ?? textOf(value);
    }
    return undefined;
  }

  get capacity(): number {
    if (!this.#isReady || !this.isOpen || this.host.isCongested || !this.connection.isOpen) return 0;
    const { session } = this.link;
    const { next_pending_delivery: firstWaiting } = session.outgoing;
    while (this.#waiting[0] !== undefined && this.#waiting[0] < firstWaiting) this.#waiting.shift();
    // One link without credit would hold up all others of the session: what is sent must have it.
    const credit = this.link.credit - this.#waiting.length;
    const room = roomOf(session);
    if (credit > 0 && room < 1) this.host.roomWanted(session);
    return Math.max(0, Math.min(credit, room));
  }

  send(message: Uint8Array, { tag, isSettled, onSent, onOutcome }: AmqpSendOptions = {}): AmqpSent {
    this.#sent += 1;
    const delivery = this.link.send(message, tag ?? tagOf(this.#sent), 0);
    this.#waiting.push(delivery.id);
    if (isSettled === true) delivery.settled = true;
    const sent: AmqpSent = {
      get isSettledByPeer() {
        return delivery.remote_settled;
      },
      settle: (outcome) => {
        if (delivery.settled || !this.host.hasSession(this.link.session)) return;
        if (delivery.remote_settled) delivery.settled = true;
        else {
          const kind = typeof outcome === 'string' ? outcome : 'rejected';
          settle(delivery, () => this.link.session.outgoing.pending_dispositions, this.state(outcome), kind);
          // Nothing more comes of it.
          delivery.remote_settled = true;
        }
        this.link.connection._register();
      },
      forget: () => {
        delivery.settled = true;
        delivery.remote_settled = true;
        this.#outcomes.delete(delivery);
        if (this.host.hasSession(this.link.session)) this.link.connection._register();
      },
    };
    if (onOutcome !== undefined && !delivery.settled) {
      this.#outcomes.set(delivery, (outcome) => onOutcome(outcome, sent));
    }
    onSent?.(sent);
    return sent;
  }

  outcome(delivery: RheaDelivery, outcome: AmqpOutcome): void {
    const told = this.#outcomes.get(delivery);
    this.#outcomes.delete(delivery);
    told?.(outcome);
  }

  /** The peer wants its credit back at once. */
  drain(): void {
    this.link.set_drained(true);
  }
}

/** A terminus to answer with. One that is null (AMQP 1.0, 2.7.3) the library gives as a value without a description. */
export function terminusOf(terminus: Partial<RheaComposite> | null | undefined): unknown {
  return typeof terminus?.described === 'function' ? terminus.described() : undefined;
}

/** How many messages a session takes now, on all of its links. */
export function roomOf({ outgoing }: RheaSession): number {
  const waiting = outgoing.next_delivery_id - outgoing.next_pending_delivery;
  return Math.min(outgoing.available(), MAX_WAITING - waiting);
}

function tagOf(count: number): Buffer {
  const tag = Buffer.allocUnsafe(4);
  tag.writeUInt32BE(count >>> 0);
  return tag;
}

function textsOf(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value];
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
