// `fieldpost run`: the daemon until it is told to stop.

import { parseArgs } from 'node:util';
import { starterConfig } from '../config/starter.ts';
import type { Clock } from '../core/clock.ts';
import { EXIT_CODES, errorText } from '../core/errors.ts';
import { Daemon } from '../gateway/daemon.ts';
import { createLogTail } from '../observe/log-tail.ts';
import { createLogger, type LogLevel } from '../observe/logger.ts';
import { probeSynchronised } from '../platform/clock-probe.ts';
import { SystemClock } from '../platform/clock.ts';
import { exitWithin } from '../platform/exit.ts';
import { createServiceManager } from '../platform/systemd.ts';
import { gatewayFiles, usageError, type Command, type CommandContext, type GatewayFiles } from './command.ts';
import { greeting } from './greeting.ts';
import { createLineWriter } from './line-writer.ts';
import { writeAsynchronously } from './write-text.ts';

const LAST_WORDS_MS = 2000;
const SETTLE_MS = 2000;
const SETTLE_STEP_MS = 100;
const LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error'];

/** Resolves with the name of the first signal that asks to stop. SIGHUP applies edits of the configuration instead. */
function untilTold(onReload: () => void): Promise<string> {
  return new Promise((resolve) => {
    process.on('SIGHUP', onReload);
    process.on('SIGINT', () => resolve('SIGINT'));
    process.on('SIGTERM', () => resolve('SIGTERM'));
  });
}

/** Parts that start side by side need a moment to find each other; what still fails after it is worth telling. */
async function greet(
  daemon: Daemon,
  { clock, files, version, err }: Pick<CommandContext, 'version' | 'err'> & { clock: Clock; files: GatewayFiles },
): Promise<void> {
  for (let waitedMs = 0; waitedMs < SETTLE_MS && daemon.admin?.health().degraded === true; waitedMs += SETTLE_STEP_MS) {
    await clock.sleep(SETTLE_STEP_MS);
  }
  err(greeting(daemon, files, version));
}

async function run(
  args: readonly string[],
  { modules, heads, web, version, env, out, err, flushed }: CommandContext,
): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      config: { type: 'string' },
      data: { type: 'string' },
      'log-level': { type: 'string', default: 'info' },
      'log-format': { type: 'string' },
      simulate: { type: 'boolean', default: false },
    },
  });
  const level = values['log-level'];
  if (!LEVELS.includes(level)) throw usageError(`--log-level takes one of ${LEVELS.join(', ')}.`);
  const format = values['log-format'] ?? (process.stdout.isTTY ? 'lines' : 'json');
  if (format !== 'lines' && format !== 'json') throw usageError('--log-format takes lines or json.');

  writeAsynchronously(process.stdout, process.stderr);
  const lines = createLineWriter({
    out,
    onLost: (count) => log.warn({ lines: count }, 'Lines of the log were lost, because whoever reads it stood still.'),
  });
  const tail = createLogTail();
  const write = (line: string): void => {
    tail.add(line);
    lines.write(line);
  };
  const log = createLogger({ level: level as LogLevel, format, write });
  const files = gatewayFiles(values, env);
  const clock = new SystemClock({ probe: () => probeSynchronised() });
  // From the first moment on: a signal that nobody has asked for yet ends the process at once.
  const running: { daemon?: Daemon; edited: boolean } = { edited: false };
  const reload = (): void => {
    running.edited = running.daemon === undefined;
    running.daemon?.reload().catch((error: unknown) => {
      log.error({ error: errorText(error) }, 'The edited configuration could not be applied.');
    });
  };
  const restarted = Promise.withResolvers<string>();
  const told = Promise.race([untilTold(reload), restarted.promise]);
  const daemon = await Daemon.start({
    ...files,
    modules,
    heads,
    simulate: values.simulate,
    web,
    starter: starterConfig,
    version,
    env,
    clock,
    log,
    manager: createServiceManager({ log, environment: env }),
    logLines: (count) => tail.last(count),
    // systemd.exec(5): set for what systemd has started, and would start again.
    restart: env['INVOCATION_ID'] === undefined ? undefined : () => restarted.resolve('restart'),
  });
  running.daemon = daemon;
  if (running.edited) reload();
  // A person may read along although the log goes to a file or another program; systemd's journal has no use for it.
  if (env['JOURNAL_STREAM'] === undefined) void greet(daemon, { clock, files, version, err });
  const signal = await told;
  log.info({ by: signal }, 'Told to stop.');
  await daemon.stop();
  // What has stopped, with all that it took stored, is not kept alive by whoever reads its last words and stands still, nor by
  // an adapter that was left behind.
  exitWithin(LAST_WORDS_MS, EXIT_CODES.ok);
  await lines.written();
  await flushed();
  return EXIT_CODES.ok;
}

export const runCommand: Command = {
  name: 'run',
  usage: 'run [--config FILE] [--data DIR] [--log-level LEVEL] [--log-format lines|json] [--simulate]',
  summary:
    'Runs the gateway until SIGINT or SIGTERM; without a configuration it writes a starter with a simulated site. --simulate makes up the values of every configured device.',
  run,
};
