// The broker library with three changes. Messages are stored, kept for absent subscribers and passed on before their
// acknowledgement, where the library acknowledges first; what nobody subscribes to takes no way through the library; and
// subscribers, retained messages and what is kept know QoS 1 at most.

import { Aedes, type AedesOptions, type AedesPublishPacket, type Client, type PublishPacket } from 'aedes';
import { FilterTrie } from './filter-trie.ts';

type Done = (error?: Error | null) => void;
type Deliver = (packet: AedesPublishPacket, callback: () => void) => void;
/** The library's own `publish`, whose second parameter its types leave out. */
type LibraryPublish = (packet: PublishPacket, client: Client | null, done: Done) => void;

/** Subscriptions of clients that are absent. */
export interface KeptSubscriptions {
  /** Whether one of them waits for the topic. */
  readonly kept: (topic: string) => boolean;
  /** Counts their changes. */
  readonly keptChanges: () => number;
}

export class FieldAedes extends Aedes {
  readonly #live = new FilterTrie<Deliver>();
  readonly #kept: (topic: string) => boolean;
  /** Published before their acknowledgement; the library then publishes them a second time. */
  readonly #published = new WeakSet<object>();

  readonly #keptChanges: () => number;

  constructor(options: AedesOptions, { kept, keptChanges }: KeptSubscriptions) {
    super(options);
    this.#kept = kept;
    this.#keptChanges = keptChanges;
  }

  /** Whether anything has to happen for the packet beyond taking it in. */
  concerns(packet: { readonly topic: string; readonly retain?: boolean }): boolean {
    return packet.retain === true || this.#live.match(packet.topic).length > 0 || this.#kept(packet.topic);
  }

  /** Counts changes of subscriptions: while it is the same, `concerns` gives the same for a topic. */
  get subscriptionChanges(): number {
    return this.#live.changes + this.#keptChanges();
  }

  /** Passes a client's message on, ahead of its acknowledgement. */
  publishFirst(packet: PublishPacket, client: Client | null, done: Done): void {
    this.#published.add(packet);
    this.#pass(packet, client, done);
  }

  override publish(packet: PublishPacket, ...rest: unknown[]): void {
    const done = rest.at(-1) as Done;
    const client = rest.length > 1 ? (rest[0] as Client | null) : null;
    if (this.#published.has(packet) || !this.concerns(packet)) done(null);
    else this.#pass(packet, client, done);
  }

  #pass(packet: PublishPacket, client: Client | null, done: Done): void {
    // The library compares with what a subscriber was granted only where its filter is the topic itself.
    const passed: PublishPacket & { clientId?: string } = packet.qos === 2 ? { ...packet, qos: 1 } : packet;
    // The library notes the client only after it has stored what is retained.
    if (packet.retain && client !== null) passed.clientId = client.id;
    (super.publish as unknown as LibraryPublish).call(this, passed, client, done);
  }

  override subscribe(topic: string, deliver: Deliver, callback: () => void): void {
    this.#live.add(topic, deliver);
    super.subscribe(topic, deliver, callback);
  }

  override unsubscribe(topic: string, deliver: Deliver, callback: () => void): void {
    this.#live.remove(topic, (known) => known === deliver);
    super.unsubscribe(topic, deliver, callback);
  }
}

/** What the library keeps of a client and gives no other access to (aedes 1.2, lib/client.js). */
interface ClientState {
  readonly _keepaliveTimer: NodeJS.Timeout | null;
  readonly _parsingBatch: number;
  /** Of the CONNECT that is being looked at. */
  readonly _will?: { readonly topic: string } | null;
}

/** Begins a client's keep-alive time anew, as the library does for each packet that it sees. */
export function heard(client: Client): void {
  (client as Client & ClientState)._keepaliveTimer?.refresh();
}

/** Whether packets that the library was given are not done yet. */
export function isAtWork(client: Client): boolean {
  return (client as Client & ClientState)._parsingBatch > 0;
}

/** The will of a client that is being let in. */
export function willOf(client: Client): { readonly topic: string } | undefined {
  return (client as Client & ClientState)._will ?? undefined;
}

/** Whether the library ended the connection for this error. */
export function hasEnded(client: Client, error: Error): boolean {
  // For a packet that may not come now it closes the connection first, and gives the packet with the error.
  return client.conn.errored === error || 'info' in error;
}

/** Whether it is the answer to a CONNECT of another version than 3.1 and 3.1.1 (MQTT 3.1.1, 3.1.2-2). */
export function isVersionError(error: Error): boolean {
  return 'errorCode' in error && error.errorCode === 1;
}
