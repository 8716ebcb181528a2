// JSON of requests, parsed and checked by a schema; long JSON of answers.

import type { FastifyReply } from 'fastify';
import type { z } from 'zod';
import { iotHubError } from '#sdk';

/** Bytes that are no text would be stored as other ones. */
const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws GatewayError GW_IOTHUB ArgumentNull, IotHubFormatError. */
export function parseJson(body: Uint8Array): unknown {
  if (body.byteLength === 0) throw iotHubError('ArgumentNull', 'The request has no body.');
  try {
    return JSON.parse(UTF_8.decode(body)) as unknown;
  } catch {
    throw iotHubError('IotHubFormatError', 'The body is not JSON in UTF-8.');
  }
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid that names the first fault, ArgumentNull, IotHubFormatError. */
export function readJson<Schema extends z.ZodType>(schema: Schema, body: Uint8Array): z.output<Schema> {
  return checkJson(schema, parseJson(body));
}

export function checkJson<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? 'The body' : issue.path.join('.');
  throw iotHubError('ArgumentInvalid', `${where}: ${issue?.message ?? 'is not allowed'}.`);
}

/** The value of an `If-Match` header as the hub compares it; quotes and the weak mark do not count (RFC 9110, section 13.1.1). */
export function etagOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const text = header.trim().replace(/^W\//, '');
  return text.replace(/^"(.*)"$/s, '$1');
}

/** For `Route.run`, as a list may be long: of a text Node takes three times its length from the system, and gives it back late. */
export function jsonBytes(reply: FastifyReply, json: Buffer): Buffer {
  reply.type('application/json; charset=utf-8');
  return json;
}
