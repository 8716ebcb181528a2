// What comes down to one identity over AMQP (contract/device-amqp.md, sections 5 to 8): links for its direct methods, its
// cloud-to-device messages and its twin, in one session, opened again when they were lost. They stand while somebody is there who
// takes what comes: meanwhile messages wait at the hub, which says itself of a device without the links that it is not there.

import { conditionText, errorText, type AmqpClient, type AmqpClientSession, type AmqpError, type Clock } from '#sdk';
import { isUnauthorized } from './amqp-conditions.ts';
import { openAmqpMessages } from './amqp-messages.ts';
import { openAmqpMethods } from './amqp-methods.ts';
import type { HubTokens } from './amqp-tokens.ts';
import { openAmqpTwin, type AmqpTwinOwner } from './amqp-twin.ts';
import type { HubCommands } from './commands.ts';
import type { HubIdentity } from './identity.ts';

/** What the device of a downlink takes now. */
export interface Wants {
  readonly methods: boolean;
  readonly messages: boolean;
  /** Whether it is there at all: its twin is wanted then. */
  readonly anything: boolean;
}

export interface AmqpDownlinkOptions {
  readonly client: Pick<AmqpClient, 'openSession'>;
  /** Whose it is at the hub; perhaps with another key than before. */
  readonly identityOf: () => HubIdentity;
  readonly tokens: Pick<HubTokens, 'ready' | 'forget'>;
  readonly commands: HubCommands;
  readonly wants: () => Wants;
  /** Undefined: nobody wants the twin. */
  readonly twin: AmqpTwinOwner | undefined;
  readonly onNotSubscribed: (reason: string) => void;
  /** For how long nothing is wanted before the session is given up. */
  readonly idleMs: number;
  readonly clock: Clock;
}

/** What the SDKs for C, C# and Java say. */
const API_VERSION = '2020-09-30';
const NOTHING = { methods: false, messages: false } as const;
const REOPEN_INITIAL_MS = 1000;
const REOPEN_CEILING_MS = 60_000;

export class AmqpDownlink {
  readonly #options: AmqpDownlinkOptions;
  /** Aborts when the session is given up; undefined while nothing is wanted. */
  #use: AbortController | undefined;
  #wantedMs = 0;
  #session: AmqpClientSession | undefined;
  #closeMessages: (() => void) | undefined;
  #closeMethods: (() => void) | undefined;
  /** Aborts with the session. */
  #life = new AbortController();
  #refusals = 0;
  #openedMs = 0;
  /** Set while the next try is awaited. */
  #cancelReopen: (() => void) | undefined;
  /** As it was at the last try. */
  #identity: HubIdentity;

  constructor(options: AmqpDownlinkOptions) {
    this.#options = options;
    this.#identity = options.identityOf();
    this.wake();
  }

  /** Whether it has links, or is to have some. */
  get isUsed(): boolean {
    return this.#use !== undefined;
  }

  /** The device takes more than before, perhaps. */
  wake(): void {
    const { clock, identityOf } = this.#options;
    const wants = this.#options.wants();
    if (!wants.anything) return;
    this.#wantedMs = clock.monotonicMs();
    if (this.#use === undefined) {
      this.#use = new AbortController();
      void this.#open(this.#use.signal);
    } else if (this.#cancelReopen !== undefined && identityOf().sharedAccessKey !== this.#identity.sharedAccessKey) {
      // What the hub has against the former key says nothing of this one.
      this.#cancelReopen();
      this.#refusals = 0;
      void this.#open(this.#use.signal);
    } else this.#openLinks(wants);
  }

  /** Once a second or so: also closes what is not wanted. A device that only connects anew is not away in between. */
  tick(): void {
    this.wake();
    if (this.#use === undefined) return;
    const { clock, idleMs, wants } = this.#options;
    const now = clock.monotonicMs();
    const { methods, messages } = wants();
    if (this.#session !== undefined && now - this.#openedMs > REOPEN_CEILING_MS) this.#refusals = 0;
    this.#closeLinks({ methods, messages });
    if (now - this.#wantedMs > idleMs) this.end();
  }

  /** Gives everything up, until it is woken. */
  end(): void {
    this.#use?.abort();
    this.#use = undefined;
    this.#cancelReopen?.();
    this.#cancelReopen = undefined;
    this.#close();
  }

  async #open(use: AbortSignal): Promise<void> {
    const { client, clock, identityOf, tokens, twin, wants } = this.#options;
    this.#cancelReopen = undefined;
    this.#identity = identityOf();
    const { deviceId } = this.#identity;
    try {
      await tokens.ready(this.#identity);
    } catch (error) {
      if (!use.aborted) this.#lost(use, errorText(error));
      return;
    }
    if (use.aborted) return;
    const session = client.openSession();
    this.#session = session;
    this.#openedMs = clock.monotonicMs();
    this.#life = new AbortController();
    if (twin !== undefined) {
      const { signal } = this.#life;
      const onClosed = this.#onClosedOf(use, session);
      openAmqpTwin({ ...twin, session, hubDeviceId: deviceId, apiVersion: API_VERSION, signal, onClosed, clock });
    }
    this.#openLinks(wants());
  }

  #openLinks({ methods, messages }: Wants): void {
    const session = this.#session;
    const use = this.#use?.signal;
    if (session === undefined || use === undefined) return;
    const { commands } = this.#options;
    const { deviceId } = this.#identity;
    const link = { session, deviceId, apiVersion: API_VERSION, commands, onClosed: this.#onClosedOf(use, session) };
    if (methods) this.#closeMethods ??= openAmqpMethods(link);
    if (messages) this.#closeMessages ??= openAmqpMessages(link);
  }

  /** Those that are not wanted. */
  #closeLinks({ methods, messages }: Pick<Wants, 'methods' | 'messages'>): void {
    if (!methods) {
      this.#closeMethods?.();
      this.#closeMethods = undefined;
    }
    if (!messages) {
      this.#closeMessages?.();
      this.#closeMessages = undefined;
    }
  }

  #onClosedOf(use: AbortSignal, session: AmqpClientSession): (error: AmqpError | undefined) => void {
    return (error) => {
      if (this.#session !== session) return;
      if (isUnauthorized(error)) this.#options.tokens.forget(this.#identity);
      this.#lost(use, error === undefined ? 'The hub ended the link.' : conditionText(error));
    };
  }

  #lost(use: AbortSignal, reason: string): void {
    this.#close();
    const { clock, onNotSubscribed } = this.#options;
    if (this.#refusals === 0) onNotSubscribed(reason);
    const waitMs = Math.min(REOPEN_CEILING_MS, REOPEN_INITIAL_MS * 2 ** Math.min(this.#refusals, 16));
    this.#refusals += 1;
    this.#cancelReopen = clock.after(waitMs, () => void this.#open(use));
  }

  #close(): void {
    const session = this.#session;
    this.#session = undefined;
    this.#closeLinks(NOTHING);
    this.#life.abort();
    session?.close();
  }
}
