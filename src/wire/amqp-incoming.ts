// Messages as the `rhea` library decodes them, checked and in plain types.

import { GatewayError, errorText } from '../core/errors.ts';
import type { AmqpId } from './amqp-message.ts';
import type { RheaLibrary } from './amqp-rhea.ts';
import type { AmqpError, AmqpIncoming } from './amqp-types.ts';

const DATA_SECTION = 0x75;

export function incomingOf(decoded: unknown): AmqpIncoming {
  const message = recordOf(decoded);
  return {
    messageId: idOf(message['message_id']),
    correlationId: idOf(message['correlation_id']),
    userId: bytesOf(message['user_id']),
    to: textOf(message['to']),
    replyTo: textOf(message['reply_to']),
    contentType: textOf(message['content_type']),
    contentEncoding: textOf(message['content_encoding']),
    absoluteExpiryTimeMs: timeOf(message['absolute_expiry_time']),
    creationTimeMs: timeOf(message['creation_time']),
    ttlMs: typeof message['ttl'] === 'number' ? message['ttl'] : undefined,
    annotations: recordOf(message['message_annotations']),
    applicationProperties: recordOf(message['application_properties']),
    body: bodyOf(message['body']),
  };
}

/**
 * A batch (message format 0x80013700): each of its data sections is a whole message.
 * @throws GatewayError GW_PROTOCOL.
 */
export function batchOf(library: RheaLibrary, bytes: Uint8Array, maxMessages: number): readonly AmqpIncoming[] {
  try {
    const parts = dataSections(recordOf(library.message.decode(bytes))['body']);
    if (parts === undefined) throw new Error('it is not made of data sections');
    if (parts.length > maxMessages) throw new Error(`it has ${parts.length} messages, the most is ${maxMessages}`);
    return parts.map((part) => incomingOf(library.message.decode(part)));
  } catch (error) {
    throw new GatewayError('GW_PROTOCOL', `The batch cannot be read: ${errorText(error)}.`, { cause: error });
  }
}

function bodyOf(body: unknown): Uint8Array | undefined {
  if (body === undefined || body === null) return new Uint8Array(0);
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return body;
  const parts = dataSections(body);
  if (parts === undefined) return undefined;
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

function dataSections(body: unknown): readonly Uint8Array[] | undefined {
  const section = recordOf(body);
  if (section['typecode'] !== DATA_SECTION || !('collect_sections' in section)) return undefined;
  const content = section['content'];
  const parts: readonly unknown[] = Array.isArray(content) ? content : [content];
  return parts.every((part) => part instanceof Uint8Array) ? parts : undefined;
}

export function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** The error of a DETACH, END or CLOSE, or of a `rejected`; undefined where there is none. */
export function errorOf(value: unknown): AmqpError | undefined {
  const { condition, description } = recordOf(value);
  if (typeof condition !== 'string') return undefined;
  return { condition, ...(typeof description === 'string' && { description }) };
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value === 'string') return Buffer.from(value);
  return value instanceof Uint8Array ? value : undefined;
}

function idOf(value: unknown): AmqpId | undefined {
  if (typeof value === 'string' || typeof value === 'number' || value instanceof Uint8Array) return value;
  return undefined;
}

function timeOf(value: unknown): number | undefined {
  if (!(value instanceof Date)) return undefined;
  const ms = value.getTime();
  return Number.isFinite(ms) ? ms : undefined;
}
