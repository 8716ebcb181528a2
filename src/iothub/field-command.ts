// What devices of adapters are told through the hub: the payload of a direct method and the body of a cloud-to-device message
// are read alike.

import { z } from 'zod';
import type { DeviceCommand } from '../core/command.ts';
import { parseExactJson } from '../core/exact-json.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from './errors.ts';

/** The direct method that writes values; others are actions of the device. */
export const WRITE = 'write';

const writeSchema = z
  .record(z.string(), z.union([z.number(), z.bigint(), z.boolean(), z.string()]))
  .refine((values) => Object.keys(values).length > 0 && Object.keys(values).length <= LIMITS.command_values);

/** Until when a command holds, as its body says it. */
export const expiresAtSchema = z.iso
  .datetime({ error: 'must be a time in UTC such as 2026-01-02T03:04:05Z' })
  .transform((text) => Date.parse(text));

const envelopeSchema = z.strictObject({ values: writeSchema, expires_at: expiresAtSchema.optional() });

/** A command, and until when it holds where it says so: UTC wall clock in ms. */
export interface FieldCommand {
  readonly command: DeviceCommand;
  readonly expiresAtMs?: number | undefined;
}

/** @throws GatewayError GW_IOTHUB IotHubFormatError, ArgumentInvalid. */
export function fieldCommand(deviceId: string, name: string, payload: Uint8Array): FieldCommand {
  let body: unknown;
  try {
    const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8');
    // What is written to a point is not rounded; the payload of an action is JSON like any other.
    if (text !== '') body = name === WRITE ? parseExactJson(text) : JSON.parse(text);
  } catch {
    throw iotHubError('IotHubFormatError', 'The payload is not JSON.');
  }
  if (name === WRITE) return fieldWrite(deviceId, body);
  return { command: { kind: 'action', deviceId, action: name, ...(body !== undefined && { payload: body }) } };
}

/**
 * With `values` as commands from upstream have them, or the values alone.
 * @throws GatewayError GW_IOTHUB ArgumentInvalid.
 */
export function fieldWrite(deviceId: string, body: unknown): FieldCommand {
  const isEnvelope = typeof body === 'object' && body !== null && Object.hasOwn(body, 'values');
  const parsed = envelopeSchema.safeParse(isEnvelope ? body : { values: body });
  if (parsed.success) {
    const { values, expires_at: expiresAtMs } = parsed.data;
    return { command: { kind: 'write', deviceId, values }, expiresAtMs };
  }
  const rule = `The payload of "${WRITE}" names points and their values: {"values":{"relay":true}}, at most ${LIMITS.command_values}; with "expires_at" it says until when it holds.`;
  const faults = parsed.error.issues.filter(
    ({ path, code }) => path[0] === 'expires_at' || code === 'unrecognized_keys',
  );
  throw iotHubError('ArgumentInvalid', [rule, ...faults.map(faultText)].join(' '));
}

function faultText({ message, path }: z.core.$ZodIssue): string {
  return `${[...path, message].join(' ').slice(0, 200)}.`;
}
