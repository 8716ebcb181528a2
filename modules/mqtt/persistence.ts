// The broker library's persistence over our store. QoS 2 is taken from publishers; to subscribers QoS 1 is the highest,
// so nothing but messages ever waits in a queue.

import { Readable } from 'node:stream';
import type { BrokerStore } from './broker-store.ts';
import type { IncomingPackets } from './incoming-packets.ts';
import type { KeptPacket } from './kept-packet.ts';
import type { KeptSubscription } from './kept-sessions.ts';

interface ClientRef {
  readonly id: string;
}

interface ConnectedClient extends ClientRef {
  readonly conn: object;
}

/** Of a client that is connected. */
export interface ConnectionFacts {
  /** The user is the owner of the session. */
  readonly principal: { readonly username: string | undefined } | undefined;
  /** Those granted. */
  readonly subscriptions: { has(filter: string): boolean };
}

/** The methods that `aedes` 1.2 calls (its `persistence` option). */
export interface Persistence {
  readonly setup: (broker: unknown) => Promise<void>;
  readonly [method: string]: unknown;
}

export function createPersistence(
  store: BrokerStore,
  incoming: IncomingPackets,
  connectionOf: (client: ConnectedClient) => ConnectionFacts | undefined,
): Persistence {
  const { sessions, retained, wills } = store;
  return {
    // The broker wants an async function here.
    setup: async () => {
      await store.load();
    },
    storeRetained: (packet: KeptPacket) => retained.keep(copyOf(packet)),
    createRetainedStreamCombi: (filters: readonly string[]) => Readable.from(retained.matching(filters)),
    createRetainedStream: (filter: string) => Readable.from(retained.matching([filter])),

    // Called for each one granted, with all that the SUBSCRIBE asks for: the refused ones and those not yet judged too.
    addSubscriptions: (client: ConnectedClient, asked: readonly KeptSubscription[]) => {
      const { principal, subscriptions } = connectionOf(client) ?? {};
      const granted = asked.filter(({ topic }) => subscriptions?.has(topic) === true);
      return sessions.addSubscriptions(client.id, principal?.username, granted);
    },
    removeSubscriptions: (client: ClientRef, topics: readonly string[]) =>
      sessions.removeSubscriptions(client.id, topics),
    subscriptionsByClient: (client: ClientRef) => Promise.resolve(sessions.subscriptionsOf(client.id)),
    subscriptionsByTopic: (topic: string) => Promise.resolve(sessions.subscribersOf(topic)),
    cleanSubscriptions: (client: ClientRef) => sessions.endSession(client.id),

    outgoingEnqueue: ({ clientId }: { clientId: string }, packet: KeptPacket) =>
      sessions.enqueue([clientId], copyOf(packet)),
    outgoingEnqueueCombi: (subscribers: readonly { clientId: string }[], packet: KeptPacket) =>
      subscribers.length === 0
        ? Promise.resolve()
        : sessions.enqueue(
            subscribers.map(({ clientId }) => clientId),
            copyOf(packet),
          ),
    outgoingUpdate: (client: ClientRef, packet: KeptPacket) => {
      // A queue that was full does not hold it: it is sent all the same, once.
      sessions.assignMessageId(client.id, packet);
      return Promise.resolve();
    },
    outgoingClearMessageId: (client: ClientRef, packet: KeptPacket) =>
      Promise.resolve(sessions.acknowledge(client.id, packet.messageId)),
    outgoingStream: (client: ClientRef) => Readable.from(sessions.queueOf(client.id)),

    // The broker has noted and passed on what it finds here before it lets the library answer.
    incomingStorePacket: () => Promise.resolve(),
    incomingGetPacket: (client: ClientRef, packet: KeptPacket) =>
      incoming.has(client.id, packet.messageId ?? 0)
        ? Promise.resolve(packet)
        : Promise.reject(new Error('no such packet')),
    incomingDelPacket: (client: ClientRef, packet: KeptPacket) => {
      incoming.end(client.id, packet.messageId ?? 0);
      return Promise.resolve();
    },
    cleanIncoming: (client: ClientRef) => {
      incoming.forget(client.id);
      return Promise.resolve();
    },

    putWill: (client: ClientRef, packet: KeptPacket) => wills.put(client.id, copyOf(packet)),
    getWill: (client: ClientRef) => Promise.resolve(wills.get(client.id)),
    delWill: (client: ClientRef) => wills.delete(client.id),
    // Wills that a crash left are published at the start; the broker need not look for them.
    streamWill: () => Readable.from([]),
    destroy: () => Promise.resolve(),
  };
}

function copyOf(packet: KeptPacket): KeptPacket {
  const { topic, qos, retain, brokerId, brokerCounter, clientId } = packet;
  return {
    cmd: 'publish',
    topic,
    qos,
    retain,
    dup: false,
    // The payload is a view into what the socket read, which may be much larger.
    payload: Buffer.from(packet.payload),
    ...(brokerId !== undefined && { brokerId }),
    ...(brokerCounter !== undefined && { brokerCounter }),
    ...(clientId !== undefined && { clientId }),
  };
}
