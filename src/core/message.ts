// The neutral device-to-cloud message: what every adapter and protocol head produces and every endpoint takes.
// Plain, structured-cloneable data, so that it can cross to a worker thread.

import type { DeviceId } from './device.ts';
import { GatewayError } from './errors.ts';
import type { Timestamp } from './time.ts';

/** Azure IoT Hub's system properties that a device may set (contract/device-semantics.md, section 1). */
export interface SystemProperties {
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly userId?: string;
  readonly to?: string;
  /** ISO 8601. */
  readonly absoluteExpiryTime?: string;
  /** For example `application/json`. */
  readonly contentType?: string;
  /** For example `utf-8`. */
  readonly contentEncoding?: string;
  /** ISO 8601 in UTC. */
  readonly creationTimeUtc?: string;
  readonly messageSchema?: string;
  readonly componentName?: string;
  /** `Diagnostic-Id`: the trace that the message belongs to, as the device wrote it. */
  readonly diagnosticId?: string;
  /** `Correlation-Context`: what goes with the trace. */
  readonly correlationContext?: string;
}

/** Where the body has places that are filled later. Byte positions in `body`; absent for bodies that are not ours. */
export interface BodyStamps {
  /** Position of the 24 bytes of `time`, overwritten by the pump once the clock is known. */
  readonly timeAt?: number;
  /** Position at which the commit inserts `,"epoch":"k3f9","seq":17`. Only on messages not yet stored. */
  readonly identityAt?: number;
}

/** What a hub stamps on a message that it accepted (contract/device-semantics.md, section 1). */
export interface HubStamps {
  /** `iothub-connection-auth-method`: JSON text. */
  readonly authMethod: string;
  /** `iothub-connection-auth-generation-id`. */
  readonly generationId: string;
  /** `iothub-message-source`: `Telemetry`, `twinChangeEvents`, … */
  readonly source: string;
  /** `iothub-interface-id`, set by the device. */
  readonly interfaceId?: string;
  /** `dt-dataschema`: the model that the device named when it connected. */
  readonly dataSchema?: string;
  /** Output of a module. */
  readonly outputName?: string;
}

export interface Message {
  /** The hub that the message belongs to; absent for the gateway's own field side. */
  readonly hubId?: string;
  readonly hub?: HubStamps;
  readonly deviceId: DeviceId;
  readonly moduleId?: string;
  readonly body: Uint8Array;
  /** Application properties. */
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: SystemProperties;
  readonly time: Timestamp;
  readonly stamps?: BodyStamps;
}

/** A message as the outbox gives it out. */
export interface StoredMessage {
  /** Position in the log: order is by this and never by the wall clock. A safe integer. */
  readonly offset: number;
  /** Counts the device's messages in the log from 1, gap-free. */
  readonly seq: number;
  readonly epoch: string;
  /** The message's own id, else `{epoch}.{device}.{seq}`; the same on every resend. */
  readonly messageId: string;
  /** The body is final but for `time`; `stamps.identityAt` is gone. */
  readonly message: Message;
}

/** The most bytes of body, property names and values (Azure IoT Hub: device-to-cloud message 256 KB). */
export const MESSAGE_MAX_BYTES = 262_144;

/** Names of application properties that Fieldpost sets itself. */
export const PROPERTY_FIELDPOST_ID = 'fieldpost-id';
/** On a message of a device that passes through and is not good, in the words of `quality`: `uncertain:replayed`. */
export const PROPERTY_FIELDPOST_QUALITY = 'fieldpost-quality';
export const PROPERTY_FIELDPOST_EVENT = 'fieldpost-event';
/** How the body is sealed: `jwe`. */
export const PROPERTY_FIELDPOST_SEALED = 'fieldpost-sealed';

/** Of a cloud-to-device message to a device of an adapter: the action that it asks for; without it values are written. */
export const PROPERTY_FIELDPOST_COMMAND = 'fieldpost-command';

/** Bytes that count against limits: body plus names and values of properties in UTF-16 units (an upper estimate is not needed). */
export function messageBytes(message: Pick<Message, 'body' | 'properties' | 'systemProperties'>): number {
  let bytes = message.body.byteLength;
  for (const name in message.properties) bytes += name.length + (message.properties[name]?.length ?? 0);
  for (const name in message.systemProperties) {
    bytes += message.systemProperties[name as keyof SystemProperties]?.length ?? 0;
  }
  return bytes;
}

/** The id that the gateway gives to a message: `{epoch}.{device}.{seq}`. */
export function gatewayMessageId(epoch: string, deviceId: DeviceId, seq: number): string {
  return gatewayMessageIdPrefix(epoch, deviceId) + String(seq);
}

/** What stands before the `seq`. */
export function gatewayMessageIdPrefix(epoch: string, deviceId: DeviceId): string {
  return `${epoch}.${deviceId}.`;
}

/** @throws GatewayError GW_MESSAGE_INVALID when the message is too large. */
export function assertMessageSize(message: Message): void {
  const bytes = messageBytes(message);
  if (bytes <= MESSAGE_MAX_BYTES) return;
  throw new GatewayError(
    'GW_MESSAGE_INVALID',
    `A message of ${message.deviceId} has ${bytes} bytes; the most is ${MESSAGE_MAX_BYTES}.`,
    { details: { bytes, maxBytes: MESSAGE_MAX_BYTES } },
  );
}
