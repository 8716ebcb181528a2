// What a verb of the command line is, and where it finds the gateway's files.

import { join, resolve } from 'node:path';
import { GatewayError } from '../core/errors.ts';
import type { HeadDefinition, ModuleDefinition } from '../core/module.ts';
import type { WebDefinition } from '../gateway/options.ts';

/** What main.ts hands to every verb. */
export interface CommandContext {
  readonly modules: readonly ModuleDefinition[];
  /** Protocols of the local hub. */
  readonly heads: readonly HeadDefinition[];
  readonly web: WebDefinition;
  readonly version: string;
  readonly env: Record<string, string | undefined>;
  /** Writes to standard output; resolves when more may be written. */
  readonly out: (text: string) => void | Promise<void>;
  /** Writes to standard error. */
  readonly err: (text: string) => void;
  /** Resolves when what was written has left the process. */
  readonly flushed: () => Promise<void>;
}

export interface Command {
  readonly name: string;
  /** One line of arguments, as in `check FILE`. */
  readonly usage: string;
  readonly summary: string;
  /** What `--help` prints instead of usage and summary. */
  readonly help?: string | ((context: CommandContext) => string);
  /** Resolves with the exit code. @throws GatewayError, whose code decides the exit code. */
  readonly run: (args: readonly string[], context: CommandContext) => Promise<number>;
}

export interface GatewayFiles {
  readonly dataDirectory: string;
  readonly configPath: string;
  readonly controlSocket: string;
}

/** Design, section 6: `--data`, else $STATE_DIRECTORY, else ./data; `--config`, else the data directory's fieldpost.yaml. */
export function gatewayFiles(
  options: { readonly config?: string | undefined; readonly data?: string | undefined },
  env: CommandContext['env'],
): GatewayFiles {
  // systemd sets a list when several directories are configured; the first is ours.
  const first = (list: string | undefined): string | undefined => (list === '' ? undefined : list?.split(':')[0]);
  const dataDirectory = resolve(options.data ?? first(env['STATE_DIRECTORY']) ?? 'data');
  return {
    dataDirectory,
    configPath: resolve(options.config ?? join(dataDirectory, 'fieldpost.yaml')),
    controlSocket: join(first(env['RUNTIME_DIRECTORY']) ?? dataDirectory, 'control.sock'),
  };
}

export function usageError(message: string): GatewayError {
  return new GatewayError('GW_USAGE', message);
}

/** Takes `--data` and `--config` out of the arguments, so that the verb's own parser sees the rest. */
export function splitFileOptions(args: readonly string[]): {
  readonly files: { readonly config?: string; readonly data?: string };
  readonly rest: readonly string[];
} {
  const files: { config?: string; data?: string } = {};
  const rest: string[] = [];
  for (let index = 0; index < args.length; index += 1) {
    const argument = args[index] ?? '';
    if (argument === '--') {
      rest.push(...args.slice(index));
      break;
    }
    const match = /^--(config|data)(?:=(.*))?$/s.exec(argument);
    if (match === null) {
      rest.push(argument);
      continue;
    }
    const value = match[2] ?? args[(index += 1)];
    if (value === undefined) throw usageError(`--${match[1]} takes a path.`);
    files[match[1] as 'config' | 'data'] = value;
  }
  return { files, rest };
}
