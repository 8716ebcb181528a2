// Connections besides the gateway's own, such as those of leaf devices that cannot share one: each is made with the first message
// for it, made again with the next one after it was lost, and harms no other when it is refused.

import {
  type EndpointClosed,
  GatewayError,
  isGatewayError,
  errorText,
  LIMITS,
  type DeliveryResult,
  type FailureKind,
  type StoredMessage,
  type UpstreamTransport,
} from '#sdk';

const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });

/** What a transport that was never opened says of its end, and of what is sent. */
export const NEVER_OPENED: EndpointClosed = { kind: 'transient', reason: 'There is no connection.' };

/** One connection, whatever it speaks. */
export interface HubConnection {
  /** @throws GatewayError. */
  open(signal: AbortSignal): Promise<void>;
  /** Settles when it has ended, whoever ended it. Never rejects. */
  readonly closed: Promise<EndpointClosed>;
  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]>;
  /** An orderly end; idempotent. */
  end(): Promise<void>;
  cut(reason: string): void;
}

export class DeviceLinks<Name extends string, Link extends HubConnection = HubConnection> {
  readonly #create: (name: Name) => Link;
  /** Open, or being opened. */
  readonly #links = new Map<Name, { readonly link: Link; readonly opened: Promise<void> }>();
  readonly #ending = new AbortController();

  constructor(create: (name: Name) => Link) {
    this.#create = create;
  }

  /** As `Endpoint.send`, over the connection of that name. */
  send(name: Name, batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (this.#ending.signal.aborted || signal.aborted) return Promise.resolve(batch.map(() => STOPPED));
    if (!this.#links.has(name) && this.#links.size >= LIMITS.iothub_device_connections) {
      const reason = `There are ${this.#links.size} connections of leaf devices already, and there may be no more.`;
      return Promise.resolve(batch.map(() => ({ status: 'retry', kind: 'transient', reason })));
    }
    const { link, opened } = this.#linkOf(name);
    return new Promise((resolve) => {
      // A connect takes longer than a stop may.
      const onAbort = (): void => resolve(batch.map(() => STOPPED));
      signal.addEventListener('abort', onAbort, { once: true });
      opened
        .then(
          () => link.send(batch, signal),
          (error: unknown) => batch.map(() => refusalOf(error)),
        )
        .then((results) => {
          signal.removeEventListener('abort', onAbort);
          resolve(results);
        }, onAbort);
    });
  }

  /** The connection of that name, opened if need be. @throws GatewayError. */
  async reach(name: Name): Promise<Link> {
    if (!this.#links.has(name) && this.#links.size >= LIMITS.iothub_device_connections) {
      throw new GatewayError('GW_THROTTLED', `There are ${this.#links.size} connections of leaf devices already.`);
    }
    const { link, opened } = this.#linkOf(name);
    await opened;
    return link;
  }

  /** Ends all, for good. */
  async end(): Promise<void> {
    this.#ending.abort();
    await Promise.all([...this.#links.values()].map(({ link }) => link.end()));
  }

  cut(reason: string): void {
    this.#ending.abort();
    for (const { link } of this.#links.values()) link.cut(reason);
  }

  #linkOf(name: Name): { readonly link: Link; readonly opened: Promise<void> } {
    const known = this.#links.get(name);
    if (known !== undefined) return known;
    const link = this.#create(name);
    const entry = { link, opened: link.open(this.#ending.signal) };
    this.#links.set(name, entry);
    const forget = (): void => {
      if (this.#links.get(name) === entry) this.#links.delete(name);
    };
    entry.opened.catch(forget);
    void link.closed.then(forget);
    return entry;
  }
}

/** What a transport has while it is open. */
export interface OpenLinks<
  Name extends string,
  Own extends HubConnection,
  Others extends HubConnection = HubConnection,
> {
  /** The gateway's own; when it has ended, all have. */
  readonly own: Own;
  readonly others: DeviceLinks<Name, Others>;
}

/** How a transport ends, with all its connections. */
export function endOf<Name extends string>(
  opened: () => OpenLinks<Name, HubConnection> | undefined,
): Pick<UpstreamTransport, 'closed' | 'close' | 'cut'> {
  return {
    closed: () => opened()?.own.closed ?? Promise.resolve(NEVER_OPENED),
    close: async () => {
      await opened()?.own.end();
      await opened()?.others.end();
    },
    cut: (reason) => {
      opened()?.own.cut(reason);
      opened()?.others.cut(reason);
    },
  };
}

/**
 * What the failure of one device's connection means to its messages. Never a kind that would have the pump wait with all
 * devices.
 */
function refusalOf(error: unknown): DeliveryResult {
  const isRefused = isGatewayError(error) && REFUSALS.has(error.kind);
  return { status: 'retry', kind: isRefused ? 'unauthorized' : 'transient', reason: errorText(error) };
}

const REFUSALS: ReadonlySet<FailureKind> = new Set(['unauthorized', 'throttled', 'invalid']);
