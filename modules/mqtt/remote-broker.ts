// Client mode: attached to a broker that is there already. The session is kept there under one client id, and a message is
// acknowledged once it is stored, so nothing is lost while the gateway is away.

import {
  brokerTls,
  brokerUrl,
  connectMqtt,
  dial,
  dialTls,
  errorText,
  GatewayError,
  isGatewayError,
  type AdapterContext,
  type HealthReport,
  type MqttClosed,
  type MqttConnection,
  type MqttMessage,
} from '#sdk';
import { defaultClientId } from './client-id.ts';
import type { ConnectConfig } from './config.ts';
import type { Devices } from './devices.ts';
import type { Dialect, Publish } from './dialect.ts';
import { refusalReason, type Intake } from './intake.ts';
import { Refusal } from './refusal.ts';

const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 30_000;
/** A connection that stood for less has mended nothing: the waits go on growing. */
const FRESH_MS = 5_000;
/** Refused subscriptions are asked for again. */
const ASK_AGAIN_MS = 60_000;
/** So many of those in a row are no accident. */
const FRESH_ENOUGH = 3;

export interface RemoteBrokerOptions {
  readonly config: ConnectConfig;
  readonly context: AdapterContext;
  readonly dialects: readonly Dialect[];
  readonly intake: Intake;
  readonly devices: Devices;
}

export class RemoteBroker {
  readonly #options: RemoteBrokerOptions;
  readonly #stopping = new AbortController();
  #connection: MqttConnection | undefined;
  #health: HealthReport = { status: 'degraded', reason: 'Not connected yet.' };
  #running: Promise<void> | undefined;
  /** Connections in a row that stood for less than FRESH_MS. */
  #lostFresh = 0;
  /** Filters that the broker does not grant. */
  #refused: readonly string[] = [];

  constructor(options: RemoteBrokerOptions) {
    this.#options = options;
  }

  /** Returns at once: a broker that is away is tried for ever, and shown. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#connection?.end();
    await this.#running;
  }

  health(): HealthReport {
    return this.#health;
  }

  /** @throws GatewayError GW_DISCONNECTED. */
  publish({ topic, payload }: Publish): Promise<void> {
    if (this.#connection === undefined) {
      return Promise.reject(new GatewayError('GW_DISCONNECTED', 'The broker is not connected; nothing was sent.'));
    }
    this.#connection.publishOnce(topic, payload);
    return Promise.resolve();
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options.context;
    const { signal } = this.#stopping;
    let delayMs = RETRY_FIRST_MS;
    while (!signal.aborted) {
      let reason: string;
      try {
        const connection = await this.#open();
        const attachedMs = clock.monotonicMs();
        this.#health = this.#attachedHealth();
        log.info({ url: this.#options.config.url }, 'The adapter is attached to the broker.');
        if (this.#refused.length > 0) log.warn({ filters: this.#refused }, 'The broker refuses subscriptions.');
        void this.#askAgain(connection);
        const closed = await connection.closed;
        this.#lostFresh = clock.monotonicMs() - attachedMs < FRESH_MS ? this.#lostFresh + 1 : 0;
        if (this.#lostFresh === 0) delayMs = RETRY_FIRST_MS;
        reason = this.#lossReason(closed);
        this.#options.devices.leave(this, 'broker_disconnected');
      } catch (error) {
        if (signal.aborted) return;
        reason = errorText(error);
      }
      this.#connection = undefined;
      if (signal.aborted) return;
      if (this.#health.reason !== reason)
        log.warn({ reason }, 'The adapter is not attached to the broker; it is tried again.');
      this.#health = { status: 'degraded', reason };
      try {
        await clock.sleep(delayMs, signal);
      } catch (error) {
        if (!isGatewayError(error, 'GW_ABORTED')) throw error;
      }
      delayMs = Math.min(delayMs * 2, RETRY_LAST_MS);
    }
  }

  /** Rights at a broker change while connections stand. */
  async #askAgain(connection: MqttConnection): Promise<void> {
    const { clock, log } = this.#options.context;
    const ended = new AbortController();
    void connection.closed.then(() => ended.abort());
    try {
      while (this.#refused.length > 0) {
        await clock.sleep(ASK_AGAIN_MS, ended.signal);
        this.#refused = await connection.subscribe(this.#refused, 1);
        this.#health = this.#attachedHealth();
      }
    } catch (error) {
      // The next connection asks for all of them.
      if (!isGatewayError(error, 'GW_ABORTED') && !isGatewayError(error, 'GW_DISCONNECTED')) {
        log.warn({ error: errorText(error) }, 'Refused subscriptions were not asked for again.');
      }
    }
  }

  /** Whoever may not hear all there is works with what it hears. */
  #attachedHealth(): HealthReport {
    if (this.#refused.length === 0) return { status: 'running' };
    const { username, url } = this.#options.config;
    const who = username === undefined ? 'clients without a user name' : `the user "${username}"`;
    const filters = this.#refused.map((filter) => `"${filter}"`).join(', ');
    const reason = `${url} refuses the subscription to ${filters}: let ${who} read these topics there.`;
    return { status: 'degraded', reason };
  }

  #lossReason({ reason, byPeer }: MqttClosed): string {
    const lost = `The connection to ${this.#options.config.url} was lost: ${reason.replace(/\.$/, '')}.`;
    if (byPeer !== true || this.#lostFresh < FRESH_ENOUGH) return lost;
    // MQTT 3.1.1, 3.1.4-2: a server closes the client that is there for a new one with its id, and says nothing.
    const doubt = `as it does when another client logs in with the client id "${this.#clientId}"`;
    return `${lost} The broker closes each new connection soon, ${doubt}: give one of them another \`client_id\`.`;
  }

  get #clientId(): string {
    const { config, context } = this.#options;
    return config.client_id ?? defaultClientId(context);
  }

  /** @throws GatewayError as `dial`, `connectMqtt` and `subscribe`. */
  async #open(): Promise<MqttConnection> {
    const { config, context, dialects } = this.#options;
    const { signal } = this.#stopping;
    const url = new URL(config.url);
    const place = brokerUrl(config.url);
    const secure = url.protocol === 'mqtts:' || url.protocol === 'wss:';
    const dialOptions = {
      ...place,
      timeoutMs: config.connect_timeout_ms,
      signal,
    };
    const socket = await (secure ? dialTls({ ...dialOptions, tls: brokerTls(config) }) : dial(dialOptions));
    const connection = await connectMqtt({
      socket,
      ...(url.protocol.startsWith('ws') && { webSocket: { host: place.host, path: `${url.pathname}${url.search}` } }),
      host: `${url.protocol}//${url.host}`,
      protocolVersion: 4,
      clientId: this.#clientId,
      ...(config.username !== undefined && { username: config.username }),
      ...(config.password !== undefined && { password: config.password }),
      keepAliveSecs: config.keepalive_secs,
      cleanSession: false,
      onMessage: (message) => this.#take(message),
      timeoutMs: config.connect_timeout_ms,
      signal,
      clock: context.clock,
      refused: (code) => new GatewayError('GW_UNAUTHORIZED', `${url.host} refused the connection (code ${code}).`),
    });
    this.#connection = connection;
    try {
      this.#refused = await connection.subscribe([...new Set(dialects.flatMap(({ filters }) => filters))], 1);
    } catch (error) {
      connection.destroy('The subscriptions were not answered.');
      throw error;
    }
    for (const greeting of dialects.flatMap((dialect) => dialect.greetings?.() ?? [])) {
      connection.publishOnce(greeting.topic, greeting.payload);
    }
    return connection;
  }

  async #take({ topic, payload, qos, retain }: MqttMessage): Promise<void> {
    const { context, intake } = this.#options;
    try {
      await intake.take({ topic, payload, replayed: retain, isAwaited: qos > 0 }, this);
    } catch (error) {
      // What will never be stored is counted and acknowledged: it would come again for ever.
      const forGood = error instanceof Refusal || isGatewayError(error, 'GW_MESSAGE_INVALID');
      if (!(error instanceof Refusal)) context.reportRefusal(refusalReason(error), { topic });
      if (forGood || qos === 0) return;
      throw error;
    }
  }
}
