// The broker for leaf devices: who may connect, publish and subscribe, and what is stored before it is acknowledged.

import type { EventEmitter } from 'node:events';
import type { AedesPublishPacket, AuthenticateError, Client, PublishPacket, Subscription } from 'aedes';
import {
  abortable,
  coalesceWrites,
  errorText,
  isGatewayError,
  isTopicName,
  LIMITS,
  refuseBadStrings,
  TOPIC_MAX_LEVELS,
  type AdapterContext,
  type StateSpace,
  systemCode,
  withoutNumberTable,
} from '#sdk';
import type { Authenticator, Principal } from './authenticator.ts';
import { AnswerOrder } from './answer-order.ts';
import { BrokerStore } from './broker-store.ts';
import type { MqttConfig } from './config.ts';
import { ClientInput } from './client-input.ts';
import type { Devices } from './devices.ts';
import type { Publish } from './dialect.ts';
import { FieldAedes, hasEnded, heard, isAtWork, isVersionError, willOf } from './field-aedes.ts';
import { guardOutput } from './guarded-output.ts';
import { IncomingPackets } from './incoming-packets.ts';
import { refusalReason, type Delivery, type Intake } from './intake.ts';
import { startListeners, type Incoming, type Listeners } from './listeners.ts';
import { createPersistence } from './persistence.ts';
import { PublishLane } from './publish-lane.ts';
import { TokenBucket } from './rate-limit.ts';
import { Refusal } from './refusal.ts';
import { SubscribeAnswers } from './subscribe-answers.ts';
import { Subscriptions } from './subscriptions.ts';

/** From the TCP connection to CONNECT. */
const CONNECT_MS = 10_000;
const CLIENT_ID_MAX_BYTES = 128;
/** How long a client is held whose message could not be stored, so that it does not resend without end. */
const NOT_STORED_PAUSE_MS = 1000;
/** CONNACK return codes (MQTT 3.1.1, 3.2.2.3). */
const UNAVAILABLE = 3;
const BAD_CREDENTIALS = 4;
const NOT_AUTHORIZED = 5;
/** Addresses whose connects are counted. */
const CONNECT_ADDRESSES = 1024;

/** What is looked at of a CONNECT before the credentials. */
interface ConnectFacts {
  readonly clientId: string;
  readonly clean?: boolean | undefined;
  readonly will?: { readonly topic: string } | undefined;
}

export interface BrokerOptions {
  readonly config: MqttConfig;
  readonly context: AdapterContext;
  readonly state: StateSpace;
  readonly authenticator: Authenticator;
  readonly intake: Intake;
  readonly devices: Devices;
}

type Done = (error?: Error | null) => void;

/** What is known of a connection. */
interface Connection {
  readonly remoteAddress: string;
  /** Of PUBACK and PUBREC, as far as the library gives them. */
  readonly answers: AnswerOrder;
  readonly subscriptions: Subscriptions;
  principal: Principal | undefined;
  lane: PublishLane | undefined;
}

export class Broker {
  readonly #options: BrokerOptions;
  readonly #store: BrokerStore;
  readonly #incoming = new IncomingPackets();
  readonly #subscribeAnswers = new SubscribeAnswers();
  readonly #aedes: FieldAedes;
  readonly #connections = new Map<object, Connection>();
  readonly #clients = new Map<string, Client>();
  readonly #connects = new Map<string, TokenBucket>();
  /** Ended for their silence, which was told. */
  readonly #silent = new WeakSet<Client>();
  #listeners: Listeners | undefined;
  #open = 0;
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
    const aedes = new FieldAedes(
      {
        persistence: createPersistence(this.#store, this.#incoming, ({ conn }) => this.#connections.get(conn)),
        connectTimeout: CONNECT_MS,
        maxClientsIdLength: CLIENT_ID_MAX_BYTES,
        maxTopicLevels: TOPIC_MAX_LEVELS,
        // Nobody waits for a subscriber that takes nothing: guardOutput.
        drainTimeout: 0,
        preConnect: (client, packet, done) => {
          const refused = this.#connectFault(packet);
          if (refused === undefined) {
            guardOutput(client, () => this.#refuse('slow_subscriber', { client: client.id }));
            done(null, true);
          } else done(new Refusal(refused), false);
        },
        authenticate: (client, username, password, done) => {
          void this.#authenticate(client, username, password).then(
            ([error, accepted]) => done(error, accepted),
            (error: unknown) => done(Object.assign(new Error(errorText(error)), { returnCode: UNAVAILABLE }), false),
          );
        },
        authorizePublish: (client, packet, done) => this.#takePublish(client, packet, done),
        authorizeSubscribe: (client, subscription, done) => done(null, this.#grant(client, subscription)),
        authorizeForward: (client, packet) => this.#limitRetained(client, packet),
      },
      {
        kept: (topic) => this.#store.sessions.subscribersOf(topic).length > 0,
        keptChanges: () => this.#store.sessions.subscriptionChanges,
      },
    );
    this.#aedes = aedes;
    aedes.on('client', (client) => this.#clients.set(client.id, client));
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
    }
    this.#listeners = await startListeners({
      config,
      handshakeMs: CONNECT_MS,
      admit: (address) => this.#admit(address),
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

  #admit(address: string): boolean {
    const { config, context } = this.#options;
    if (this.#open >= config.max_connections) {
      this.#refuse('too_many_connections', { address });
      return false;
    }
    let bucket = this.#connects.get(address);
    if (bucket === undefined) {
      if (this.#connects.size >= CONNECT_ADDRESSES) this.#connects.clear();
      bucket = new TokenBucket(context.clock, config.max_connects_per_sec);
      this.#connects.set(address, bucket);
    }
    if (bucket.spend(1)) return true;
    this.#refuse('connect_rate', { address });
    return false;
  }

  #connected({ stream, destroy, remoteAddress }: Incoming): void {
    const { config, context } = this.#options;
    this.#open += 1;
    stream.on('close', () => {
      this.#open -= 1;
      this.#connections.delete(stream);
    });
    if (this.#open > config.max_connections) {
      this.#refuse('too_many_connections', { address: remoteAddress });
      stream.on('error', () => {});
      destroy();
      return;
    }
    const connection: Connection = {
      remoteAddress,
      answers: new AnswerOrder(),
      subscriptions: new Subscriptions(),
      principal: undefined,
      lane: undefined,
    };
    this.#connections.set(stream, connection);
    const lane = new PublishLane({
      isQuiet: this.#quietTopics(),
      take: (topic, payload) => this.#take({ topic, payload, isAwaited: true }, client),
      acknowledge: (pubacks) => {
        if (stream.destroyed) return;
        stream.write(pubacks);
        if (stream.writableLength > LIMITS.mqtt_subscriber_bytes) {
          this.#refuse('slow_subscriber', { client: client.id });
          destroy();
        }
      },
      failed: (error, topic, isLast) => {
        this.#tellNotStored(client, topic, error);
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

  #connectFault(packet: ConnectFacts): string | undefined {
    if (Buffer.byteLength(packet.clientId) > CLIENT_ID_MAX_BYTES) return 'client_id_too_long';
    // MQTT 3.1.1, 3.1.3.1: without an id there is no session to keep.
    if (packet.clientId === '' && packet.clean !== true) return 'no_client_id';
    // The library publishes a will without looking at its topic.
    return packet.will === undefined || isTopicName(packet.will.topic) ? undefined : 'bad_will_topic';
  }

  async #authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<[AuthenticateError | null, boolean]> {
    const connection = this.#connections.get(client.conn);
    if (connection === undefined) return [null, false];
    try {
      const principal = await this.#options.authenticator.authenticate({
        username,
        password: password?.toString(),
        remoteAddress: connection.remoteAddress,
      });
      if (principal === undefined) return this.#refuseLogin(client, 'bad_credentials', BAD_CREDENTIALS);
      // Whoever knows an id could else end another client's connection, or read its messages.
      const live = this.#clients.get(client.id);
      const foreign =
        this.#store.sessions.isForeign(client.id, principal.username) ||
        (live !== undefined && this.#principalOf(live)?.username !== principal.username);
      if (foreign) return this.#refuseLogin(client, 'client_id_in_use', 2);
      // Asked now: when a crash leaves the will, nobody is there any more to be asked.
      const will = willOf(client);
      const refused = will === undefined ? undefined : this.#publishFault(principal, will);
      if (refused !== undefined) return this.#refuseLogin(client, refused, NOT_AUTHORIZED);
      if (!client.clean && !this.#store.sessions.hasRoomFor(client.id))
        return this.#refuseLogin(client, 'too_many_sessions', UNAVAILABLE);
      connection.principal = principal;
      return [null, true];
    } catch (error) {
      if (!isGatewayError(error, 'GW_THROTTLED')) throw error;
      return this.#refuseLogin(client, 'logins_waiting', UNAVAILABLE);
    }
  }

  #refuseLogin(client: Client, reason: string, returnCode: number): [AuthenticateError, false] {
    const address = this.#connections.get(client.conn)?.remoteAddress;
    this.#refuse(reason, { client: client.id, address });
    return [Object.assign(new Refusal('told'), { returnCode }), false];
  }

  #gone(client: Client): void {
    if (this.#clients.get(client.id) === client) {
      this.#clients.delete(client.id);
      this.#store.sessions.leave(client.id);
    }
    this.#options.devices.leave(client, 'disconnected');
  }

  // Messages

  #takePublish(client: Client | null, packet: PublishPacket, answer: Done): void {
    const { qos, messageId, topic } = packet;
    const fault = this.#publishFault(this.#principalOf(client), packet);
    // A will has no identifier, and nobody waits for its answer.
    const isAnswered = client !== null && qos > 0 && messageId !== undefined && fault === undefined;
    if (!isAnswered) {
      if (fault === undefined) this.#keepPublish(client, packet, answer);
      else this.#refusePublish(fault, { client: client?.id, topic }, answer);
      return;
    }
    const noted = qos === 2 ? this.#incoming.begin(client.id, messageId) : 'new';
    if (noted === 'too_many') {
      this.#refusePublish('too_many_unreleased', { client: client.id }, answer);
      return;
    }
    const inOrder = this.#connections.get(client.conn)?.answers.begin();
    const done: Done = (error) => {
      if (qos === 2 && error) this.#incoming.end(client.id, messageId);
      else if (qos === 2) this.#incoming.stored(client.id, messageId);
      if (inOrder === undefined) answer(error);
      else inOrder(() => answer(error));
    };
    if (noted === 'known') done(null);
    else this.#keepPublish(client, packet, done);
  }

  #refusePublish(reason: string, fields: Readonly<Record<string, unknown>>, answer: Done): void {
    this.#refuse(reason, fields);
    answer(new Refusal('told'));
  }

  /** Stores it. */
  #keepPublish(client: Client | null, packet: PublishPacket, done: Done): void {
    const { intake } = this.#options;
    const pass = (): void => {
      // What QoS 1 and 2 promise includes what is kept for others: all of it comes before the answer.
      if (packet.qos > 0 && client !== null && this.#aedes.concerns(packet)) {
        this.#aedes.publishFirst(packet, client, done);
      } else done(null);
    };
    // What comes on this topic from now on needs not be asked again.
    if (client !== null && intake.owner(packet.topic) !== undefined) {
      this.#connections.get(client.conn)?.lane?.learn(packet.topic);
    }
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    const stored = this.#take({ topic: packet.topic, payload, isAwaited: packet.qos > 0 }, client);
    if (stored === undefined) pass();
    else stored.then(pass, (error: unknown) => this.#notStored({ client, packet, error, done, pass }));
  }

  #take(publish: Omit<Delivery, 'replayed'>, client: Client | null): Promise<void> | undefined {
    const { intake, devices } = this.#options;
    const stored = intake.take({ ...publish, replayed: false }, client ?? undefined);
    // What is read of a connection after its end keeps no device online.
    if (client?.closed === true) devices.leave(client, 'disconnected');
    return stored;
  }

  #publishFault(principal: Principal | undefined, { topic }: { readonly topic: string }): string | undefined {
    if (topic.startsWith('$')) return 'reserved_topic';
    // A will that a crash left: its client was asked when it connected.
    if (principal === undefined || principal.everyDevice) return undefined;
    const { intake } = this.#options;
    if (intake.isCommand(topic)) return 'command_topic';
    const owner = intake.owner(topic);
    return owner === undefined || principal.mayPublishAs(owner.device) ? undefined : 'not_its_device';
  }

  #notStored(failed: {
    readonly client: Client | null;
    readonly packet: PublishPacket;
    readonly error: unknown;
    readonly done: Done;
    readonly pass: () => void;
  }): void {
    const { client, packet, error, done, pass } = failed;
    this.#tellNotStored(client, packet.topic, error);
    // Nothing is promised for QoS 0: the message is lost, and counted.
    if (packet.qos === 0) {
      pass();
      return;
    }
    // No acknowledgement: the connection ends and the client sends it again.
    this.#options.context.clock.after(NOT_STORED_PAUSE_MS, () => done(new Refusal('told')));
  }

  /** A refusal was told where it was made. */
  #tellNotStored(client: Client | null, topic: string, error: unknown): void {
    if (!(error instanceof Refusal)) this.#refuse(refusalReason(error), { client: client?.id, topic });
  }

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
        this.#takePublish(null, packet, () => this.#aedes.publish(packet, () => resolve()));
      });
      await this.#store.wills.delete(clientId);
    }
  }

  // What is told

  #principalOf(client: Client | null | undefined): Principal | undefined {
    return client === null || client === undefined ? undefined : this.#connections.get(client.conn)?.principal;
  }

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
