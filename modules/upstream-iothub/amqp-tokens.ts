// The tokens of the identities on one AMQP connection: put before an identity's first link, renewed in time on the same links, and
// let go when it has none.

import { hmacSha256, isGatewayError, jitter, makeSasToken, systemRandom, type Clock, type GatewayError } from '#sdk';
import type { CbsAnswer } from './amqp-cbs.ts';
import type { HubIdentity } from './identity.ts';

export interface HubTokensOptions {
  readonly put: (audience: string, token: string) => Promise<CbsAnswer>;
  readonly lifetimeMs: number;
  /** What an answer other than yes means. */
  readonly refused: (answer: CbsAnswer, identity: HubIdentity) => GatewayError;
  /** Whether an identity has links, or is to have some. */
  readonly isUsed: (identity: HubIdentity) => boolean;
  /** A token was not renewed, and its links will end with it. */
  readonly onNotRenewed: (identity: HubIdentity, error: GatewayError) => void;
  readonly clock: Clock;
}

interface Held {
  /** That the token was made with. */
  readonly key: string;
  readonly ready: Promise<void>;
  cancelRenewal: (() => void) | undefined;
}

/** Of a token's lifetime, after which it is renewed (contract/device-auth.md, section 4). */
const RENEW_AT = 0.8;
/** Of it, after which a renewal that failed for another reason than a refusal is tried again. */
const AGAIN_AFTER = 0.02;

export class HubTokens {
  readonly #options: HubTokensOptions;
  /** By the device id at the hub. */
  readonly #held = new Map<string, Held>();
  #isEnded = false;

  constructor(options: HubTokensOptions) {
    this.#options = options;
  }

  /**
   * Resolves once the hub knows the identity on this connection.
   * @throws GatewayError GW_UNAUTHORIZED, GW_THROTTLED, GW_PROTOCOL, GW_TIMEOUT, GW_DISCONNECTED.
   */
  ready(identity: HubIdentity): Promise<void> {
    const { deviceId, sharedAccessKey } = identity;
    // The certificate of the connection proves it.
    if (sharedAccessKey === undefined) return Promise.resolve();
    const known = this.#held.get(deviceId);
    if (known?.key === sharedAccessKey) return known.ready;
    if (known !== undefined) this.#forget(deviceId, known);
    const held: Held = { key: sharedAccessKey, ready: this.#put(identity, sharedAccessKey), cancelRenewal: undefined };
    this.#held.set(deviceId, held);
    const { clock, lifetimeMs } = this.#options;
    held.ready.then(
      () => this.#renewLater(identity, held, clock.monotonicMs() + lifetimeMs, RENEW_AT),
      () => this.#forget(deviceId, held),
    );
    return held.ready;
  }

  /** The hub does not take the token of that key any more: the next link puts another. */
  forget(identity: HubIdentity): void {
    const held = this.#held.get(identity.deviceId);
    if (held !== undefined && held.key === identity.sharedAccessKey) this.#forget(identity.deviceId, held);
  }

  end(): void {
    this.#isEnded = true;
    for (const { cancelRenewal } of this.#held.values()) cancelRenewal?.();
    this.#held.clear();
  }

  async #put(identity: HubIdentity, key: string): Promise<void> {
    const { clock, lifetimeMs, put, refused } = this.#options;
    const audience = `${identity.hostName}/devices/${encodeURIComponent(identity.deviceId)}`;
    const expiresAtMs = clock.wallMs() + lifetimeMs;
    const answer = await put(audience, makeSasToken({ resource: audience, key, expiresAtMs }, { hmacSha256 }));
    if (answer.status < 200 || answer.status > 299) throw refused(answer, identity);
  }

  #renewLater(identity: HubIdentity, held: Held, endsAtMs: number, after: number): void {
    const { clock, lifetimeMs } = this.#options;
    if (this.#isEnded || this.#held.get(identity.deviceId) !== held) return;
    // Spread, so that a thousand devices do not renew together for ever.
    const waitMs = jitter(lifetimeMs * after, 0.1, systemRandom);
    held.cancelRenewal = clock.after(waitMs, () => void this.#renew(identity, held, endsAtMs));
  }

  async #renew(identity: HubIdentity, held: Held, endsAtMs: number): Promise<void> {
    const { clock, isUsed, lifetimeMs, onNotRenewed } = this.#options;
    if (!isUsed(identity)) {
      this.#forget(identity.deviceId, held);
      return;
    }
    try {
      await this.#put(identity, held.key);
      this.#renewLater(identity, held, clock.monotonicMs() + lifetimeMs, RENEW_AT);
    } catch (error) {
      if (!isGatewayError(error)) throw error;
      const isRefused = error.kind === 'unauthorized';
      if (!isRefused && clock.monotonicMs() < endsAtMs) {
        this.#renewLater(identity, held, endsAtMs, AGAIN_AFTER);
        return;
      }
      // Nobody misses one that has ended or was forgotten meanwhile.
      if (this.#held.get(identity.deviceId) === held) onNotRenewed(identity, error);
      this.#forget(identity.deviceId, held);
    }
  }

  #forget(deviceId: string, held: Held): void {
    held.cancelRenewal?.();
    if (this.#held.get(deviceId) === held) this.#held.delete(deviceId);
  }
}
