// One AMQP connection to the hub: devices, modules and back ends side by side on it, each with its own credential, each ended
// by itself.

import {
  errorText,
  iotHubError,
  parseLinkAddress,
  type AmqpConnection,
  type AmqpHandlers,
  type AmqpLink,
  type AmqpServer,
  type Clock,
  type DoorConnection,
  type Hub,
  type HubInfo,
  type LinkAddress,
  type Logger,
  type SessionId,
  type ToSession,
} from '#sdk';
import { answerPutToken, ReplyLinks } from './cbs.ts';
import { InFlightBytes, receive } from './credit.ts';
import { DeviceLinks, type DeviceLinkKind } from './device-links.ts';
import { amqpErrorOf, endError, noSuchAddress } from './errors.ts';
import { demandEventHub, partitionPlace } from './events-address.ts';
import { answerManagement } from './events-management.ts';
import { createFaults } from './fault-injection.ts';
import { Grants, type Grant, type LinkFacts } from './grants.ts';
import { positionOf, sendEvents } from './partition-link.ts';
import type { PartitionReaders } from './partition-readers.ts';
import { redirectError } from './redirect.ts';
import { isHubName, parseSaslUser } from './sasl-user.ts';
import { commandsReceiver, sendFeedback, type ServiceContext } from './service-links.ts';

/** How long a client may take to say OPEN, and then to say who it is. */
const OPEN_MS = 30_000;
const LOGIN_MS = 60_000;

/** What all connections of the head share. */
export interface ConnectionContext {
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: Logger;
  readonly readers: PartitionReaders;
  readonly reportRefusal: (reason: string, fields: Readonly<Record<string, unknown>>) => void;
  readonly onSession: (sessionId: SessionId, connection: HubConnection) => void;
  readonly onSessionOver: (sessionId: SessionId) => void;
  readonly onClosed: (connection: HubConnection) => void;
}

export class HubConnection {
  readonly #context: ConnectionContext;
  readonly #door: DoorConnection;
  readonly #amqp: AmqpConnection;
  readonly #grants: Grants;
  readonly #inFlight: InFlightBytes;
  readonly #bySession = new Map<SessionId, { readonly grant: Grant; device: DeviceLinks | undefined }>();
  readonly #cbs = new ReplyLinks();
  readonly #management = new ReplyLinks();
  readonly #cbsLinks = new Set<AmqpLink>();
  /** What is to be done when a link is gone. */
  readonly #cleanups = new Map<AmqpLink, () => void>();
  readonly #life = new AbortController();
  #saslHostName = '';
  #cancelPatience: () => void;

  constructor(server: AmqpServer, door: DoorConnection, context: ConnectionContext) {
    this.#context = context;
    this.#door = door;
    const { hub, clock } = context;
    this.#grants = new Grants({
      hub,
      clock,
      peer: () => ({ ...door, hostName: this.#hostName }),
      onSession: (sessionId, grant) => {
        this.#bySession.set(sessionId, { grant, device: undefined });
        context.onSession(sessionId, this);
      },
      onSessionOver: (sessionId) => {
        this.#bySession.delete(sessionId);
        context.onSessionOver(sessionId);
      },
    });
    this.#amqp = server.accept(door.stream, this.#handlers());
    this.#inFlight = new InFlightBytes(this.#amqp);
    this.#cancelPatience = clock.after(OPEN_MS, () => this.#giveUp('open_timeout'));
  }

  deliver(item: ToSession): void {
    const session = this.#bySession.get(item.sessionId);
    if (session === undefined) return;
    if (item.kind !== 'end') {
      session.device?.deliver(item);
      return;
    }
    const error = amqpErrorOf(endError(item.reason), this.#context.clock);
    for (const link of this.#grants.ended(session.grant, item.sessionId, item.reason)) link.close(error);
  }

  /** The hub stops: clients come again later. Without an error: at `amqp:connection:forced` the SDK for Node gives up for good. */
  stop(): void {
    this.#amqp.close();
  }

  destroy(): void {
    this.#amqp.destroy();
  }

  get #hostName(): string {
    const { hostName } = this.#amqp;
    return hostName === '' ? this.#saslHostName || (this.#door.serverName ?? '') : hostName;
  }

  #handlers(): AmqpHandlers {
    const { reportRefusal, onClosed, clock } = this.#context;
    const { remoteAddress } = this.#door;
    return {
      onOpen: () => {
        this.#cancelPatience();
        this.#cancelPatience = clock.after(LOGIN_MS, () => {
          if (this.#grants.size === 0) this.#giveUp('login_timeout');
        });
      },
      onLink: (link) => void this.#attach(link),
      onLinkClosed: (link) => {
        const cleanup = this.#cleanups.get(link);
        this.#cleanups.delete(link);
        cleanup?.();
      },
      onClosed: (_connection, isOrderly) => {
        this.#cancelPatience();
        this.#life.abort();
        this.#grants.end(isOrderly ? 'closed' : 'lost');
        onClosed(this);
      },
      plain: (userName, password, hostName) => this.#plain(userName, password, hostName),
      onFault: (reason, detail) => reportRefusal(reason, { remoteAddress, detail }),
    };
  }

  #giveUp(reason: string): void {
    this.#context.reportRefusal(reason, { remoteAddress: this.#door.remoteAddress });
    this.#amqp.close({ condition: 'amqp:unauthorized-access', description: 'Nobody logged in.' });
  }

  async #plain(userName: string, password: string, hostName: string): Promise<boolean> {
    const user = parseSaslUser(userName);
    const { hub, reportRefusal } = this.#context;
    if (user === undefined) {
      reportRefusal('sasl_user_malformed', { remoteAddress: this.#door.remoteAddress });
      return false;
    }
    const { remoteAddress, protocol, serverName } = this.#door;
    this.#saslHostName = hostName || (serverName ?? user.hubName);
    try {
      const info = hub.hubOf(this.#saslHostName);
      if (!isHubName(user.hubName, [info.hostName, ...info.alternateNames, hostName, serverName ?? ''])) {
        reportRefusal('sasl_user_of_another_hub', { remoteAddress });
        return false;
      }
      const credential = { kind: 'sas', token: password } as const;
      const principal = await hub.access.login({
        hostName: this.#saslHostName,
        remoteAddress,
        protocol,
        credential,
        claimed: user.claimed,
        keyForm: 'either',
      });
      this.#grants.add(principal, credential);
      return true;
    } catch {
      // Who was refused and why is counted where it is decided.
      return false;
    }
  }

  /** Refuses a link with what is thrown. */
  async #attach(link: AmqpLink): Promise<void> {
    try {
      const address = this.#addressOf(link);
      if (address === undefined) throw noSuchAddress(link.address);
      await this.#start(address, link);
    } catch (error) {
      const refusal = amqpErrorOf(error, this.#context.clock);
      if (refusal.condition === 'amqp:internal-error') {
        this.#context.log.error({ address: link.address, error: errorText(error) }, 'A link failed.');
      }
      link.close(refusal);
    }
  }

  /** An id with a percent sign can be read in two ways: as the one for which there is a token. */
  #addressOf({ address = '' }: AmqpLink): LinkAddress | undefined {
    const encoded = parseLinkAddress(address);
    if (!address.includes('%')) return encoded;
    const raw = parseLinkAddress(address, 'raw');
    const isRaw = raw !== undefined && 'of' in raw && this.#grants.has(this.#hostName, raw.of);
    return isRaw ? raw : encoded;
  }

  #start(address: LinkAddress, link: AmqpLink): Promise<void> | void {
    switch (address.kind) {
      case 'cbs':
        this.#cbsLink(link);
        return undefined;
      case 'device-events':
      case 'device-commands':
      case 'device-methods':
      case 'device-twin':
        return this.#deviceLink(address, link);
      case 'service-commands':
      case 'service-feedback':
        return this.#serviceLink(address.kind, link);
      case 'redirected-events':
        return this.#redirect(address.rest, link);
      case 'management':
        return this.#managementLink(address, link);
      case 'partition':
        return this.#partitionLink(address, link);
      case 'event-hub':
        demandEventHub(address.eventHub, this.#serviceContext().info);
        throw iotHubError('InvalidOperation', 'The built-in endpoint takes events of devices only.');
      case 'device-feedback':
      case 'service-file-notifications':
        throw iotHubError('FeatureNotSupported', `This hub does not have ${link.address ?? ''}.`);
    }
  }

  #cbsLink(link: AmqpLink): void {
    this.#cbsLinks.add(link);
    this.#cleanups.set(link, () => {
      this.#cbsLinks.delete(link);
      if (link.role === 'sender') this.#cbs.remove(link);
    });
    if (link.role === 'sender') {
      this.#cbs.add(link);
      return;
    }
    receive(link, this.#inFlight, (delivery) => {
      const put = (token: string): Promise<unknown> => this.#grants.put(token);
      return answerPutToken(delivery, this.#cbs.find(delivery.message, link), put);
    });
  }

  async #deviceLink(address: Extract<LinkAddress, { readonly kind: DeviceLinkKind }>, link: AmqpLink): Promise<void> {
    const { hub, clock } = this.#context;
    const { kind, of: ref } = address;
    const facts = factsOf(link);
    const { grant, sessionId } = await this.#enter(this.#grants.identity(ref, identityPath(ref)), link, facts);
    const session = this.#bySession.get(sessionId);
    if (!link.isOpen || session === undefined) return;
    const { hubId } = grant.principal;
    const { faultInjection } = hub.hubOf(this.#hostName);
    const device: DeviceLinks = (session.device ??= new DeviceLinks({
      hub,
      hubId,
      ref,
      sessionId,
      principal: () => grant.principal,
      modelId: facts.modelId,
      clock,
      inFlight: this.#inFlight,
      onFault: faultInjection
        ? createFaults({ connection: this.#amqp, device: () => device, cbs: () => this.#cbsPair(), clock })
        : undefined,
    }));
    this.#onGone(link, () => device.removed(link));
    device.add(kind, link);
  }

  #cbsPair(): { readonly requests: AmqpLink | undefined; readonly answers: AmqpLink | undefined } {
    const links = [...this.#cbsLinks];
    return {
      requests: links.find(({ role }) => role === 'receiver'),
      answers: links.find(({ role }) => role === 'sender'),
    };
  }

  async #serviceLink(kind: 'service-commands' | 'service-feedback', link: AmqpLink): Promise<void> {
    const path = kind === 'service-commands' ? '/messages/devicebound' : '/messages/servicebound/feedback';
    await this.#enter(this.#grants.service([path]), link, factsOf(link));
    if (!link.isOpen) return;
    const context = this.#serviceContext();
    if (kind === 'service-commands' && link.role === 'receiver') commandsReceiver(link, context);
    else if (kind === 'service-feedback' && link.role === 'sender') {
      await sendFeedback(link, context, this.#lifeOf(link));
    } else throw iotHubError('InvalidOperation', 'Commands are sent there, and feedback is read.');
  }

  async #redirect(rest: string, link: AmqpLink): Promise<void> {
    const { info } = this.#serviceContext();
    this.#grants.service([`/messages/events/${rest}`]);
    link.close(redirectError(this.#hostName, info, rest));
  }

  async #managementLink(
    { eventHub }: Extract<LinkAddress, { readonly kind: 'management' }>,
    link: AmqpLink,
  ): Promise<void> {
    const { hub, info } = this.#serviceContext();
    if (eventHub !== undefined) demandEventHub(eventHub, info);
    await this.#enter(this.#grants.service(eventsPaths(info, '$management')), link, factsOf(link));
    if (!link.isOpen) return;
    if (link.role === 'sender') {
      this.#management.add(link);
      this.#onGone(link, () => this.#management.remove(link));
      return;
    }
    receive(link, this.#inFlight, (delivery) =>
      answerManagement(delivery, this.#management.find(delivery.message, link), hub, info),
    );
  }

  async #partitionLink(address: Extract<LinkAddress, { readonly kind: 'partition' }>, link: AmqpLink): Promise<void> {
    const { hub, info, clock } = this.#serviceContext();
    const { readers } = this.#context;
    if (link.role === 'receiver') throw iotHubError('InvalidOperation', 'Partitions are read, not written.');
    const place = partitionPlace(address, info, hub.events.info(info.hubId).partitions);
    // At once: what comes from now on is later than "latest".
    const located = hub.events.locate(place.hubId, place.partition, positionOf(link));
    located.catch(() => {});
    const path = `ConsumerGroups/${place.consumerGroup}/Partitions/${place.partition}`;
    await this.#enter(this.#grants.service(eventsPaths(info, path)), link, factsOf(link));
    if (!link.isOpen) return;
    const key = `${place.hubId}/${place.consumerGroup}/${place.partition}`;
    const refused = readers.enter(key, { link, epoch: epochOf(link) });
    if (refused !== undefined) {
      link.close(refused);
      return;
    }
    this.#onGone(link, () => readers.leave(key, link));
    await sendEvents(link, place, located, { hub, clock }, this.#lifeOf(link));
  }

  #serviceContext(): ServiceContext {
    const { hub, clock } = this.#context;
    const info: HubInfo = hub.hubOf(this.#hostName);
    return { hub, info, clock, inFlight: this.#inFlight };
  }

  /** Opens the session of a grant for a link; it ends with its last link. */
  async #enter(
    found: Grant | Promise<Grant>,
    link: AmqpLink,
    facts: LinkFacts,
  ): Promise<{ readonly grant: Grant; readonly sessionId: SessionId }> {
    const grant = await found;
    if (!link.isOpen) {
      this.#grants.leave(grant, link);
      throw iotHubError('DeviceConnectionClosedRemotely', 'The link is gone.');
    }
    this.#onGone(link, () => this.#grants.leave(grant, link));
    return { grant, sessionId: await this.#grants.session(grant, link, facts) };
  }

  #onGone(link: AmqpLink, work: () => void): void {
    const earlier = this.#cleanups.get(link);
    this.#cleanups.set(link, () => {
      // What came later goes first: links before the session that they hang on.
      work();
      earlier?.();
    });
  }

  #lifeOf(link: AmqpLink): AbortSignal {
    const life = new AbortController();
    this.#onGone(link, () => life.abort());
    return life.signal;
  }
}

function factsOf({ properties }: AmqpLink): LinkFacts {
  const version = properties['com.microsoft:client-version'];
  const model = properties['com.microsoft:model-id'];
  return {
    ...(typeof version === 'string' ? { clientVersion: version.slice(0, 256) } : {}),
    ...(typeof model === 'string' ? { modelId: model.slice(0, 256) } : {}),
  };
}

function identityPath({ deviceId, moduleId }: { readonly deviceId: string; readonly moduleId?: string }): string {
  return moduleId === undefined ? `/devices/${deviceId}` : `/devices/${deviceId}/modules/${moduleId}`;
}

/** A token may be for the event hub, or for the hub's own address of events. */
function eventsPaths({ eventHubName }: HubInfo, path: string): readonly string[] {
  return [`/${eventHubName}/${path}`, `/messages/events/${path}`];
}

function epochOf({ properties }: AmqpLink): number | undefined {
  const epoch = properties['com.microsoft:epoch'];
  return typeof epoch === 'number' ? epoch : undefined;
}
