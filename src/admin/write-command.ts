// `fieldpost write DEVICE POINT VALUE`: one value to one point of a device of the running gateway.

import type { JsonValue, WriteRequest, WriteView } from '../core/admin.ts';
import { EXIT_CODES } from '../core/errors.ts';
import { parseCommand, usageError, type CommandOutput } from './command.ts';

export const WRITE_USAGE = `Usage: fieldpost write DEVICE POINT VALUE [--text] [--json]
  VALUE is a number, true, false or a text; --text takes "12" or "true" as a text too.
  A negative number stands after --: fieldpost write pump-3 setpoint -- -5`;

export interface WriteCommandPorts extends CommandOutput {
  readonly write: (request: WriteRequest, actor: string) => Promise<WriteView>;
  /** Who asks, for the log of the gateway. */
  readonly actor: string;
}

/** Returns the exit code. @throws GatewayError GW_USAGE, GW_NOT_RUNNING and what the write ends with. */
export async function runWriteCommand(args: readonly string[], ports: WriteCommandPorts): Promise<number> {
  const options = { text: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } } as const;
  const { values, positionals } = parseCommand(args, { allowPositionals: true, options }, WRITE_USAGE);
  const [deviceId, point, text, ...more] = positionals;
  if (deviceId === undefined || point === undefined || text === undefined || more.length > 0) {
    throw usageError('Give a device, a point and a value', WRITE_USAGE);
  }
  const value = values.text ? { value: text } : parseValue(text);
  const result = await ports.write({ deviceId, point, ...value }, ports.actor);
  const confirmed = result.readBack === undefined ? '' : `, confirmed as ${JSON.stringify(result.readBack)}`;
  await ports.out(
    values.json
      ? `${JSON.stringify(result)}\n`
      : `Wrote ${text} to ${point} of ${deviceId}${confirmed} (${result.quality}).\n`,
  );
  return EXIT_CODES.ok;
}

/** A number, `true`, `false`, else the text as it is; integers that a number cannot hold exactly go as integers. */
export function parseValue(text: string): { readonly value: JsonValue; readonly integer?: boolean } {
  if (text === 'true' || text === 'false') return { value: text === 'true' };
  if (/^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text))) return { value: text, integer: true };
  if (/^-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) && Number.isFinite(Number(text))) return { value: Number(text) };
  return { value: text };
}
