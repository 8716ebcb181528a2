// `fieldpost scan TYPE`: searches a wire for devices. A running gateway does it, so that a port which it holds can be
// scanned between its polls; without one the command does it itself.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { connectControl } from '../admin/control-client.ts';
import { createScanRunner, scannable } from '../admin/scan.ts';
import type { AdminApi } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import { EXIT_CODES, isGatewayError } from '../core/errors.ts';
import type { ScanEvent } from '../core/scan.ts';
import { createLogger } from '../observe/logger.ts';
import { SystemClock } from '../platform/clock.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command, type CommandContext } from './command.ts';
import { ScanDisplay } from './scan-display.ts';

/** `unit_ids` is `--unit-ids`. */
function flagOf(field: string): string {
  return `--${field.replaceAll('_', '-')}`;
}

function isFlag(schema: z.ZodType): boolean {
  let inner: unknown = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodOptional) inner = inner.unwrap();
  return inner instanceof z.ZodBoolean;
}

function help({ modules }: CommandContext): string {
  const parts = scannable(modules).map(({ type, scan }) => {
    const fields = Object.entries<z.ZodType>(scan.options.shape).map(
      ([name, schema]) => `  ${flagOf(name).padEnd(16)}  ${schema.meta()?.description ?? ''}\n`,
    );
    return `fieldpost scan ${type} [OPTIONS] [--data DIR]\n${fields.join('')}`;
  });
  return `${parts.join('\n')}\nA scan only reads. Ctrl+C ends it; what was found until then is shown.\n`;
}

/** The arguments as fields of the module's options, as texts. */
function optionsOf(schema: z.ZodObject, args: readonly string[]): Record<string, unknown> {
  const fields = Object.entries<z.ZodType>(schema.shape);
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      fields.map(([name, field]) => [name.replaceAll('_', '-'), { type: isFlag(field) ? 'boolean' : 'string' }]),
    ),
  });
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name.replaceAll('-', '_'), value]));
}

async function scanner(files: { data?: string }, context: CommandContext, clock: Clock): Promise<AdminApi['scan']> {
  const { dataDirectory, controlSocket } = gatewayFiles(files, context.env);
  try {
    const control = await connectControl(controlSocket);
    return (request, watch) => control.scan(request, watch);
  } catch (error) {
    if (!isGatewayError(error, 'GW_NOT_RUNNING')) throw error;
  }
  return createScanRunner({
    modules: context.modules,
    running: () => [],
    clock,
    log: createLogger({ level: 'error', format: 'lines', write: context.err }),
    profileDirectory: join(dataDirectory, 'profiles'),
  });
}

async function run(args: readonly string[], context: CommandContext): Promise<number> {
  const { files, rest } = splitFileOptions(args);
  const [type, ...more] = rest;
  const module = scannable(context.modules).find((candidate) => candidate.type === type);
  if (module === undefined) {
    const types = scannable(context.modules).map((candidate) => candidate.type);
    throw usageError(`scan takes one of ${types.join(', ')}.\n${help(context)}`);
  }
  const request = { type: module.type, options: optionsOf(module.scan.options, more) };
  const clock = new SystemClock();
  const stop = new AbortController();
  const end = (): void => stop.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  const display = new ScanDisplay({ ...context, clock, isTerminal: process.stderr.isTTY });
  const report = (event: ScanEvent): void => display.show(event);
  try {
    const scan = await scanner(files, context, clock);
    await scan(request, { signal: stop.signal, report });
    const found = display.end();
    context.err(`Done: ${found} found.\n`);
  } catch (error) {
    const found = display.end();
    if (!stop.signal.aborted) throw error;
    context.err(`Stopped: ${found} found until then.\n`);
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
  }
  return EXIT_CODES.ok;
}

export const scanCommand: Command = {
  name: 'scan',
  usage: 'scan modbus|serial [OPTIONS] [--data DIR]',
  summary: 'Searches a wire for devices, by reading only; `scan --help` lists the options.',
  help,
  run,
};
