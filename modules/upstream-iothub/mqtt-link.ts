// One device's MQTT connection to the hub, over the connections that follow each other when its token is renewed: a token goes
// with a connection (contract/device-auth.md, section 4), so that a new one needs a new connection.
//
// Invariants
// - Each send resolves once, with one result a message; never rejects.
// - A renewal begins when nothing is unanswered; what is sent meanwhile waits for it, in order, so that it costs no duplicate.
// - `closed` settles once: when a connection ended that was not being renewed, or a renewal failed.

import {
  ACCEPTED,
  connectMqtt,
  errorText,
  GatewayError,
  hmacSha256,
  isGatewayError,
  jitter,
  makeSasToken,
  systemRandom,
  WindowPublisher,
  writeHubUserName,
  type Clock,
  type DeliveryResult,
  type EndpointClosed,
  type MqttClosed,
  type MqttConnection,
  type MqttMessage,
  type Outgoing,
  type StoredMessage,
} from '#sdk';
import { CLIENT_NAME } from './client-name.ts';
import type { HubIdentity } from './identity.ts';

/** Of a token's lifetime, after which it is renewed. */
const RENEW_AT = 0.8;
/** Longest wait at a renewal for direct methods that are under way: their answers would be lost with the connection. */
const METHODS_MS = 35_000;
const NOT_SENT: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The connection was lost before the message was sent.',
});
const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });

type MqttSocket = Parameters<typeof connectMqtt>[0]['socket'];

/** One connection, to whoever got a message on it. */
export interface Incoming {
  /** With QoS 0; false when the connection is gone. */
  publish(topic: string, payload: Uint8Array): boolean;
  /** When it ended, by the monotonic clock; undefined while it stands. */
  readonly endedAtMs: number | undefined;
  /** Aborts then. */
  readonly signal: AbortSignal;
}

export interface LinkOptions {
  readonly identity: HubIdentity;
  readonly clock: Clock;
  /** A socket to the hub with TLS done. @throws GatewayError as `dialTls`. */
  readonly dial: (identity: HubIdentity, signal: AbortSignal) => Promise<MqttSocket>;
  readonly webSocket: { readonly path: string; readonly host: string } | undefined;
  readonly keepAliveSecs: number;
  readonly connectTimeoutMs: number;
  readonly ackTimeoutMs: number;
  readonly tokenLifetimeSecs: number;
  readonly window: number;
  readonly encode: (stored: StoredMessage) => Outgoing;
  /** What to be subscribed to now; nothing where nothing comes down. */
  readonly filters: () => readonly (readonly [filter: string, qos: 0 | 1])[];
  /** What that brings; one of QoS 1 is acknowledged when it resolves, and not when it rejects. */
  readonly onMessage: (message: MqttMessage, from: Incoming) => Promise<void>;
  /** What a CONNACK that refuses means. */
  readonly refused: (reasonCode: number) => GatewayError;
  readonly onNotSubscribed: (error: unknown) => void;
  /** On each connection, once all of it is subscribed. */
  readonly onSubscribed?: (from: Incoming) => void;
  /** Why a connection ended that was not ended here. */
  readonly closedReason: (why: MqttClosed, livedMs: number) => EndpointClosed;
}

interface Current {
  readonly connection: MqttConnection;
  readonly publisher: WindowPublisher;
  /** Filters. */
  subscribed: ReadonlySet<string>;
  readonly sinceMs: number;
}

export class HubLink {
  readonly #options: LinkOptions;
  readonly #closed = Promise.withResolvers<EndpointClosed>();
  readonly #stopping = new AbortController();
  #current: Current | undefined;
  #isOver = false;
  #isReplacing = false;
  /** Sends that the publisher has not answered whole, and direct methods that are not answered. */
  readonly #sending = new Set<Promise<unknown>>();
  readonly #answering = new Set<Promise<unknown>>();
  /** Sends that wait for the renewal; undefined when there is none. */
  #held: (() => void)[] | undefined;
  #cancelRenewal: (() => void) | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Connects; once. @throws GatewayError as `dialTls` and `connectMqtt`. */
  async open(signal: AbortSignal): Promise<void> {
    this.#adopt(await this.#connect(AbortSignal.any([signal, this.#stopping.signal])));
  }

  /** Settles when the link has ended, whoever ended it. Never rejects. */
  get closed(): Promise<EndpointClosed> {
    return this.#closed.promise;
  }

  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (signal.aborted) return Promise.resolve(batch.map(() => STOPPED));
    if (this.#held === undefined) return this.#sendNow(batch, signal);
    const held = this.#held;
    return new Promise((resolve) => {
      const onAbort = (): void => resolve(batch.map(() => STOPPED));
      signal.addEventListener('abort', onAbort, { once: true });
      held.push(() => {
        signal.removeEventListener('abort', onAbort);
        // One that was given up is answered already, and must not be sent behind its sender's back.
        resolve(signal.aborted ? batch.map(() => STOPPED) : this.#sendNow(batch, signal));
      });
    });
  }

  /** Other filters count now than when it connected. */
  refresh(): void {
    const { filters, onNotSubscribed } = this.#options;
    const current = this.#current;
    if (current === undefined || this.#isOver) return;
    const wanted = new Map(filters());
    const gone = [...current.subscribed].filter((filter) => !wanted.has(filter));
    if (gone.length > 0) current.connection.unsubscribe(gone).catch(() => {});
    for (const [filter, qos] of wanted) {
      if (!current.subscribed.has(filter)) current.connection.subscribe([filter], qos).catch(onNotSubscribed);
    }
    current.subscribed = new Set(wanted.keys());
  }

  /** An orderly end; idempotent. */
  async end(): Promise<void> {
    this.#stopping.abort();
    await this.#current?.connection.end();
    this.#over({ kind: 'transient', reason: 'Closed by Fieldpost.' });
  }

  /** Cuts the connection. */
  cut(reason: string): void {
    this.#stopping.abort();
    this.#current?.connection.destroy(reason);
    this.#over({ kind: 'transient', reason });
  }

  #sendNow(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    const publisher = this.#current?.publisher;
    if (publisher === undefined || this.#isOver) return Promise.resolve(batch.map(() => NOT_SENT));
    const sent = publisher.send(batch, signal);
    track(this.#sending, sent);
    return sent;
  }

  async #connect(signal: AbortSignal): Promise<Current> {
    const { clock, identity, filters, ...options } = this.#options;
    const socket = await options.dial(identity, signal);
    let connection: MqttConnection | undefined = undefined;
    let endedAtMs: number | undefined;
    const ended = new AbortController();
    const from: Incoming = {
      publish: (topic, payload) => {
        if (connection === undefined || endedAtMs !== undefined) return false;
        connection.publishOnce(topic, payload);
        return true;
      },
      get endedAtMs() {
        return endedAtMs;
      },
      signal: ended.signal,
    };
    const opened = await connectMqtt({
      socket,
      ...(options.webSocket !== undefined && { webSocket: options.webSocket }),
      host: identity.dialHost,
      protocolVersion: 4,
      clientId: identity.deviceId,
      username: writeHubUserName(identity.hostName, identity, CLIENT_NAME),
      ...(identity.sharedAccessKey !== undefined && { password: this.#token(identity.sharedAccessKey) }),
      keepAliveSecs: options.keepAliveSecs,
      timeoutMs: options.connectTimeoutMs,
      signal,
      clock,
      refused: options.refused,
      onMessage: (message) => this.#receive(message, from),
    });
    connection = opened;
    void opened.closed.then(() => {
      endedAtMs = clock.monotonicMs();
      ended.abort();
    });
    const wanted = filters();
    // Nobody waits: a hub that does not answer must not hold up the messages.
    void Promise.all(wanted.map(([filter, qos]) => opened.subscribe([filter], qos))).then((refused) => {
      const [first] = refused.flat();
      if (first === undefined) options.onSubscribed?.(from);
      else options.onNotSubscribed(new GatewayError('GW_PROTOCOL', `The hub refused the subscription to ${first}.`));
    }, options.onNotSubscribed);
    const publisher = new WindowPublisher({
      connection: opened,
      window: options.window,
      quota: Number.POSITIVE_INFINITY,
      ackTimeoutMs: options.ackTimeoutMs,
      clock,
      encode: options.encode,
      // MQTT 3.1.1: a PUBACK says yes, and nothing else.
      resultOf: () => ACCEPTED,
    });
    const subscribed = new Set(wanted.map(([filter]) => filter));
    return { connection: opened, publisher, subscribed, sinceMs: clock.monotonicMs() };
  }

  #token(key: string): string {
    const { clock, identity, tokenLifetimeSecs } = this.#options;
    const resource = `${identity.hostName}/devices/${encodeURIComponent(identity.deviceId)}`;
    const expiresAtMs = clock.wallMs() + tokenLifetimeSecs * 1000;
    return makeSasToken({ resource, key, expiresAtMs }, { hmacSha256 });
  }

  #receive(message: MqttMessage, from: Incoming): Promise<void> {
    const taken = this.#options.onMessage(message, from);
    if (message.qos > 0) return taken;
    // What nobody acknowledges must not hold up the acknowledgements of others.
    track(this.#answering, taken);
    return Promise.resolve();
  }

  #adopt(current: Current): void {
    const { clock, closedReason, identity, tokenLifetimeSecs } = this.#options;
    this.#current = current;
    void current.connection.closed.then((why) => {
      if (this.#isReplacing || this.#current !== current) return;
      this.#over(closedReason(why, clock.monotonicMs() - current.sinceMs));
    });
    if (identity.sharedAccessKey === undefined) return;
    // Spread, so that gateways that started together do not renew together for ever.
    const renewMs = jitter(tokenLifetimeSecs * 1000 * RENEW_AT, 0.1, systemRandom);
    this.#cancelRenewal = clock.after(renewMs, () => void this.#renew(current));
  }

  #over(reason: EndpointClosed): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelRenewal?.();
    this.#closed.resolve(reason);
    const held = this.#held ?? [];
    this.#held = undefined;
    // Registered when the end has come, hence called after everybody who has waited for it until then.
    void this.closed
      .then(() => this.closed)
      .then(() => {
        this.#current?.publisher.end();
        for (const go of held) go();
      });
  }

  async #renew(before: Current): Promise<void> {
    const { clock } = this.#options;
    const methods = Promise.all(this.#answering);
    await Promise.race([methods, clock.sleep(METHODS_MS, this.#stopping.signal).catch(() => {})]);
    if (this.#isOver) return;
    this.#held = [];
    await Promise.all(this.#sending);
    if (this.#isOver) return;
    this.#isReplacing = true;
    await before.connection.end();
    try {
      const next = await this.#connect(this.#stopping.signal);
      this.#isReplacing = false;
      this.#adopt(next);
    } catch (error) {
      const kind = isGatewayError(error) ? error.kind : 'transient';
      this.#over({ kind, reason: `The token could not be renewed: ${errorText(error)}` });
      return;
    }
    const held = this.#held;
    this.#held = undefined;
    for (const go of held) go();
  }
}

/** Keeps a promise that never rejects until it is settled. */
function track(set: Set<Promise<unknown>>, promise: Promise<unknown>): void {
  set.add(promise);
  void promise.then(() => set.delete(promise));
}
