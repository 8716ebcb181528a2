// The broker: aedes on a loopback port, read-only and bounded.

import { createServer, type Server, type Socket } from 'node:net';
import { Aedes } from 'aedes';
import {
  GatewayError,
  isTopicName,
  LIMITS,
  refuseBadStrings,
  systemCode,
  TOPIC_MAX_LEVELS,
  withoutNumberTable,
} from '#sdk';

/** A subscriber that takes nothing for this long is dropped: it must not hold up the others. */
const SLOW_SUBSCRIBER_MS = 2000;

export interface LocalBroker {
  /** Resolves once every subscriber has it, or was dropped for being slow. */
  publish(topic: string, payload: Uint8Array): Promise<void>;
  /** Settles when it no longer listens. */
  readonly closed: Promise<void>;
  close(): Promise<void>;
}

/** What a client published. */
export interface LocalPublish {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
}

/**
 * `onPublish` says whether it takes what a client publishes; whose publish is not taken is disconnected.
 * @throws GatewayError GW_PORT_IN_USE, GW_PORT_DENIED.
 */
export async function startLocalBroker(
  address: string,
  port: number,
  onPublish: (message: LocalPublish) => boolean,
): Promise<LocalBroker> {
  const sockets = new Set<Socket>();
  await withoutNumberTable();
  const broker = await Aedes.createBroker({
    drainTimeout: SLOW_SUBSCRIBER_MS,
    maxClientsIdLength: 128,
    maxTopicLevels: TOPIC_MAX_LEVELS,
    preConnect: (_client, packet, callback) => {
      // No session outlives its connection: a queue for absent subscribers would have no bound.
      packet.clean = true;
      const isSound = packet.will === undefined || isTopicName(packet.will.topic);
      const isIn = isSound && sockets.size <= LIMITS.local_broker_clients;
      // What a client left behind is no command: nobody may be there any more who wants it done.
      delete packet.will;
      // Without an error the library would leave the connection as it is.
      callback(isIn ? null : new Error('Too many clients, or a will without a topic.'), isIn);
    },
    authorizePublish: (_client, packet, callback) => {
      const { topic, payload, retain } = packet;
      const taken = onPublish({ topic, payload: Buffer.from(payload), retain });
      // Nothing is kept for those who come later: a retained command would be an old one.
      packet.retain = false;
      callback(taken ? null : new Error('This broker is for subscribers only.'));
    },
  });
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    refuseBadStrings(broker.handle(socket), () => new Error('A string of MQTT has no U+0000 and is UTF-8.'));
  });
  try {
    await listen(server, address, port);
  } catch (error) {
    broker.close();
    throw error;
  }
  const closed = new Promise<void>((resolve) => {
    server.once('close', resolve);
  });
  return {
    publish: (topic, payload) =>
      new Promise<void>((resolve, reject) => {
        // QoS 0: with a higher one the broker would keep copies for subscribers that do not acknowledge.
        const packet = {
          cmd: 'publish',
          topic,
          payload: payload as Buffer,
          qos: 0,
          retain: false,
          dup: false,
        } as const;
        broker.publish(packet, (error) => (error === undefined || error === null ? resolve() : reject(error)));
      }),
    closed,
    close: async () => {
      server.close();
      broker.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function listen(server: Server, address: string, port: number): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const denied = systemCode(error) === 'EACCES';
      reject(
        new GatewayError(
          denied ? 'GW_PORT_DENIED' : 'GW_PORT_IN_USE',
          denied
            ? `The local broker may not listen on ${address}:${port}; choose a port above 1023 in \`listen\`.`
            : `The local broker cannot listen on ${address}:${port}, another program does; choose another port in \`listen\`.`,
          { cause: error },
        ),
      );
    });
    server.listen({ host: address, port }, () => {
      server.removeAllListeners('error');
      // An accept that fails (no file descriptors left, for example) costs that client only.
      server.on('error', () => {});
      resolve();
    });
  });
}
