// Sessions that outlive their connections: subscriptions, and the messages that wait for absent subscribers.

import { LIMITS, type StateChange } from '#sdk';
import { FilterTrie } from './filter-trie.ts';
import { encodePacket, type KeptPacket } from './kept-packet.ts';
import { readPacket, type KeptState } from './kept-state.ts';
import { Refusal } from './refusal.ts';

const SESSION = 'session/';
const QUEUE = 'queue/';
/** Digits of a position in a queue, so that keys sort like numbers. */
const POSITION_DIGITS = 12;

export interface KeptSubscription {
  readonly topic: string;
  readonly qos: 0 | 1;
}

interface Queued {
  readonly position: number;
  readonly packet: KeptPacket;
  readonly bytes: number;
}

interface Session {
  /** Who made it; nobody else may take it over. */
  readonly username: string | undefined;
  readonly subscriptions: Map<string, 0 | 1>;
  readonly queue: Map<number, Queued>;
  queueBytes: number;
  nextPosition: number;
}

export class KeptSessions {
  readonly #kept: KeptState;
  /** Those whose client left last stand last. */
  readonly #sessions = new Map<string, Session>();
  readonly #isConnected: (clientId: string) => boolean;
  readonly #offline = new FilterTrie<{ readonly clientId: string; readonly qos: 0 | 1 }>();

  constructor(kept: KeptState, isConnected: (clientId: string) => boolean) {
    this.#kept = kept;
    this.#isConnected = isConnected;
  }

  /** What waits in a queue belongs to a session, so these come first. */
  async load(): Promise<void> {
    for await (const [key, value] of this.#kept.state.entries(SESSION))
      this.#loadSession(decodeURIComponent(key.slice(SESSION.length)), value);
    for await (const [key, value] of this.#kept.state.entries(QUEUE)) await this.#loadQueued(key, value);
  }

  #loadSession(clientId: string, value: Uint8Array): void {
    try {
      const kept = JSON.parse(Buffer.from(value).toString()) as {
        username?: string;
        subscriptions: Record<string, 0 | 1 | 2>;
      };
      const session = this.#newSession(clientId, kept.username);
      for (const [topic, qos] of Object.entries(kept.subscriptions)) {
        // Earlier releases kept QoS 2, and delivered QoS 1.
        this.#subscribe(clientId, session, { topic, qos: qos === 0 ? 0 : 1 });
      }
    } catch {
      this.#kept.refused('unreadable_state', { clientId });
    }
  }

  async #loadQueued(key: string, value: Uint8Array): Promise<void> {
    const [client = '', position = ''] = key.slice(QUEUE.length).split('/');
    const session = this.#sessions.get(decodeURIComponent(client));
    if (session === undefined) {
      this.#kept.refused('unreadable_state', { key });
      return;
    }
    const packet = await readPacket(this.#kept, key, value);
    if (packet === undefined) return;
    const bytes = value.byteLength;
    session.queue.set(Number(position), { position: Number(position), packet, bytes });
    session.queueBytes += bytes;
    session.nextPosition = Number(position) + 1;
  }

  #newSession(clientId: string, username: string | undefined): Session {
    const session: Session = { username, subscriptions: new Map(), queue: new Map(), queueBytes: 0, nextPosition: 1 };
    this.#sessions.set(clientId, session);
    return session;
  }

  #subscribe(clientId: string, session: Session, { topic, qos }: KeptSubscription): void {
    const before = session.subscriptions.get(topic);
    if (before === 1) this.#offline.remove(topic, (entry) => entry.clientId === clientId);
    if (qos === 1) this.#offline.add(topic, { clientId, qos });
    session.subscriptions.set(topic, qos);
  }

  // Sessions

  /** Whether the session is somebody else's. */
  isForeign(clientId: string, username: string | undefined): boolean {
    const session = this.#sessions.get(clientId);
    return session !== undefined && session.username !== username;
  }

  /** Whether the client may have a session. */
  hasRoomFor(clientId: string): boolean {
    return (
      this.#sessions.has(clientId) || this.#sessions.size < LIMITS.mqtt_sessions || this.#leastMissed() !== undefined
    );
  }

  /** The client is gone, and its session waits for it from now on. */
  leave(clientId: string): void {
    const session = this.#sessions.get(clientId);
    if (session === undefined) return;
    this.#sessions.delete(clientId);
    this.#sessions.set(clientId, session);
  }

  /** Of the user with the most sessions that of the client which is away longest: nobody fills the table for the others. */
  #leastMissed(): string | undefined {
    const counts = new Map<string | undefined, number>();
    for (const { username } of this.#sessions.values()) counts.set(username, (counts.get(username) ?? 0) + 1);
    let found: string | undefined;
    let most = 0;
    for (const [clientId, { username }] of this.#sessions) {
      const count = counts.get(username) ?? 0;
      if (count <= most || this.#isConnected(clientId)) continue;
      found = clientId;
      most = count;
    }
    return found;
  }

  /** Ends a session where there is no place for another. @throws Refusal when all are in use. */
  #makeRoom(): readonly StateChange[] {
    if (this.#sessions.size < LIMITS.mqtt_sessions) return [];
    const clientId = this.#leastMissed();
    if (clientId === undefined) throw new Refusal('too_many_sessions');
    this.#kept.refused('session_dropped', { client: clientId, username: this.#sessions.get(clientId)?.username });
    return this.#forget(clientId);
  }

  subscriptionsOf(clientId: string): KeptSubscription[] {
    const { subscriptions } = this.#sessions.get(clientId) ?? {};
    return [...(subscriptions ?? [])].map(([topic, qos]) => ({ topic, qos }));
  }

  async addSubscriptions(
    clientId: string,
    username: string | undefined,
    subscriptions: readonly KeptSubscription[],
  ): Promise<void> {
    const room = this.#sessions.has(clientId) ? [] : this.#makeRoom();
    const session = this.#sessions.get(clientId) ?? this.#newSession(clientId, username);
    for (const subscription of subscriptions) this.#subscribe(clientId, session, subscription);
    await this.#kept.state.write([...room, this.#sessionChange(clientId, session)]);
  }

  async removeSubscriptions(clientId: string, topics: readonly string[]): Promise<void> {
    const session = this.#sessions.get(clientId);
    if (session === undefined) return;
    for (const topic of topics) {
      if (session.subscriptions.get(topic) === 1) this.#offline.remove(topic, (entry) => entry.clientId === clientId);
      session.subscriptions.delete(topic);
    }
    await this.#kept.state.write([this.#sessionChange(clientId, session)]);
  }

  /** Forgets the session with all that waits for it. */
  async endSession(clientId: string): Promise<void> {
    if (this.#sessions.has(clientId)) await this.#kept.state.write(this.#forget(clientId));
  }

  #forget(clientId: string): readonly StateChange[] {
    const session = this.#sessions.get(clientId);
    if (session === undefined) return [];
    this.#sessions.delete(clientId);
    for (const [topic, qos] of session.subscriptions) {
      if (qos === 1) this.#offline.remove(topic, (entry) => entry.clientId === clientId);
    }
    return [
      { key: SESSION + encodeURIComponent(clientId) },
      ...[...session.queue.keys()].map((position) => ({ key: queueKey(clientId, position) })),
    ];
  }

  #sessionChange(clientId: string, session: Session): StateChange {
    const { username, subscriptions } = session;
    const text = JSON.stringify({ username, subscriptions: Object.fromEntries(subscriptions) });
    return { key: SESSION + encodeURIComponent(clientId), value: Buffer.from(text) };
  }

  // Messages for subscribers that acknowledge

  /** While it is the same, `subscribersOf` gives the same. */
  get subscriptionChanges(): number {
    return this.#offline.changes;
  }

  /** Sessions with a QoS 1 subscription that matches. */
  subscribersOf(topic: string): readonly { readonly clientId: string; readonly qos: 0 | 1 }[] {
    const found = this.#offline.match(topic);
    if (found.length < 2) return found;
    return [...new Map(found.map((entry) => [entry.clientId, entry])).values()];
  }

  /** A full queue takes no more: its subscriber misses the message, which is counted. */
  async enqueue(clientIds: readonly string[], packet: KeptPacket): Promise<void> {
    const value = encodePacket(packet);
    const changes: StateChange[] = [];
    for (const clientId of clientIds) {
      const session = this.#sessions.get(clientId);
      if (session === undefined) continue;
      const room =
        session.queue.size < LIMITS.mqtt_session_messages &&
        session.queueBytes + value.byteLength <= LIMITS.mqtt_session_bytes;
      if (!room) {
        this.#kept.refused('session_queue_full', { clientId });
        continue;
      }
      const position = session.nextPosition;
      session.nextPosition += 1;
      session.queue.set(position, { position, packet: { ...packet }, bytes: value.byteLength });
      session.queueBytes += value.byteLength;
      changes.push({ key: queueKey(clientId, position), value });
    }
    if (changes.length > 0) await this.#kept.state.write(changes);
  }

  /** As they are to be sent to a subscriber that is back. */
  queueOf(clientId: string): readonly KeptPacket[] {
    return [...(this.#sessions.get(clientId)?.queue.values() ?? [])].map(({ packet }) => ({
      ...packet,
      // It was subscribed before they came (MQTT 3.1.1, 3.3.1-9); one with an identifier was sent before (3.3.1-1).
      retain: false,
      dup: packet.messageId !== undefined,
    }));
  }

  /** Notes under which packet identifier a message was sent; false when the message does not wait. */
  assignMessageId(clientId: string, packet: KeptPacket): boolean {
    const session = this.#sessions.get(clientId);
    for (const { packet: queued } of session?.queue.values() ?? []) {
      const same =
        queued.brokerId === packet.brokerId
          ? queued.brokerCounter === packet.brokerCounter
          : queued.messageId === packet.messageId;
      if (!same) continue;
      queued.messageId = packet.messageId;
      return true;
    }
    return false;
  }

  /** The subscriber has acknowledged; returns what it was. Its key goes in the background. */
  acknowledge(clientId: string, messageId: number | undefined): KeptPacket | undefined {
    const session = this.#sessions.get(clientId);
    if (session === undefined || messageId === undefined) return undefined;
    for (const [position, { packet, bytes }] of session.queue) {
      if (packet.messageId !== messageId) continue;
      session.queue.delete(position);
      session.queueBytes -= bytes;
      // Lost in a crash it means a duplicate, which QoS 1 allows.
      this.#kept.state
        .write([{ key: queueKey(clientId, position) }])
        .catch(() => this.#kept.refused('state_not_written'));
      return packet;
    }
    return undefined;
  }
}

function queueKey(clientId: string, position: number): string {
  return `${QUEUE}${encodeURIComponent(clientId)}/${String(position).padStart(POSITION_DIGITS, '0')}`;
}
