// What every command of this folder needs: where to write, how to read its arguments.

import { parseArgs, type ParseArgsConfig } from 'node:util';
import { errorText, GatewayError } from '../core/errors.ts';

export interface CommandOutput {
  /** Standard output; resolves when more may be written, so that a slow pipe bounds memory. */
  readonly out: (text: string) => void | Promise<void>;
  /** Standard error, for what must not stand among the data. */
  readonly err?: (text: string) => void;
}

/** `util.parseArgs`, strict. @throws GatewayError GW_USAGE with the command's usage. */
export function parseCommand<Config extends Omit<ParseArgsConfig, 'args' | 'strict'>>(
  args: readonly string[],
  config: Config,
  usage: string,
): ReturnType<typeof parseArgs<Config & { args: string[]; strict: true }>> {
  try {
    return parseArgs({ ...config, args: [...args], strict: true });
  } catch (error) {
    throw usageError(errorText(error), usage);
  }
}

export function usageError(problem: string, usage: string): GatewayError {
  return new GatewayError('GW_USAGE', `${problem.replace(/\.?$/, '.')}\n${usage}`);
}

/** A whole number from `min` to `max`, else `fallback` when absent. @throws GatewayError GW_USAGE. */
export function wholeNumber(
  text: string | undefined,
  options: { name: string; min: number; max: number; fallback: number; usage: string },
): number {
  if (text === undefined) return options.fallback;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= options.min && value <= options.max) return value;
  throw usageError(
    `--${options.name} takes a whole number from ${options.min} to ${options.max}, not "${text}"`,
    options.usage,
  );
}
