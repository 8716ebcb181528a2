// MQTT client connections on the `mqtt` library, reduced to what an endpoint needs: one object for one connection. The
// library's own reconnecting and its store of unacknowledged packets are off: the outbox resends, nobody else.

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type * as MqttLibrary from 'mqtt';
import type { IClientOptions, IConnackPacket, MqttClient } from 'mqtt';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';
import type { WebSocketPlace } from './broker-address.ts';
import { coalesceWrites } from './coalesce.ts';
import { takeMessages, type MqttMessage, type MqttPublishProperties } from './mqtt-messages.ts';
import { withoutNumberTable } from './mqtt-numbers.ts';
import { MqttPublisher, SubscriptionIds } from './mqtt-publisher.ts';
import { filterPubacks } from './puback-filter.ts';
import { isTlsFailure, tlsError } from './tls.ts';

export interface MqttWill {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1;
  readonly retain: boolean;
}

export interface MqttConnectOptions {
  /** Connected, with TLS done where it is wanted. It belongs to the connection from now on. */
  readonly socket: Socket | TLSSocket;
  /** Speak through a WebSocket on the socket (MQTT 5.0, 6). */
  readonly webSocket?: WebSocketPlace;
  /** For messages to people. */
  readonly host: string;
  /** 4 is MQTT 3.1.1. */
  readonly protocolVersion: 4 | 5;
  readonly clientId: string;
  readonly username?: string;
  readonly password?: string;
  /** 0: none. */
  readonly keepAliveSecs: number;
  readonly will?: MqttWill;
  /** Default true. False: the server keeps subscriptions, and messages meanwhile, under the client id (MQTT 3.1.1, 3.1.2.4). */
  readonly cleanSession?: boolean;
  /** What subscriptions bring; a QoS 1 message is acknowledged once the promise resolves, and ends the connection if it rejects. */
  readonly onMessage?: (message: MqttMessage) => Promise<void>;
  /** WebSocket handshake and CONNACK. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** What a CONNACK that refuses means. */
  readonly refused: (reasonCode: number) => GatewayError;
}

/** What the server promised in its CONNACK; absent in MQTT 3.1.1 and where it did not say. */
export interface MqttServerLimits {
  readonly receiveMaximum?: number;
  readonly maximumPacketBytes?: number;
  readonly maximumQos?: number;
}

/** Why the connection ended: the server's DISCONNECT where it sent one (MQTT 5). */
export interface MqttClosed {
  readonly reasonCode?: number;
  readonly reason: string;
  readonly cause?: unknown;
  /** The peer closed it in order and without a word. */
  readonly byPeer?: true;
}

export interface MqttConnection {
  readonly limits: MqttServerLimits;
  /** Settles once the connection is gone. Never rejects. */
  readonly closed: Promise<MqttClosed>;
  /**
   * Publishes with QoS 1. `done` is called once: with the PUBACK's reason code (0 in MQTT 3.1.1), or undefined when the
   * connection ended without one; `tag` goes along, so that many publishes can share one function.
   */
  publish(
    topic: string,
    payload: Uint8Array,
    properties: MqttPublishProperties | undefined,
    done: (reasonCode: number | undefined, tag: number) => void,
    tag?: number,
  ): void;
  /** Publishes with QoS 0, never retained: for what must not be kept or repeated. */
  publishOnce(topic: string, payload: Uint8Array): void;
  /**
   * `fresh`: in MQTT 5 without what the server has kept (Retain Handling 2), and the flag as it was sent (Retain As
   * Published), so that what is meant to be kept can be told in both versions.
   * @returns those that the server refuses (MQTT 3.1.1, 3.9.3)
   * @throws GatewayError GW_DISCONNECTED.
   */
  subscribe(filters: readonly string[], qos: 0 | 1, fresh?: 'fresh'): Promise<readonly string[]>;
  /** @throws GatewayError GW_DISCONNECTED. */
  unsubscribe(filters: readonly string[]): Promise<void>;
  /** DISCONNECT, then close; at once when the peer does not take it. */
  end(): Promise<void>;
  /** Cuts the connection, for a reason that `closed` then gives. */
  destroy(reason: string): void;
}

/** Longest wait for an orderly end. */
const END_MS = 500;
/** Return code of a SUBACK for a subscription that is refused (MQTT 3.1.1, 3.9.3). */
const SUBACK_FAILURE = 0x80;
/** The packet, the same in MQTT 3.1.1 (3.14) and 5 (3.14, reason code 0 left out). */
const DISCONNECT = Buffer.from([0xe0, 0x00]);

/**
 * Speaks MQTT on a connected socket. Always a clean session: what the peer did not answer is sent again by its owner.
 * @throws GatewayError what `refused` gives for the CONNACK; GW_TIMEOUT, GW_DISCONNECTED, GW_TLS, GW_PROTOCOL, GW_ABORTED.
 */
export async function connectMqtt(options: MqttConnectOptions): Promise<MqttConnection> {
  const { host, signal, socket } = options;
  // Loaded with the first connection, so that a gateway without MQTT does not pay for it.
  // A bundle with lazy parts exports a CommonJS package by its default alone.
  const { default: library } = await import('mqtt');
  await withoutNumberTable();
  return new Promise<MqttConnection>((resolve, reject) => {
    if (signal.aborted) {
      socket.destroy();
      reject(abortError(signal));
      return;
    }
    const publisher = new MqttPublisher(options.protocolVersion, (bytes, written) => {
      client.stream.write(bytes, written);
    });
    const client = createClient(library, options, publisher);
    // Before CONNACK: a session that was kept sends its messages right behind it.
    if (options.onMessage !== undefined) takeMessages(client, options.onMessage);
    // Errors before the CONNACK; the first one says most.
    let failure: Error | undefined;
    const end = (error: GatewayError): void => {
      settle();
      client.on('error', () => {});
      client.end(true);
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => end(abortError(signal));
    const onError = (error: Error): void => {
      const code = reasonCodeOf(error);
      if (code !== undefined) end(options.refused(code));
      else failure ??= error;
    };
    const onClose = (): void => end(handshakeError(failure, host));
    const onConnect = (packet: IConnackPacket): void => {
      settle();
      resolve(createConnection({ client, publisher }, options, packet));
    };
    const cancelTimeout = options.clock.after(options.timeoutMs, () =>
      end(new GatewayError('GW_TIMEOUT', `${host} did not answer the MQTT CONNECT within ${options.timeoutMs} ms.`)),
    );
    const settle = (): void => {
      cancelTimeout();
      client.off('error', onError);
      client.off('close', onClose);
      client.off('connect', onConnect);
      socket.off('error', onError);
      signal.removeEventListener('abort', onAbort);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    client.on('error', onError);
    client.on('close', onClose);
    client.on('connect', onConnect);
    // The library drops socket errors without a code, and a WebSocket hides the socket's own.
    socket.on('error', onError);
  });
}

function createClient(
  library: typeof MqttLibrary.default,
  options: MqttConnectOptions,
  publisher: MqttPublisher,
): MqttClient {
  const { socket, webSocket } = options;
  const clientOptions: IClientOptions = {
    protocolVersion: options.protocolVersion,
    clientId: options.clientId,
    ...(options.username !== undefined && { username: options.username }),
    ...(options.password !== undefined && { password: options.password }),
    keepalive: options.keepAliveSecs,
    // A ping goes out on time whatever is sent meanwhile, and no timer is renewed for every packet.
    reschedulePings: false,
    // Ours comes first.
    connectTimeout: options.timeoutMs * 2,
    clean: options.cleanSession ?? true,
    reconnectPeriod: 0,
    resubscribe: false,
    messageIdProvider: new SubscriptionIds(),
    // The cache holds a buffer for each 16-bit number, some megabytes.
    writeCache: false,
    log: () => {},
    ...(options.will !== undefined && { will: { ...options.will, payload: Buffer.from(options.will.payload) } }),
  };
  // A WebSocket frames what it is given itself.
  if (webSocket === undefined) {
    coalesceWrites(socket);
    filterPubacks(socket, (id, reasonCode) => publisher.answered(id, reasonCode));
    return new library.MqttClient(() => socket, clientOptions);
  }
  return library.connect({
    ...clientOptions,
    protocol: 'ws',
    path: webSocket.path,
    // The library's own has always a port; nothing is looked up by it.
    host: 'localhost',
    wsOptions: {
      createConnection: () => socket,
      headers: { host: webSocket.host },
      handshakeTimeout: options.timeoutMs,
      perMessageDeflate: false,
    },
  });
}

function createConnection(
  { client, publisher }: { readonly client: MqttClient; readonly publisher: MqttPublisher },
  options: MqttConnectOptions,
  connack: IConnackPacket,
): MqttConnection {
  const { clock, socket } = options;
  let why: MqttClosed | undefined;
  client.on('error', (error) => (why ??= { reason: errorText(error), cause: error }));
  socket.on('error', (error) => (why ??= { reason: errorText(error), cause: error }));
  client.on('disconnect', (packet) => {
    // The server says why before it closes (MQTT 5.0, 3.14); it may leave the closing to us.
    why = { reasonCode: packet.reasonCode ?? 0, reason: packet.properties?.reasonString ?? 'The server disconnected.' };
    client.end(true);
  });
  // Those that the filter left: in WebSockets, in pieces, with properties.
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'puback') publisher.answered(packet.messageId ?? 0, packet.reasonCode ?? 0);
  });
  const closed = new Promise<MqttClosed>((resolve) => {
    client.once('close', () => {
      // Ends the library's timers.
      client.end(true);
      publisher.end();
      resolve(why ?? { reason: 'The connection was closed by the peer.', byPeer: true });
    });
  });
  const { properties } = connack;
  return {
    limits: {
      ...(properties?.receiveMaximum !== undefined && { receiveMaximum: properties.receiveMaximum }),
      ...(properties?.maximumPacketSize !== undefined && { maximumPacketBytes: properties.maximumPacketSize }),
      ...(properties?.maximumQoS !== undefined && { maximumQos: properties.maximumQoS }),
    },
    closed,
    publish: (...publish) => publisher.publish(...publish),
    publishOnce: (topic, payload) => void client.publish(topic, payload as Buffer, { qos: 0, retain: false }, () => {}),
    subscribe: (filters, qos, fresh) =>
      new Promise((resolve, reject) => {
        const wanted = { qos, ...(fresh !== undefined && options.protocolVersion === 5 && { rh: 2, rap: true }) };
        client.subscribe([...filters], wanted, (_error, _wanted, suback) => {
          // The library's error says that one was refused; the packet says which.
          const codes = (suback?.granted ?? []) as readonly number[];
          if (codes.length === filters.length) resolve(filters.filter((_, at) => (codes[at] ?? 0) >= SUBACK_FAILURE));
          else
            reject(new GatewayError('GW_DISCONNECTED', `${options.host} closed the connection during a subscription.`));
        });
      }),
    unsubscribe: (filters) =>
      new Promise<void>((resolve, reject) => {
        client.unsubscribe([...filters], (error) => {
          if (error === undefined || error === null) resolve();
          else
            reject(new GatewayError('GW_DISCONNECTED', `${options.host} closed the connection during an unsubscribe.`));
        });
      }),
    end: async () => {
      why ??= { reason: 'Closed by Fieldpost.' };
      if (client.connected) {
        publisher.flush();
        // Past the library, which writes behind its queue; the owner has waited for PUBACKs as long as it wanted.
        client.stream.end(DISCONNECT);
        await new Promise<void>((resolve) => {
          const cancel = clock.after(END_MS, resolve);
          void closed.then(cancel).then(resolve);
        });
      }
      client.end(true);
      socket.destroy();
      await closed;
    },
    destroy: (reason) => {
      why ??= { reason };
      client.end(true);
      socket.destroy();
    },
  };
}

/** The number in the library's errors for CONNACK, PUBACK and DISCONNECT. */
function reasonCodeOf(error: Error): number | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === 'number' ? code : undefined;
}

function handshakeError(failure: Error | undefined, host: string): GatewayError {
  // With TLS 1.3 a refused client certificate shows only now.
  if (isTlsFailure(failure)) return tlsError(failure, host);
  if (failure === undefined) {
    return new GatewayError('GW_DISCONNECTED', `${host} closed the connection instead of answering the MQTT CONNECT.`);
  }
  return new GatewayError('GW_PROTOCOL', `${host} did not take the MQTT CONNECT: ${errorText(failure)}.`, {
    cause: failure,
  });
}
