// Sessions: one identity that was let in on one connection. A connection of AMQP may carry many.

import type { IdentityRef } from './identity.ts';
import type { HubProtocol, Principal } from './access.ts';
import type { TelemetryMessage } from './telemetry-message.ts';

/** Made by the hub; unique while it runs. */
export type SessionId = string;

/** What a session wants to be sent. MQTT has them by subscription, AMQP by link. */
export type Interest = 'commands' | 'methods' | 'desired' | 'inputs';

export interface SessionRequest {
  readonly principal: Principal;
  readonly protocol: HubProtocol;
  readonly remoteAddress: string;
  /** MQTT's CleanSession 0: what `keep` stored is given back, and stays when the session ends. */
  readonly persistent: boolean;
  /** Sent as telemetry in the client's name when it is lost, also by a hub that was killed meanwhile. */
  readonly will?: TelemetryMessage;
  /** User agent, for people. */
  readonly clientVersion?: string;
  /** DTDL model, stamped on messages as `dt-dataschema`. */
  readonly modelId?: string;
}

export interface OpenedSession {
  readonly sessionId: SessionId;
  /** What an earlier persistent session of the identity kept. */
  readonly kept?: unknown;
}

/** Why a session ended. `displaced`: the same identity connected anew, the last one wins. */
export type EndReason =
  | 'closed'
  | 'lost'
  | 'displaced'
  | 'expired'
  | 'disabled'
  | 'deleted'
  | 'credential_revoked'
  | 'misbehaved'
  | 'stopping';

/** What the hub sends to sessions of one head, in order for each session. Plain data. */
export type ToSession =
  | {
      readonly kind: 'command';
      readonly sessionId: SessionId;
      readonly command: DeliveredCommand;
    }
  | {
      readonly kind: 'method';
      readonly sessionId: SessionId;
      /** To be given back with the answer; short text. */
      readonly requestId: string;
      readonly name: string;
      /** JSON, or empty. */
      readonly payload: Uint8Array;
    }
  | {
      readonly kind: 'desired';
      readonly sessionId: SessionId;
      /** JSON of the patch with `$version`. */
      readonly patch: Uint8Array;
      readonly version: number;
    }
  | {
      readonly kind: 'input';
      readonly sessionId: SessionId;
      readonly input: string;
      readonly from: IdentityRef;
      readonly body: Uint8Array;
      readonly properties: Readonly<Record<string, string>>;
      readonly systemProperties: Readonly<Record<string, string>>;
    }
  /** The head must end it now; no more calls for it are taken. */
  | { readonly kind: 'end'; readonly sessionId: SessionId; readonly reason: EndReason };

/** A cloud-to-device message as it is handed to a device (contract/device-semantics.md, section 2). */
export interface DeliveredCommand {
  /** GUID in text form. */
  readonly lockToken: string;
  /** Monotonic ms: after that the token is worth nothing. */
  readonly lockedUntilMs: number;
  readonly sequenceNumber: number;
  /** Deliveries before this one. */
  readonly deliveryCount: number;
  readonly enqueuedTimeMs: number;
  readonly expiresAtMs: number;
  readonly message: CommandMessage;
}

/** The content of a cloud-to-device message. */
export interface CommandMessage {
  readonly body: Uint8Array;
  /** Application properties. */
  readonly properties: Readonly<Record<string, string>>;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly userId?: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly ack: 'none' | 'positive' | 'negative' | 'full';
}

export type CommandOutcome = 'complete' | 'abandon' | 'reject';

export interface Sessions {
  /** Ends an earlier session of the same device or module on whatever protocol. Policies may have many. */
  open(head: string, request: SessionRequest): Promise<OpenedSession>;
  /** A renewed token on the same connection (CBS). @throws GW_IOTHUB when the session is over. */
  renew(sessionId: SessionId, principal: Principal): void;
  /** For a persistent session, after the sync. */
  keep(sessionId: SessionId, state: unknown): Promise<void>;
  /** What it wants from now on. */
  setInterests(sessionId: SessionId, interests: readonly Interest[]): void;
  /** How many more commands it takes unsettled; below 0: takes back what was not used of that. */
  grantCommands(sessionId: SessionId, credit: number): void;
  /** Any sign of life: `lastActivityTime`. */
  touch(sessionId: SessionId): void;
  /** The connection is over. `lost`: without a goodbye. Idempotent. */
  close(sessionId: SessionId, reason: EndReason): void;
}
