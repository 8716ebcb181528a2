// Contract of whatever takes messages off the box. An endpoint takes batches and answers for each message; it keeps no
// message of its own, knows no queue and decides no retry.

import type { Clock } from './clock.ts';
import type { CommandAnswer, CommandOptions, DeviceCommand } from './command.ts';
import type { DeliveryResult, FailureKind } from './delivery.ts';
import type { DeviceId } from './device.ts';
import type { GatewayMethodAnswer } from './gateway-methods.ts';
import type { IfMatch } from './hub/identity.ts';
import type { TwinUpdate } from './hub/twin.ts';
import type { LogFields, Logger } from './log.ts';
import type { StoredMessage } from './message.ts';
import type { SessionDevices } from './session-devices.ts';
import type { SecretShelf } from './secret-shelf.ts';
import type { TwinReceiver } from './twin-link.ts';

export interface EndpointCapabilities {
  /**
   * Whether the peer can refuse one message and keep the connection (MQTT 5, AMQP, HTTP can; MQTT 3.1.1 cannot). Without
   * it a poison message shows only as a lost connection, and the pump looks for it.
   */
  readonly negativeAcknowledgement: boolean;
  /** Messages that may be unanswered at once. */
  readonly window: number;
  /** Messages that go best into one `send`. */
  readonly batchMessages: number;
  /** Nothing beside the body leaves, no property and no time; default: it does. */
  readonly bodiesOnly?: boolean;
}

/** Why a connection ended. */
export interface EndpointClosed {
  readonly kind: FailureKind;
  readonly reason: string;
}

export interface EndpointContext {
  /** `$upstream`, or the name under `endpoints:`. */
  readonly endpointName: string;
  /** The gateway's own device. */
  readonly gatewayId: DeviceId;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of this endpoint alone. */
  readonly secrets?: SecretShelf;
}

export interface Endpoint {
  readonly capabilities: EndpointCapabilities;
  /** Where it goes, for people: `mqtts://broker.example:8883`. Never with credentials. */
  readonly target: string;
  /** What a newcomer may do to see what arrives there, for example a command to subscribe. */
  readonly hint?: string;
  /**
   * Why nothing can be sent although the connection stands and everything sent is answered, for people; undefined while
   * that is not so. The messages wait inside `send`.
   */
  readonly waiting?: string | undefined;
  /** What does not work although messages pass, for people: commands that do not come. */
  readonly impaired?: string | undefined;
  /**
   * The peer has answered nothing since something was given up for its silence: that `send` gave it back is no answer of the
   * peer's, and the connection may be dead.
   */
  readonly isSilent?: boolean | undefined;
  /** What people should know of the way in which it is connected, such as why it is not the best one. */
  readonly note?: string | undefined;
  /**
   * Whether a connect would succeed now, at the cost of a bare TCP connect. "Back" after an outage means this.
   * @throws GatewayError GW_CONNECT or GW_TIMEOUT when it would not.
   */
  probe(signal: AbortSignal): Promise<void>;
  /** One attempt to connect. @throws GatewayError GW_CONNECT, GW_TIMEOUT, GW_TLS, GW_UNAUTHORIZED, GW_THROTTLED, GW_PROTOCOL. */
  open(signal: AbortSignal): Promise<void>;
  /**
   * Settles when the connection made by the last `open` has ended, whoever ended it. Never rejects. Who called this before
   * the end learns of it before the sends that it cut short resolve.
   */
  closed(): Promise<EndpointClosed>;
  /**
   * Sends in order and resolves with one result for each message, in the same order. Several calls may be under way;
   * they are sent in the order of the calls. Never rejects: what was not answered when the connection was lost, or the
   * signal aborted, is `retry`.
   */
  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]>;
  /** Ends the connection in an orderly way; idempotent; `open` may follow. */
  close(): Promise<void>;
  /** Ends the connection at once, without a goodbye that nobody would hear; `closed` then gives the reason. */
  cut?(reason: string): void;
}

/** An endpoint that also carries things down. What it can carry grows with the transports (issue by issue). */
export interface UpstreamCapabilities extends EndpointCapabilities {
  readonly multiplexesIdentities: boolean;
  readonly twins: boolean;
  readonly methods: boolean;
  readonly commands: boolean;
}

/** What whoever sent a command wants of its answer. */
export interface CommandReply {
  /** Where it goes; undefined: to the place of its id. */
  readonly topic?: string;
  /** Goes back as it came. */
  readonly correlationData?: Uint8Array;
}

/** A command as it came down: nothing of it is checked but that it is fresh. Plain data. */
export interface IncomingCommand {
  readonly deviceId: string;
  /** `write`, or the name of an action. */
  readonly command: string;
  readonly payload: Uint8Array;
  readonly reply?: CommandReply;
  /** Until when it holds, where that stands beside the payload. UTC wall clock in ms. */
  readonly expiresAtMs?: number;
  /** It comes out of a queue, which keeps it for any time: it must say until when it holds. */
  readonly needsExpiry?: true;
  /** Of the transport's own: tells it which command is answered. */
  readonly token?: number;
}

export interface OutgoingAnswer {
  /** Of the command; undefined when it had none that could be used. */
  readonly id: string | undefined;
  readonly body: Uint8Array;
}

export interface CommandReceiver {
  /** Called for each fresh command; must be quick. */
  readonly onCommand: (command: IncomingCommand) => void;
  /** A command was left alone (`retained`, …), or commands cannot be received at all (`not_subscribed`, an event of its own). */
  readonly onIgnored: (reason: string, fields: LogFields) => void;
  /**
   * Carries out a command that the transport answers in its protocol's own way (a direct method, a cloud-to-device
   * message). Never rejects.
   */
  readonly run: (command: DeviceCommand, options: Omit<CommandOptions, 'actor'>) => Promise<CommandAnswer>;
  /** Calls a direct method of the gateway's own device. Never rejects. */
  readonly callMethod: (name: string, payload: Uint8Array) => Promise<GatewayMethodAnswer>;
  /** Whether a device is known and does not answer now, so that a command that can wait had better do so. */
  readonly isAway: (deviceId: string) => boolean;
  /** Devices of the local hub, which take what is sent to them themselves. Absent: there is none. */
  readonly sessions?: SessionDevices;
}

/** What a transport to an IoT hub knows of its leaf devices there, so that a local hub can stand in for it. */
export interface CloudIdentities {
  /** The hub's name, which tokens of devices are made for. */
  readonly hostName: string;
  /**
   * Keys of a leaf device that is somebody there, as they are known here; undefined: it is not, or has no key, or none that is
   * known. Asks nobody; rejects while that cannot be told.
   */
  keysOf(deviceId: DeviceId): Promise<DeviceKeys | undefined>;
  /**
   * Asks there for the keys of a device that has none here, or others than it is thought to have; no more often than is good for
   * who is asked: meanwhile the earlier answer counts. Absent: what is known here is all. Rejects while there is no answer.
   */
  askKeysOf?(deviceId: DeviceId): Promise<DeviceKeys | undefined>;
  /**
   * Asks there as a service does; resolves with the twin's whole document, as JSON gave it. Absent: the gateway has no rights to.
   * @throws GatewayError GW_IOTHUB as it was refused there, ServiceUnavailable where the gateway's rights do not reach; GW_CONNECT
   * and the like while there is no answer: a write may have been done.
   */
  askTwin?(deviceId: DeviceId, request: TwinRequest, signal: AbortSignal): Promise<unknown>;
}

/** Of a service, for a device's twin (contract/service-04, section 1). */
export interface TwinRequest {
  readonly method: 'GET' | 'PATCH' | 'PUT';
  /** What is to be written. */
  readonly update?: TwinUpdate;
  /** An ETag that the twin has there, or `*`. Undefined: whatever it has. */
  readonly ifMatch?: IfMatch;
}

/** Base64. One, where it is not known which of a device's two it is. */
export type DeviceKeys = readonly [primary: string, secondary?: string];

export interface UpstreamTransport extends Endpoint {
  readonly capabilities: UpstreamCapabilities;
  /** Absent where it leads to no hub of devices. */
  readonly identities?: CloudIdentities;
  /**
   * Has commands received from the next `open` on. Never what is retained, and never what was sent while there was no
   * connection, but for a queue of the peer's, whose commands say until when they hold. A peer that does not let us subscribe goes on taking messages.
   */
  receiveCommands?(receiver: CommandReceiver): void;
  /** Has the twins of the identities that it connects opened, from the next `open` on. */
  receiveTwins?(receiver: TwinReceiver): void;
  /** Sends the answer to a command; resolves whether the peer has it. Never rejects. */
  answer?(command: IncomingCommand, answer: OutgoingAnswer): Promise<boolean>;
}

/** The queue that feeds the upstream transport. */
export const UPSTREAM_ENDPOINT = '$upstream';

/** What routes call the built-in events of the local hub: a stream of the outbox and no queue. */
export const EVENTS_ENDPOINT = 'events';
