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

/** @throws GatewayError GW_IOTHUB IotHubFormatError, ArgumentInvalid. */
export function fieldCommand(deviceId: string, name: string, payload: Uint8Array): DeviceCommand {
  let body: unknown;
  try {
    const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8');
    // What is written to a point is not rounded; the payload of an action is JSON like any other.
    if (text !== '') body = name === WRITE ? parseExactJson(text) : JSON.parse(text);
  } catch {
    throw iotHubError('IotHubFormatError', 'The payload is not JSON.');
  }
  if (name !== WRITE) return { kind: 'action', deviceId, action: name, ...(body !== undefined && { payload: body }) };
  // With `values` as commands from upstream have them, or the values alone.
  const given = (body as { readonly values?: unknown } | undefined)?.values ?? body;
  const parsed = writeSchema.safeParse(given);
  if (parsed.success) return { kind: 'write', deviceId, values: parsed.data };
  throw iotHubError(
    'ArgumentInvalid',
    `The payload of "${WRITE}" names points and their values: {"values":{"relay":true}}, at most ${LIMITS.command_values}.`,
  );
}
