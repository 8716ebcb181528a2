// What goes through a hub: telemetry up, commands and methods down, feedback and events to the service.

import type { SystemProperties } from '../message.ts';
import type { IdentityRef } from './identity.ts';
import type { Principal } from './access.ts';
import type { CommandMessage, CommandOutcome, DeliveredCommand, SessionId } from './session.ts';
import type { TelemetryMessage } from './telemetry-message.ts';

export interface TelemetryIntake {
  /**
   * All or none, in one commit; resolves after its sync.
   * @throws GW_IOTHUB MessageTooLarge, ArgumentInvalid; ThrottlingException and ServiceUnavailable when it cannot be stored now.
   */
  send(
    principal: Principal,
    from: IdentityRef,
    messages: readonly TelemetryMessage[],
    signal?: AbortSignal,
  ): Promise<void>;
}

/** How a command ended, for whoever asked (contract/device-semantics.md, section 2). */
export interface FeedbackRecord {
  readonly originalMessageId: string;
  readonly enqueuedTimeUtc: string;
  readonly statusCode: 'Success' | 'Expired' | 'DeliveryCountExceeded' | 'Rejected' | 'Purged';
  readonly description: string;
  readonly deviceId: string;
  readonly deviceGenerationId: string;
}

export interface FeedbackBatch {
  readonly lockToken: string;
  readonly enqueuedTimeMs: number;
  readonly deliveryCount: number;
  readonly records: readonly FeedbackRecord[];
}

/** Cloud-to-device messages: a durable queue of 50 for each device. */
export interface Commands {
  /** Resolves after the sync. @throws DeviceNotFound, DeviceMaximumQueueDepthExceeded, MessageTooLarge, InvalidMessageExpiryTime. */
  send(hubId: string, to: IdentityRef, message: CommandMessage & { readonly expiresAtMs?: number }): Promise<void>;
  /** For HTTPS: locks and gives the next one. */
  receive(hubId: string, deviceId: string): Promise<DeliveredCommand | undefined>;
  /** Resolves after the sync. @throws DeviceMessageLockLost. */
  settle(hubId: string, deviceId: string, lockToken: string, outcome: CommandOutcome): Promise<void>;
  /** Resolves with how many. */
  purge(hubId: string, deviceId: string): Promise<number>;
  /** Locks the next batch of feedback; waits until there is one or the signal aborts (then undefined). */
  receiveFeedback(hubId: string, signal: AbortSignal): Promise<FeedbackBatch | undefined>;
  settleFeedback(hubId: string, lockToken: string, outcome: CommandOutcome): Promise<void>;
}

export interface MethodCall {
  readonly name: string;
  /** JSON; empty: none. */
  readonly payload: Uint8Array;
  /** 5 to 300 s. Default 30. */
  readonly responseTimeoutMs: number;
  /** 0 to 300 s: how long to wait for the device to appear. Default 0. */
  readonly connectTimeoutMs: number;
  /** Who calls, for the audit of what devices of adapters were told: name of a policy, of a module, `cli`. */
  readonly caller?: string;
}

export interface MethodAnswer {
  readonly status: number;
  /** JSON; empty: none. */
  readonly payload: Uint8Array;
}

export interface Methods {
  /** @throws DeviceNotFound, DeviceNotOnline, DeviceConnectionClosedRemotely, GatewayTimeout, ArgumentInvalid. */
  invoke(hubId: string, to: IdentityRef, call: MethodCall, signal?: AbortSignal): Promise<MethodAnswer>;
  /** An answer that nobody waits for any more is discarded. */
  answer(sessionId: SessionId, requestId: string, answer: MethodAnswer): void;
}

/** Where a reader of the built-in events begins (contract/service-07, section 4). */
export type EventPosition =
  | { readonly kind: 'earliest' | 'latest' }
  | { readonly kind: 'offset' | 'sequence'; readonly value: number; readonly inclusive: boolean }
  | { readonly kind: 'time'; readonly afterMs: number };

export interface HubEvent {
  /** From 0, without gaps in a partition. */
  readonly sequenceNumber: number;
  readonly offset: number;
  readonly enqueuedTimeMs: number;
  readonly partitionKey: string;
  readonly body: Uint8Array;
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: SystemProperties;
  /** Annotations that the hub stamped, `iothub-connection-device-id` and so on, without `iothub-enqueuedtime`. */
  readonly stamps: Readonly<Record<string, string>>;
}

export interface PartitionInfo {
  readonly beginSequenceNumber: number;
  /** -1: nothing was ever stored. */
  readonly lastSequenceNumber: number;
  readonly lastOffset: number;
  /** 0001-01-01: nothing was ever stored. */
  readonly lastEnqueuedTimeMs: number;
  readonly isEmpty: boolean;
}

/** The built-in events endpoint: partitions are read, never taken from. */
export interface Events {
  /** How many partitions, and when the hub was made. */
  info(hubId: string): { readonly partitions: number; readonly createdAtMs: number };
  partition(hubId: string, partition: number): Promise<PartitionInfo>;
  /** The sequence number to begin with. What is gone already begins at what is left. */
  locate(hubId: string, partition: number, position: EventPosition): Promise<number>;
  /** In order from `from`; waits until there is one or the signal aborts (then empty). */
  read(
    hubId: string,
    partition: number,
    from: number,
    limit: { readonly maxMessages: number; readonly maxBytes: number },
    signal: AbortSignal,
  ): Promise<readonly HubEvent[]>;
}
