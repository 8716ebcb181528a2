// One session of an AMQP client: of a link alone, which ends with it, or of several that belong together and end with each other.

import { errorOf } from './amqp-incoming.ts';
import type { RheaFrame, RheaLink, RheaSession } from './amqp-rhea.ts';
import type { AmqpError } from './amqp-types.ts';

/** What a session tells its links. */
export interface SessionLink {
  /** The session is over. */
  ended(error: AmqpError | undefined): void;
  /** The same, and nobody wants to know. */
  forget(): void;
  /** The peer has answered its ATTACH, and everybody was told. */
  attached(): void;
  /** What waited in the session for room may be on its way. */
  flowed?(): void;
  /** Whether the library may have a frame of a message. */
  admits?(frame: RheaFrame): boolean;
}

/** Nobody has more deliveries to speak of at once. */
const MAX_RANGE = 65_536;
/** `received` and the outcomes (3.4), by their numbers and names. */
const STATES: ReadonlySet<unknown> = new Set([
  0x23,
  0x24,
  0x25,
  0x26,
  0x27,
  'amqp:received:list',
  'amqp:accepted:list',
  'amqp:rejected:list',
  'amqp:released:list',
  'amqp:modified:list',
]);

/** As which messages are given to the library, so that it leaves their decoding to us: what cannot be decoded is refused alone. */
const UNDECODED = 1;

export class ClientSession {
  readonly rhea: RheaSession;
  /** Outlives its links. */
  readonly #isShared: boolean;
  readonly #links = new Map<RheaLink, SessionLink>();
  #isOver = false;
  /** Our END is out: what the peer sends until it has seen that is answered no more. */
  #hasLeft = false;

  constructor(rhea: RheaSession, isShared: boolean) {
    this.rhea = rhea;
    this.#isShared = isShared;
    this.#guard();
    rhea.on('session_error', () => {});
    rhea.on('session_close', () => {
      this.#isOver = true;
      const error = errorOf(rhea.error);
      for (const link of this.#links.values()) link.ended(error);
      this.#links.clear();
    });
    rhea.begin();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Given to the library and not yet on the wire. */
  get waiting(): number {
    const { outgoing } = this.rhea;
    return outgoing.next_delivery_id - outgoing.next_pending_delivery;
  }

  add(rhea: RheaLink, link: SessionLink): void {
    this.#links.set(rhea, link);
  }

  /** A link is over: so is its session, if it was its own. */
  remove(rhea: RheaLink): void {
    this.#links.delete(rhea);
    if (!this.#isShared) this.close();
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const link of this.#links.values()) link.forget();
    this.#links.clear();
    // The library answers the DETACHes of this read first; nothing may follow the END (AMQP 1.0, 2.5.5), nor the CLOSE.
    setImmediate(() => {
      this.#hasLeft = true;
      if (this.rhea.connection.is_open()) this.rhea.close();
    });
  }

  /** What the library takes without a look. */
  #guard(): void {
    const { rhea } = this;
    const disposition = rhea.on_disposition.bind(rhea);
    rhea.on_disposition = (frame) => {
      const { performative } = frame;
      const { first, last, state } = performative;
      if ((last ?? 0) - (first ?? 0) > MAX_RANGE) throw new RangeError('a disposition of too many deliveries');
      // One that is unknown counts as none.
      if (!STATES.has(state?.descriptor?.value)) performative.state = undefined;
      disposition(frame);
    };
    // The library tells ends at once, and at the end of a read the outcomes that came before them.
    const [detach, end] = [rhea.on_detach.bind(rhea), rhea.on_end.bind(rhea)];
    const tellOutcomes = (): void => {
      if (rhea.outgoing.updated.length > 0) rhea._process();
    };
    rhea.on_detach = (frame) => {
      tellOutcomes();
      if (!this.#hasLeft) detach(frame);
    };
    rhea.on_end = (frame) => {
      tellOutcomes();
      end(frame);
    };
    const flow = rhea.on_flow.bind(rhea);
    rhea.on_flow = (frame) => {
      const wasBlocked = this.waiting > 0;
      flow(frame);
      if (wasBlocked) for (const link of this.#links.values()) link.flowed?.();
    };
    const attach = rhea.on_attach.bind(rhea);
    rhea.on_attach = (frame) => {
      attach(frame);
      const known = rhea.links[frame.performative.name ?? ''];
      if (known !== undefined) this.#links.get(known)?.attached();
    };
    const transfer = rhea.on_transfer.bind(rhea);
    rhea.on_transfer = (frame) => {
      const known = rhea.remote.handles[frame.performative.handle ?? -1];
      const link = known === undefined ? undefined : this.#links.get(known);
      if (link?.admits?.(frame) === false) return;
      frame.performative.message_format = UNDECODED;
      transfer(frame);
    };
  }
}
