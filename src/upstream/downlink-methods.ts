// Direct methods that a transport carries to the gateway's own device: those that concern leaf devices are commands like others,
// the rest are the gateway's own.

import { answerOf, type CommandAnswer } from '../core/command.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { GatewayMethodAnswer, GatewayMethods } from '../core/gateway-methods.ts';
import { parseExactJson } from '../core/exact-json.ts';
import { expiresAtSchema, fieldWrite, type FieldCommand } from '../iothub/field-command.ts';
import { QUOTAS } from '../iothub/quotas.ts';

export interface DownlinkMethodsOptions {
  readonly gatewayId: string;
  readonly run: (command: FieldCommand) => Promise<CommandAnswer>;
  /** Undefined where nobody answers for the gateway. */
  readonly methods: GatewayMethods | undefined;
  readonly actor: string;
}

const PING = 'ping';
const WRITE_POINT = 'writePoint';
const INVOKE_ACTION = 'invokeAction';
const OWN: readonly string[] = [PING, WRITE_POINT, INVOKE_ACTION];

/** Carries out a method. Never rejects. */
export async function callMethod(
  { gatewayId, run, methods, actor }: DownlinkMethodsOptions,
  name: string,
  payload: Uint8Array,
): Promise<GatewayMethodAnswer> {
  try {
    if (name === PING) return { status: 200, body: { gateway: gatewayId } };
    if (name === WRITE_POINT || name === INVOKE_ACTION) return bodyOf(await run(commandOf(name, payload)));
    if (methods?.names.includes(name) === true) {
      const given = payload.byteLength === 0 ? undefined : jsonOf(payload);
      return bounded(await methods.call(name, given ?? undefined, actor));
    }
    const names = [...OWN, ...(methods?.names ?? [])].join(', ');
    throw new GatewayError('GW_NOT_FOUND', `The gateway has no method "${name.slice(0, 128)}"; it has ${names}.`);
  } catch (error) {
    return bodyOf(answerOf(error));
  }
}

function bodyOf({ status, ...body }: CommandAnswer): GatewayMethodAnswer {
  return { status, body };
}

/** A hub takes no longer answer (contract/device-semantics.md, section 4). */
function bounded(answer: GatewayMethodAnswer): GatewayMethodAnswer {
  const bytes = Buffer.byteLength(JSON.stringify(answer.body));
  if (bytes <= QUOTAS.method_bytes) return answer;
  const reason = `The answer has ${bytes} bytes; that of a method has ${QUOTAS.method_bytes} at most.`;
  return { status: 500, body: { code: 'GW_MESSAGE_INVALID', reason } };
}

/**
 * `writePoint` with `{"device_id":…,"values":{…}}`, `invokeAction` with `{"device_id":…,"action":…,"payload":…}`; either with
 * `expires_at`.
 * @throws GatewayError GW_MESSAGE_INVALID.
 */
function commandOf(name: typeof WRITE_POINT | typeof INVOKE_ACTION, payload: Uint8Array): FieldCommand {
  // What is written to a point is not rounded.
  const body = jsonOf(payload, name === WRITE_POINT ? parseExactJson : JSON.parse);
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw invalid('The payload is no object.');
  const { device_id: deviceId, ...rest } = body as Readonly<Record<string, unknown>>;
  if (typeof deviceId !== 'string') throw invalid('The payload has no "device_id".');
  if (name === WRITE_POINT) {
    if (rest['values'] === undefined) throw invalid('The payload has no "values".');
    return writeOf(deviceId, rest);
  }
  const { action, payload: given, expires_at: expires, ...others } = rest;
  if (typeof action !== 'string' || action === '') throw invalid('The payload has no "action".');
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw invalid(`"${unknown.slice(0, 128)}" is not known here; allowed: device_id, action, payload, expires_at.`);
  }
  const expiresAt = expiresAtSchema.optional().safeParse(expires);
  if (!expiresAt.success) throw invalid(`"expires_at" ${expiresAt.error.issues[0]?.message ?? ''}.`);
  const command = { kind: 'action', deviceId, action, ...(given !== undefined && { payload: given }) } as const;
  return { command, expiresAtMs: expiresAt.data };
}

function writeOf(deviceId: string, body: object): FieldCommand {
  try {
    return fieldWrite(deviceId, body);
  } catch (error) {
    throw invalid(errorText(error), error);
  }
}

function jsonOf(payload: Uint8Array, parse: (text: string) => unknown = JSON.parse): unknown {
  try {
    return parse(Buffer.from(payload).toString('utf8'));
  } catch (error) {
    throw invalid('The payload is not JSON.', error);
  }
}

function invalid(message: string, cause?: unknown): GatewayError {
  return new GatewayError('GW_MESSAGE_INVALID', message, { cause });
}
