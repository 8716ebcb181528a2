// Commands and their answers as JSON. Whatever comes is checked here, before anything else sees it:
//
//   write    {"id":"42","values":{"relay":true},"expires_at":"2026-01-02T03:04:05Z"}
//   action   {"id":"42","payload":…,"expires_at":…}
//   answer   {"id":"42","status":200,"values":{"relay":true}}

import { z } from 'zod';
import { COMMAND_ID_MAX_BYTES, type CommandAnswer, type DeviceCommand } from '../core/command.ts';
import type { IncomingCommand } from '../core/endpoint.ts';
import { GatewayError } from '../core/errors.ts';
import { parseExactJson } from '../core/exact-json.ts';
import { LIMITS } from '../core/limits.ts';
import { expiresAtSchema } from '../iothub/field-command.ts';

export interface ParsedCommand {
  readonly id: string;
  readonly command: DeviceCommand;
  readonly expiresAtMs: number | undefined;
}

/** The name of the command that writes values; others are actions. */
const WRITE = 'write';

/** The id becomes a level of a topic and part of a key: no wildcards, no separators, nothing that cannot be seen. */
const idSchema = z
  .string({ error: 'must be a text' })
  .min(1, { error: 'must not be empty' })
  .refine((id) => id.isWellFormed() && Buffer.byteLength(id) <= COMMAND_ID_MAX_BYTES, {
    error: `has at most ${COMMAND_ID_MAX_BYTES} bytes of UTF-8`,
  })
  .refine((id) => !/[/+#\p{Cc}]/u.test(id), { error: 'must not hold / + # or control characters' });

const common = {
  id: idSchema,
  expires_at: expiresAtSchema.optional(),
};

const writeSchema = z.strictObject({
  ...common,
  values: z
    .record(
      z.string(),
      z.union([z.number(), z.bigint(), z.boolean(), z.string()], { error: 'must be a number, true, false or a text' }),
    )
    .refine((values) => Object.keys(values).length > 0, { error: 'must name a point' })
    .refine((values) => Object.keys(values).length <= LIMITS.command_values, {
      error: `must name at most ${LIMITS.command_values} points`,
    }),
});

const actionSchema = z.strictObject({
  ...common,
  payload: z
    .unknown()
    .refine((payload) => !holdsLongInteger(payload), { error: 'has an integer beyond 2^53-1; send it as a text' })
    .optional(),
});

/** A payload is handed on as JSON, whose numbers are doubles to whoever reads them. */
function holdsLongInteger(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).some(holdsLongInteger);
  return typeof value === 'bigint' || Number.isNaN(value);
}

/** Faults that are told of one command. */
const FAULTS_TOLD = 5;
const FAULT_CHARS = 300;

/** The id when there is one that can be used, and what is wrong otherwise. */
export function readCommand(incoming: IncomingCommand): {
  readonly id: string | undefined;
  readonly parsed: ParsedCommand | GatewayError;
} {
  const { deviceId, payload } = incoming;
  if (payload.byteLength > LIMITS.command_bytes) {
    const size = `A command has at most ${LIMITS.command_bytes} bytes, not ${payload.byteLength}.`;
    return { id: undefined, parsed: new GatewayError('GW_MESSAGE_INVALID', size) };
  }
  let body: unknown;
  try {
    body = parseExactJson(UTF8.decode(payload));
  } catch (error) {
    const fault = new GatewayError('GW_MESSAGE_INVALID', 'The command is not JSON in UTF-8.', { cause: error });
    return { id: undefined, parsed: fault };
  }
  const id = idSchema.safeParse((body as { id?: unknown } | null)?.id).data;
  const isWrite = incoming.command === WRITE;
  const result = isWrite ? writeSchema.safeParse(body) : actionSchema.safeParse(body);
  if (!result.success) {
    const faults = result.error.issues.slice(0, FAULTS_TOLD).map(({ path, message }) => {
      return `${path.length === 0 ? '' : `${path.join('.').slice(0, 128)} `}${message}`.slice(0, FAULT_CHARS);
    });
    return { id, parsed: new GatewayError('GW_MESSAGE_INVALID', `The command has faults: ${faults.join('; ')}.`) };
  }
  const { expires_at: expiresAtMs } = result.data;
  const command: DeviceCommand =
    'values' in result.data
      ? { kind: 'write', deviceId, values: result.data.values }
      : { kind: 'action', deviceId, action: incoming.command, payload: result.data.payload };
  return { id, parsed: { id: result.data.id, command, expiresAtMs } };
}

/** A command without an id that can be used is answered with `"id":null`. */
export function writeAnswer(id: string | undefined, answer: CommandAnswer): Uint8Array {
  const { status, values, quality, payload, code, reason } = answer;
  return Buffer.from(JSON.stringify({ id: id ?? null, status, values, quality, payload, code, reason }));
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });
