// One AMQP connection to the hub, with a token and links for each identity that it carries. Links are opened with an identity's
// first message and closed when they are idle; what is refused to one identity concerns no other.
//
// Invariants
// - Each send resolves once, with one result a message; never rejects.
// - `closed` settles once, before the sends that the end cut short resolve.

import {
  AmqpPublisher,
  connectAmqp,
  deviceLinkAddress,
  type AmqpClient,
  type AmqpClosed,
  type Clock,
  type CommandReceiver,
  type DeliveryResult,
  type DeviceId,
  type EndpointClosed,
  type StoredMessage,
  type TwinReceiver,
} from '#sdk';
import { CbsLinks } from './amqp-cbs.ts';
import { hubConditions, isUnauthorized } from './amqp-conditions.ts';
import { AmqpDownlinks } from './amqp-downlinks.ts';
import { openWhenReady } from './amqp-sender.ts';
import { encodeAmqpTelemetry } from './amqp-telemetry.ts';
import { HubTokens } from './amqp-tokens.ts';
import { LINK_PROPERTIES } from './client-name.ts';
import type { HubConnection } from './device-links.ts';
import { type HubDialer } from './hub-dialer.ts';
import type { HubIdentity } from './identity.ts';
import { tokenError } from './refusals.ts';
import type { PresentLink } from './session-presence.ts';

export interface AmqpLinkOptions {
  readonly dialer: HubDialer;
  readonly isWebSocket: boolean;
  readonly containerId: string;
  /** Without a port: whom is dialled. */
  readonly host: string;
  /** Whoever it is that has to be let in for the connection to count; undefined: nobody. */
  readonly login: HubIdentity | undefined;
  /** The clock counts as wrong with its refusal alone: leaf devices' tokens are by the clock that let the gateway in. */
  readonly loginClock: Clock | undefined;
  /** Under whose identity a message travels, on this side. */
  readonly carrierOf: (deviceId: string) => DeviceId;
  /** Who a carrier is at the hub; perhaps with another key than before. */
  readonly identityOf: (carrierId: DeviceId) => HubIdentity;
  /** All messages are of one carrier, and wait for it. */
  readonly onlyCarrier: DeviceId | undefined;
  /** Carries out what comes down; undefined where nothing does. */
  readonly receiver: CommandReceiver | undefined;
  /** Keeps twins in step; undefined where nobody does. */
  readonly twinReceiver: TwinReceiver | undefined;
  readonly gatewayId: DeviceId;
  /** Carriers that are listened to from the start; the others are from their first message on. */
  readonly listeners: () => Iterable<DeviceId>;
  readonly window: number;
  readonly connectTimeoutMs: number;
  readonly ackTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** After which links that nobody uses are closed. */
  readonly linkIdleMs: number;
  readonly tokenLifetimeMs: number;
  readonly onRefused: (identity: string, reason: string) => void;
  readonly clock: Clock;
}

interface Opened {
  readonly client: AmqpClient;
  readonly cbs: CbsLinks;
  readonly tokens: HubTokens;
  readonly publisher: AmqpPublisher;
  readonly downlinks: AmqpDownlinks | undefined;
}

/**
 * Messages of a batch, and its bytes: the hub takes 256 KB for one, with everything in it (contract/device-semantics.md,
 * section 2), less what its message adds.
 */
const BATCH = { messages: 100, bytes: 255 * 1024 };
/** The sub-protocol of WebSockets that hubs want (contract/device-amqp.md, section 1). */
const SUB_PROTOCOL = 'AMQPWSB10';
const NOT_SENT: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'There is no connection.',
});

export class AmqpHubLink implements HubConnection {
  readonly #options: AmqpLinkOptions;
  readonly #closed = Promise.withResolvers<EndpointClosed>();
  readonly #stopping = new AbortController();
  /** Those who have sent something, with the addresses of their telemetry, both ways. */
  readonly #addresses = new Map<DeviceId, string>();
  readonly #carriers = new Map<string, DeviceId>();
  #opened: Opened | undefined;

  constructor(options: AmqpLinkOptions) {
    this.#options = options;
  }

  /** Connects; once. @throws GatewayError as `dialTls`, `connectAmqp`, and the refusal of the login's token. */
  async open(given: AbortSignal): Promise<void> {
    const { clock, connectTimeoutMs, dialer, host, isWebSocket, login, ...options } = this.#options;
    const signal = AbortSignal.any([given, this.#stopping.signal]);
    const { target } = dialer;
    const client = await connectAmqp({
      socket: await dialer.dial(login, signal),
      ...(isWebSocket && { webSocket: { ...dialer.webSocket, protocol: SUB_PROTOCOL } }),
      target,
      containerId: options.containerId,
      hostName: host,
      // Tokens or the certificate say who this is (contract/device-amqp.md, section 2).
      sasl: { mechanism: 'NONE' },
      idleTimeoutMs: options.idleTimeoutMs,
      timeoutMs: connectTimeoutMs,
      signal,
      clock,
      refused: (error) => hubConditions.refusedError(error, target),
    });
    const cbs = new CbsLinks({ client, target, timeoutMs: connectTimeoutMs, clock });
    const tokens = this.#tokensOf(cbs);
    const opened = {
      client,
      cbs,
      tokens,
      publisher: this.#publisherOf(client, tokens),
      downlinks: this.#downlinksOf(client, tokens),
    };
    this.#opened = opened;
    void client.closed.then((why) => this.#over(opened, why));
    if (login !== undefined) await letIn(client, tokens.ready(login), signal);
    for (const carrierId of options.listeners()) opened.downlinks?.add(carrierId);
  }

  get closed(): Promise<EndpointClosed> {
    return this.#closed.promise;
  }

  /** Why nothing can be sent where all have one carrier; undefined while something can. */
  get stuck(): string | undefined {
    return this.#opened?.publisher.stuck;
  }

  get isSilent(): boolean {
    return this.#opened?.publisher.isSilent === true;
  }

  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    return this.#opened?.publisher.send(batch, signal) ?? Promise.resolve(batch.map(() => NOT_SENT));
  }

  /** Listens to what comes for a carrier, as long as its device is there. */
  listen(carrierId: DeviceId): PresentLink {
    this.#opened?.downlinks?.add(carrierId);
    return { closed: this.closed, refresh: () => this.#opened?.downlinks?.wake(carrierId) };
  }

  async end(): Promise<void> {
    this.#stopping.abort();
    await this.#opened?.client.end();
    this.#closed.resolve({ kind: 'transient', reason: 'Closed by Fieldpost.' });
  }

  cut(reason: string): void {
    this.#stopping.abort();
    this.#opened?.client.destroy(reason);
    this.#closed.resolve({ kind: 'transient', reason });
  }

  #tokensOf(cbs: CbsLinks): HubTokens {
    const { clock, login, loginClock, onRefused, tokenLifetimeMs } = this.#options;
    return new HubTokens({
      put: (audience, token) => cbs.put(audience, token),
      lifetimeMs: tokenLifetimeMs,
      refused: (answer, identity) => tokenError(answer, identity, identity === login ? loginClock : undefined),
      isUsed: (identity) => {
        const { downlinks, publisher } = this.#opened ?? {};
        const hasLinks = downlinks?.has(identity) === true || publisher?.hasLane(addressOf(identity)) === true;
        return identity === login || hasLinks;
      },
      onNotRenewed: ({ deviceId }, { message }) => onRefused(deviceId, message),
      clock,
    });
  }

  #downlinksOf(client: AmqpClient, tokens: HubTokens): AmqpDownlinks | undefined {
    const { carrierOf, clock, gatewayId, identityOf, linkIdleMs, receiver, twinReceiver } = this.#options;
    if (receiver === undefined) return undefined;
    return new AmqpDownlinks({
      client,
      gatewayId,
      receiver,
      twins: twinReceiver && { receiver: twinReceiver, carrierOf },
      identityOf,
      tokens,
      idleMs: linkIdleMs,
      clock,
    });
  }

  #publisherOf(client: AmqpClient, tokens: HubTokens): AmqpPublisher {
    const { carrierOf, onlyCarrier, onRefused, ...options } = this.#options;
    return new AmqpPublisher({
      client: {
        get maxLinks() {
          return client.maxLinks;
        },
        openSender: (sender) => {
          const identity = this.#identityAt(sender.address);
          return openWhenReady(
            client,
            {
              ...sender,
              properties: LINK_PROPERTIES,
              onClosed: (error) => {
                if (identity !== undefined && isUnauthorized(error)) tokens.forget(identity);
                sender.onClosed(error);
              },
            },
            identity === undefined ? Promise.resolve() : tokens.ready(identity),
            `The hub has not answered to the token of device "${identity?.deviceId ?? ''}".`,
          );
        },
      },
      window: options.window,
      ackTimeoutMs: options.ackTimeoutMs,
      openTimeoutMs: options.connectTimeoutMs,
      linkIdleMs: options.linkIdleMs,
      onlyAddress: onlyCarrier === undefined ? undefined : this.#addressOf(onlyCarrier),
      addressOf: ({ message }) => this.#addressOf(carrierOf(message.deviceId)),
      conditions: hubConditions,
      batch: BATCH,
      encode: (stored) => encodeAmqpTelemetry(stored, carrierOf(stored.message.deviceId)),
      onRefused: (address, reason) => onRefused(this.#identityAt(address)?.deviceId ?? address, reason),
      clock: options.clock,
    });
  }

  /** The address of a carrier's telemetry. */
  #addressOf(carrierId: DeviceId): string {
    const known = this.#addresses.get(carrierId);
    if (known !== undefined) return known;
    const address = addressOf(this.#options.identityOf(carrierId));
    this.#addresses.set(carrierId, address);
    this.#carriers.set(address, carrierId);
    this.#opened?.downlinks?.add(carrierId);
    return address;
  }

  #identityAt(address: string): HubIdentity | undefined {
    const carrierId = this.#carriers.get(address);
    return carrierId === undefined ? undefined : this.#options.identityOf(carrierId);
  }

  #over({ cbs, downlinks, publisher, tokens }: Opened, { error, reason }: AmqpClosed): void {
    const { target } = this.#options.dialer;
    this.#closed.resolve(
      error === undefined ? { kind: 'transient', reason } : hubConditions.closedReason(error, target),
    );
    downlinks?.end();
    tokens.end();
    cbs.end();
    // Registered when the end has come, hence called after everybody who has waited for it until then.
    void this.closed.then(() => this.closed).then(() => publisher.end());
  }
}

/** Ends the connection where its login is refused, or stopped. */
async function letIn(client: AmqpClient, ready: Promise<void>, signal: AbortSignal): Promise<void> {
  const onAbort = (): void => client.destroy('Stopped on request.');
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await ready;
  } catch (error) {
    await client.end();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function addressOf({ deviceId }: HubIdentity): string {
  return deviceLinkAddress({ deviceId }, 'messages/events');
}
