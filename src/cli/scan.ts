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
import type { ScanEvent, ScanFinding } from '../core/scan.ts';
import { createLogger } from '../observe/logger.ts';
import { SystemClock } from '../platform/clock.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command, type CommandContext } from './command.ts';

/** Where nobody watches a terminal, progress is told no more often. */
const PROGRESS_EVERY_MS = 5000;

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

/** How long, in words: `40 s`, `12 min`. */
function duration(ms: number): string {
  const secs = Math.ceil(ms / 1000);
  return secs < 120 ? `${secs} s` : `${Math.ceil(secs / 60)} min`;
}

function findingText({ place, facts, suggestion }: ScanFinding): string {
  const lines = Object.entries(facts).map(([name, value]) => `  ${name}: ${value}\n`);
  const yaml = suggestion === undefined ? '' : `  configuration:\n${suggestion.trimEnd().replaceAll(/^/gm, '    ')}\n`;
  return `${place}\n${lines.join('')}${yaml}`;
}

/** Shows what a scan tells: findings to the output, the rest beside it. */
function display({ out, err }: CommandContext, clock: Clock): (event: ScanEvent) => void {
  const isTerminal = process.stderr.isTTY;
  let toldMs = clock.monotonicMs();
  const clear = isTerminal ? '\r\u001B[K' : '';
  return (event) => {
    switch (event.kind) {
      case 'estimate':
        err(`${event.text} At most about ${duration(event.longestMs)}; Ctrl+C ends it.\n`);
        break;
      case 'progress': {
        const text = `${Math.floor(event.doneShare * 100)} %, at most ${duration(event.remainingMs)} more: ${event.text}`;
        if (isTerminal) err(`${clear}${text}`);
        else if (clock.monotonicMs() - toldMs >= PROGRESS_EVERY_MS) {
          toldMs = clock.monotonicMs();
          err(`${text}\n`);
        }
        break;
      }
      case 'found':
        err(clear);
        void out(findingText(event.finding));
        break;
      case 'note':
        err(`${clear}${event.text}\n`);
        break;
    }
  };
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
  const show = display(context, clock);
  let found = 0;
  const report = (event: ScanEvent): void => {
    if (event.kind === 'found') found += 1;
    show(event);
  };
  try {
    const scan = await scanner(files, context, clock);
    await scan(request, { signal: stop.signal, report });
    show({ kind: 'note', text: `Done: ${found} found.` });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    show({ kind: 'note', text: `Stopped: ${found} found until then.` });
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
