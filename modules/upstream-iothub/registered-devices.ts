// Leaf devices that get their identities through the registry at first sight. Until a device has its key nothing of it is sent:
// under another identity it would be another device's.

import {
  errorText,
  isGatewayError,
  LIMITS,
  type Clock,
  type DeliveryResult,
  type DeviceId,
  type DeviceKeys,
  type SecretShelf,
  type StoredMessage,
} from '#sdk';
import type { HubRegistry } from './registry.ts';
import { sendByOwner } from './send-by-owner.ts';

/** After a refusal the registry is left alone for so long: it counts calls, and wrong keys. */
const REFUSED_MS = 30_000;
/** A key that the hub refuses is asked for again, but no more often than this for one device. */
const ASK_AGAIN_MS = 300_000;
/** A device that the registry does not have is asked for no more often than this. */
const UNKNOWN_MS = 30_000;
/** Calls at once: a hub takes some tens a minute. */
const CALLS_AT_ONCE = 4;

type Send = (batch: readonly StoredMessage[], signal: AbortSignal) => Promise<readonly DeliveryResult[]>;

export interface RegisteredDevicesOptions {
  readonly registry: HubRegistry;
  /** Keys of former times. Without it each start asks anew. */
  readonly secrets: SecretShelf | undefined;
  /** Told the key of a device before anything of it is sent. */
  readonly onKey: (deviceId: DeviceId, key: string) => void;
  /** Whether a device needs none: the gateway, and those with a proof in the configuration. */
  readonly hasIdentity: (deviceId: DeviceId) => boolean;
  readonly clock: Clock;
}

export class RegisteredDevices {
  readonly #options: RegisteredDevicesOptions;
  /** Monotonic ms at which the key came to be known. */
  readonly #known = new Map<DeviceId, number>();
  readonly #keys = new Map<DeviceId, DeviceKeys>();
  readonly #asked = new Map<DeviceId, Promise<void>>();
  readonly #finding = new Map<DeviceId, Promise<DeviceKeys | undefined>>();
  /** Those whom the registry does not have, and until when that counts; the oldest first. */
  readonly #unknown = new Map<DeviceId, number>();
  #refusedUntilMs = 0;
  #refusal: unknown;
  #calls = 0;
  readonly #waiting: (() => void)[] = [];
  #ending = new AbortController();

  constructor(options: RegisteredDevicesOptions) {
    this.#options = options;
  }

  /** `Endpoint.send` of a transport that knows the devices only by `onKey`. */
  send(inner: Send, batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    // All that need not wait goes as one, as without this.
    const ownerOf = ({ message: { deviceId } }: StoredMessage): string => (this.#isReady(deviceId) ? '' : deviceId);
    return sendByOwner(batch, ownerOf, async (owner, part) => {
      if (owner !== '') {
        const refused = await this.#admit(owner as DeviceId, signal);
        if (refused !== undefined) return part.map(() => refused);
      }
      const results = await inner(part, signal);
      for (const [index, result] of results.entries()) {
        const deviceId = part[index]?.message.deviceId;
        if (result.status === 'retry' && result.kind === 'unauthorized' && deviceId !== undefined)
          this.#doubt(deviceId);
      }
      return results;
    });
  }

  /** The keys of a device from an earlier answer of the registry. Never rejects. */
  async recall(deviceId: DeviceId): Promise<DeviceKeys | undefined> {
    const known = this.#keys.get(deviceId);
    if (known !== undefined) return known;
    const kept = await this.#options.secrets?.get(deviceId).catch(() => undefined);
    // It may have been asked for meanwhile.
    if (kept !== undefined && !this.#keys.has(deviceId)) this.#take(deviceId, keysOf(kept), Number.NEGATIVE_INFINITY);
    return this.#keys.get(deviceId);
  }

  /**
   * The keys of a device that says it is registered, which nobody has proven: nothing is made for it. They are asked for again after
   * a while. @throws GatewayError as `HubRegistry.find`.
   */
  async find(deviceId: DeviceId): Promise<DeviceKeys | undefined> {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const known = await this.recall(deviceId);
    if (known !== undefined && nowMs - (this.#known.get(deviceId) ?? nowMs) < ASK_AGAIN_MS) return known;
    if (nowMs < (this.#unknown.get(deviceId) ?? 0)) return undefined;
    const finding = this.#finding.get(deviceId) ?? this.#find(deviceId);
    this.#finding.set(deviceId, finding);
    const forget = (): void => void this.#finding.delete(deviceId);
    finding.then(forget, forget);
    return finding;
  }

  async #find(deviceId: DeviceId): Promise<DeviceKeys | undefined> {
    const { clock, registry } = this.#options;
    const keys = await this.#inTurn(() => registry.find(deviceId, this.#ending.signal));
    if (keys !== undefined) await this.#learnt(deviceId, keys);
    else {
      this.#unknown.delete(deviceId);
      this.#unknown.set(deviceId, clock.monotonicMs() + UNKNOWN_MS);
      const [oldest] = this.#unknown.keys();
      if (oldest !== undefined && this.#unknown.size > LIMITS.iothub_unknown_devices) this.#unknown.delete(oldest);
    }
    return keys;
  }

  /** Gives up what is asked. */
  stop(): void {
    this.#ending.abort();
    this.#ending = new AbortController();
  }

  #isReady(deviceId: DeviceId): boolean {
    // Those who asked before go first.
    return this.#options.hasIdentity(deviceId) || (this.#known.has(deviceId) && !this.#asked.has(deviceId));
  }

  /** Undefined once the device has its key. */
  async #admit(deviceId: DeviceId, signal: AbortSignal): Promise<DeliveryResult | undefined> {
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(new Error('Stopped on request.'));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#ask(deviceId), aborted]);
      return undefined;
    } catch (error) {
      const { clock } = this.#options;
      const retryAfterMs = Math.max(0, this.#refusedUntilMs - clock.monotonicMs());
      const kind = isGatewayError(error, 'GW_UNAUTHORIZED') ? 'unauthorized' : 'transient';
      // It is a matter of the registry and not of the message.
      return { status: 'retry', kind, reason: errorText(error), blameless: true, retryAfterMs };
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #ask(deviceId: DeviceId): Promise<void> {
    const asked = this.#asked.get(deviceId) ?? this.#learn(deviceId);
    if (!this.#asked.has(deviceId)) {
      this.#asked.set(deviceId, asked);
      // Not before those who wait have gone on: what comes later must not overtake them.
      const forget = (): void => void this.#options.clock.after(0, () => this.#asked.delete(deviceId));
      asked.then(forget, forget);
    }
    return asked;
  }

  async #learn(deviceId: DeviceId): Promise<void> {
    const isFirst = !this.#known.has(deviceId);
    if (isFirst && (await this.recall(deviceId)) !== undefined) return;
    const { registry } = this.#options;
    await this.#learnt(deviceId, await this.#inTurn(() => registry.make(deviceId, this.#ending.signal)));
  }

  async #learnt(deviceId: DeviceId, keys: DeviceKeys): Promise<void> {
    const { clock, secrets } = this.#options;
    this.#take(deviceId, keys, clock.monotonicMs());
    this.#unknown.delete(deviceId);
    // What cannot be kept is asked for again after the next start.
    await secrets?.put(deviceId, keys.join(' ')).catch(() => {});
  }

  #take(deviceId: DeviceId, keys: DeviceKeys, sinceMs: number): void {
    this.#options.onKey(deviceId, keys[0]);
    this.#keys.set(deviceId, keys);
    this.#known.set(deviceId, sinceMs);
  }

  /** The hub refuses a device: perhaps it has another key by now. */
  #doubt(deviceId: DeviceId): void {
    const sinceMs = this.#known.get(deviceId);
    const { clock } = this.#options;
    if (sinceMs === undefined || clock.monotonicMs() - sinceMs < ASK_AGAIN_MS || this.#asked.has(deviceId)) return;
    this.#known.set(deviceId, clock.monotonicMs());
    this.#ask(deviceId).catch(() => {});
  }

  async #inTurn<T>(call: () => Promise<T>): Promise<T> {
    if (this.#calls >= CALLS_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#calls += 1;
    const { clock } = this.#options;
    try {
      if (clock.monotonicMs() < this.#refusedUntilMs) throw this.#refusal;
      return await call();
    } catch (error) {
      if (error !== this.#refusal && isGatewayError(error) && REFUSALS.has(error.code)) {
        const { retryAfterMs } = error.details as { readonly retryAfterMs?: number };
        this.#refusal = error;
        this.#refusedUntilMs = clock.monotonicMs() + (retryAfterMs ?? REFUSED_MS);
      }
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#calls -= 1;
      else next();
    }
  }
}

/** As they are kept: base64 holds no blank. */
function keysOf(kept: string): DeviceKeys {
  const [primary = '', secondary] = kept.split(' ');
  return secondary === undefined ? [primary] : [primary, secondary];
}

const REFUSALS: ReadonlySet<string> = new Set(['GW_UNAUTHORIZED', 'GW_THROTTLED']);
