// The broker for leaf devices: its connections from the first byte to the last, and the library that they are given to.

import type { EventEmitter } from 'node:events';
import type { AedesPublishPacket, Client, PublishPacket, Subscription } from 'aedes';
import {
  abortable,
  coalesceWrites,
  errorText,
  LIMITS,
  refuseBadStrings,
  TOPIC_MAX_LEVELS,
  type AdapterContext,
  type StateSpace,
  systemCode,
  withoutNumberTable,
} from '#sdk';
import type { Authenticator } from './authenticator.ts';
import { AnswerOrder } from './answer-order.ts';
import { BrokerStore } from './broker-store.ts';
import type { MqttConfig } from './config.ts';
import { ClientInput } from './client-input.ts';
import { ConnectGate } from './connect-gate.ts';
import type { Connection } from './connection.ts';
import type { Devices } from './devices.ts';
import type { Publish } from './dialect.ts';
import { FieldAedes, hasEnded, heard, isAtWork, isVersionError } from './field-aedes.ts';
import { guardOutput } from './guarded-output.ts';
import { IncomingPackets } from './incoming-packets.ts';
import type { Intake } from './intake.ts';
import { startListeners, type Incoming, type Listeners } from './listeners.ts';
import { CLIENT_ID_MAX_BYTES, connectFault, Logins, type LoginOptions } from './login.ts';
import { createPersistence } from './persistence.ts';
import { PublishLane } from './publish-lane.ts';
import { NOT_STORED_PAUSE_MS, Publishing } from './publishing.ts';
import { Refusal } from './refusal.ts';
import { SubscribeAnswers } from './subscribe-answers.ts';
import { Subscriptions } from './subscriptions.ts';

/** From the TCP connection to CONNECT. */
const CONNECT_MS = 10_000;

export interface BrokerOptions {
  readonly config: MqttConfig;
  readonly context: AdapterContext;
  readonly state: StateSpace;
  readonly authenticator: Authenticator;
  readonly intake: Intake;
  readonly devices: Devices;
}

export class Broker {
  readonly #options: BrokerOptions;
  readonly #store: BrokerStore;
  readonly #incoming = new IncomingPackets();
  readonly #subscribeAnswers = new SubscribeAnswers();
  readonly #aedes: FieldAedes;
  readonly #publishing: Publishing;
  readonly #gate: ConnectGate;
  readonly #connections = new Map<object, Connection>();
  readonly #clients = new Map<string, Client>();
  /** Ended for their silence, which was told. */
  readonly #silent = new WeakSet<Client>();
  #listeners: Listeners | undefined;
  /** A start that failed for its port is tried again. */
  #started = false;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const { context } = options;
    this.#store = new BrokerStore({
      state: options.state,
      refused: (reason, fields) => context.reportRefusal(reason, fields),
      isConnected: (clientId) => this.#clients.has(clientId),
    });
    const connectionOf = ({ conn }: Client): Connection | undefined => this.#connections.get(conn);
    const refuse: LoginOptions['refuse'] = (reason, fields) => this.#refuse(reason, fields);
    const logins = new Logins({
      authenticator: options.authenticator,
      sessions: this.#store.sessions,
      intake: options.intake,
      connectionOf,
      clientOf: (clientId) => this.#clients.get(clientId),
      refuse,
    });
    const aedes = new FieldAedes(
      {
        persistence: createPersistence(this.#store, this.#incoming, ({ conn }) => this.#connections.get(conn)),
        connectTimeout: CONNECT_MS,
        maxClientsIdLength: CLIENT_ID_MAX_BYTES,
        maxTopicLevels: TOPIC_MAX_LEVELS,
        // Nobody waits for a subscriber that takes nothing: guardOutput.
        drainTimeout: 0,
        preConnect: (client, packet, done) => {
          const refused = connectFault(packet);
          if (refused === undefined) {
            const connection = connectionOf(client);
            if (connection !== undefined) connection.keepAliveSecs = packet.keepalive ?? 0;
            guardOutput(client, () => this.#refuse('slow_subscriber', { client: client.id }));
            done(null, true);
          } else done(new Refusal(refused), false);
        },
        authenticate: (client, username, password, done) => {
          void logins.authenticate(client, username, password).then(([error, accepted]) => done(error, accepted));
        },
        authorizePublish: (client, packet, done) => this.#publishing.take(client, packet, done),
        authorizeSubscribe: (client, subscription, done) => done(null, this.#grant(client, subscription)),
        authorizeForward: (client, packet) => this.#limitRetained(client, packet),
      },
      {
        kept: (topic) => this.#store.sessions.subscribersOf(topic).length > 0,
        keptChanges: () => this.#store.sessions.subscriptionChanges,
      },
    );
    this.#aedes = aedes;
    const { intake, devices } = options;
    const { clock } = context;
    this.#gate = new ConnectGate({
      clock,
      maxConnections: options.config.max_connections,
      maxConnectsPerSec: options.config.max_connects_per_sec,
      refuse,
    });
    this.#publishing = new Publishing({
      clock,
      intake,
      devices,
      incoming: this.#incoming,
      aedes,
      connectionOf,
      refuse,
    });
    aedes.on('client', (client) => {
      this.#clients.set(client.id, client);
      this.#publishing.recall(client, this.#store.retained.of(client.id));
    });
    aedes.on('clientDisconnect', (client) => this.#gone(client));
    aedes.on('subscribe', (granted, client) => this.#subscribeAnswers.answer(granted, client));
    aedes.on('unsubscribe', (filters, client) => this.#connections.get(client.conn)?.subscriptions.remove(filters));
    const onError = (client: Client, error: Error): void => this.#tellError(client, error);
    aedes.on('clientError', onError);
    aedes.on('connectionError', onError);
    aedes.on('keepaliveTimeout', (client) => {
      this.#silent.add(client);
      this.#refuse('keepalive_timeout', { client: client.id });
    });
    // The store could not be written or read: told by it, and the client that it happened to is gone.
    (aedes as EventEmitter).on('error', (error: unknown) =>
      this.#refuse('state_not_written', { error: errorText(error) }),
    );
  }

  /** Resolves when it listens. @throws GatewayError GW_PORT_IN_USE, GW_PORT_DENIED, GW_TLS, GW_STORE_CLOSED. */
  async start(): Promise<readonly string[]> {
    const { config } = this.#options;
    if (!this.#started) {
      await withoutNumberTable();
      await this.#aedes.listen();
      this.#started = true;
      await this.#publishLeftWills();
      for (const kept of this.#store.retained.all()) this.#options.intake.recall(kept);
    }
    this.#listeners = await startListeners({
      config,
      handshakeMs: CONNECT_MS,
      admit: (address) => this.#gate.admit(address),
      connected: (incoming) => this.#connected(incoming),
      failed: (reason, { address, error }) => this.#refuse(reason, { address, error }),
    });
    return this.#listeners.urls;
  }

  /** Sends what is under way, closes every connection. */
  async stop(signal: AbortSignal): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#aedes.close(resolve);
    });
    await this.#listeners?.close();
    await abortable(closed, signal).catch(() => {});
  }

  /** Passes a message of the gateway to subscribers that are connected; nothing keeps it. */
  publish({ topic, payload, retain = false }: Publish): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#aedes.publish(
        { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 0, retain, dup: false },
        (error?: Error | null) => (error === undefined || error === null ? resolve() : reject(error)),
      );
    });
  }

  get connections(): number {
    return this.#connections.size;
  }

  // Connections

  #connected({ stream, destroy, remoteAddress }: Incoming): void {
    const { config, context } = this.#options;
    const connection: Connection = {
      remoteAddress,
      destroy,
      answers: new AnswerOrder(),
      subscriptions: new Subscriptions(),
      heardAtMs: context.clock.monotonicMs(),
      keepAliveSecs: 0,
      principal: undefined,
      lane: undefined,
    };
    if (!this.#gate.enter(connection)) {
      stream.on('error', () => {});
      destroy();
      return;
    }
    this.#connections.set(stream, connection);
    stream.on('close', () => {
      this.#gate.leave(connection);
      this.#connections.delete(stream);
    });
    const lane = new PublishLane({
      isQuiet: this.#quietTopics(),
      take: (topic, payload) => this.#publishing.takeIn({ topic, payload, isAwaited: true }, client),
      acknowledge: (pubacks) => {
        if (stream.destroyed) return;
        stream.write(pubacks);
        if (stream.writableLength > LIMITS.mqtt_subscriber_bytes) {
          this.#refuse('slow_subscriber', { client: client.id });
          destroy();
        }
      },
      failed: (error, topic, isLast) => {
        this.#publishing.tellNotStored(client, topic, error);
        if (isLast) context.clock.after(NOT_STORED_PAUSE_MS, destroy);
      },
      // After the PUBACKs have left: what comes next may be a DISCONNECT.
      moved: () => process.nextTick(() => input.pump()),
    });
    connection.lane = lane;
    const input = new ClientInput(stream, lane, {
      clock: context.clock,
      maxPacketBytes: config.max_packet_bytes,
      maxMessagesPerSec: config.max_messages_per_sec,
      onFault: (fault) => {
        this.#refuse(fault, { address: remoteAddress });
        destroy();
      },
      onSlowed: () => this.#refuse('slowed_down', { address: remoteAddress }),
      onRead: () => (connection.heardAtMs = context.clock.monotonicMs()),
      onHeard: () => heard(client),
    });
    coalesceWrites(stream);
    const client = this.#aedes.handle(stream);
    refuseBadStrings(client, () => new Refusal('bad_string'));
    this.#subscribeAnswers.watch(client);
    input.start(() => isAtWork(client));
  }

  /** Tells of a topic whether only the intake is concerned, with a memory for as long as no subscription changes. */
  #quietTopics(): (topic: string) => boolean {
    let topic: string | undefined;
    let changes = 0;
    return (asked) => {
      const now = this.#aedes.subscriptionChanges;
      if (asked === topic && changes === now) return true;
      if (this.#aedes.concerns({ topic: asked })) return false;
      topic = asked;
      changes = now;
      return true;
    };
  }

  #gone(client: Client): void {
    if (this.#clients.get(client.id) === client) {
      this.#clients.delete(client.id);
      this.#store.sessions.leave(client.id);
    }
    this.#options.devices.leave(client, 'disconnected');
  }

  // Subscriptions

  #grant(client: Client, subscription: Subscription): Subscription | null {
    const connection = this.#connections.get(client.conn);
    if (connection === undefined) return null;
    const refused = connection.subscriptions.add(subscription.topic, subscription.qos === 0 ? 0 : 1);
    if (refused === undefined) return subscription;
    this.#refuse(refused, { client: client.id, topic: subscription.topic });
    // SUBACK 0x80 (MQTT 3.1.1, 3.9.3).
    return null;
  }

  /** The library sends what is retained with the QoS that it was published with, unless the filter is the topic itself. */
  #limitRetained(client: Client, packet: AedesPublishPacket): AedesPublishPacket {
    if (!packet.retain || packet.qos === 0) return packet;
    return { ...packet, qos: this.#connections.get(client.conn)?.subscriptions.qosOf(packet.topic) ?? 0 };
  }

  /** Their clients were connected when the last run ended without a stop; a server that closes publishes the wills. */
  async #publishLeftWills(): Promise<void> {
    for (const [clientId, will] of this.#store.wills.all()) {
      await new Promise<void>((resolve) => {
        const packet = { ...will } as unknown as PublishPacket;
        this.#publishing.take(null, packet, () => this.#aedes.publish(packet, () => resolve()));
      });
      await this.#store.wills.delete(clientId);
    }
  }

  // What is told

  #tellError(client: Client, error: Error): void {
    if (error instanceof Refusal) {
      if (error.reason !== 'told') this.#refuse(error.reason, { client: client.id });
      return;
    }
    // A connection that breaks is no refusal, nor is what could not be sent to one that was gone before.
    if (systemCode(error) !== undefined || this.#silent.has(client) || !hasEnded(client, error)) return;
    const reason = isVersionError(error) ? 'unsupported_protocol_version' : 'protocol_error';
    this.#refuse(reason, {
      client: client.id ?? undefined,
      address: this.#connections.get(client.conn)?.remoteAddress,
      error: error.message,
    });
  }

  #refuse(reason: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#options.context.reportRefusal(reason, fields);
  }
}
