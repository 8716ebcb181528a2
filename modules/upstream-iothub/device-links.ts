// A connection for each leaf device that has an identity of its own: made with its first message, made again with the next one after
// it was lost, and harming no other device when it is refused.

import {
  isGatewayError,
  errorText,
  LIMITS,
  type DeliveryResult,
  type DeviceId,
  type FailureKind,
  type StoredMessage,
} from '#sdk';
import type { HubLink } from './mqtt-link.ts';

const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });

export class DeviceLinks {
  readonly #create: (deviceId: DeviceId) => HubLink;
  /** Open, or being opened. */
  readonly #links = new Map<DeviceId, { readonly link: HubLink; readonly opened: Promise<void> }>();
  readonly #ending = new AbortController();

  constructor(create: (deviceId: DeviceId) => HubLink) {
    this.#create = create;
  }

  /** As `Endpoint.send`, for messages of one device. */
  send(deviceId: DeviceId, batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (this.#ending.signal.aborted || signal.aborted) return Promise.resolve(batch.map(() => STOPPED));
    if (!this.#links.has(deviceId) && this.#links.size >= LIMITS.iothub_device_connections) {
      const reason = `${this.#links.size} leaf devices have a connection already, and there may be no more.`;
      return Promise.resolve(batch.map(() => ({ status: 'retry', kind: 'transient', reason })));
    }
    const { link, opened } = this.#linkOf(deviceId);
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

  /** Ends all, for good. */
  async end(): Promise<void> {
    this.#ending.abort();
    await Promise.all([...this.#links.values()].map(({ link }) => link.end()));
  }

  cut(reason: string): void {
    this.#ending.abort();
    for (const { link } of this.#links.values()) link.cut(reason);
  }

  #linkOf(deviceId: DeviceId): { readonly link: HubLink; readonly opened: Promise<void> } {
    const known = this.#links.get(deviceId);
    if (known !== undefined) return known;
    const link = this.#create(deviceId);
    const entry = { link, opened: link.open(this.#ending.signal) };
    this.#links.set(deviceId, entry);
    const forget = (): void => {
      if (this.#links.get(deviceId) === entry) this.#links.delete(deviceId);
    };
    entry.opened.catch(forget);
    void link.closed.then(forget);
    return entry;
  }
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
