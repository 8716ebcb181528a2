// The verbs of the command line (design, section 6) and how their errors become exit codes.

import { ERROR_CATALOGUE, errorText, EXIT_CODES, isGatewayError } from '../core/errors.ts';
import { auditCommand } from './audit.ts';
import { bufferCommand } from './buffer.ts';
import { checkCommand, schemaCommand } from './check.ts';
import { usageError, type Command, type CommandContext } from './command.ts';
import { configCommand } from './config.ts';
import { hashPasswordCommand } from './hash-password.ts';
import { hubCommand } from './hub.ts';
import { identifyCommand } from './identify.ts';
import { profilesCommand } from './profiles.ts';
import { runCommand } from './run.ts';
import { scanCommand } from './scan.ts';
import { unsealCommand } from './unseal.ts';
import { writeCommand } from './write.ts';

const versionCommand: Command = {
  name: 'version',
  usage: 'version',
  summary: 'Prints the version.',
  async run(_args, { version, out }) {
    await out(`fieldpost ${version} (Node ${process.versions.node})\n`);
    return EXIT_CODES.ok;
  },
};

const COMMANDS: readonly Command[] = [
  runCommand,
  checkCommand,
  schemaCommand,
  bufferCommand,
  configCommand,
  writeCommand,
  auditCommand,
  identifyCommand,
  scanCommand,
  profilesCommand,
  hubCommand,
  hashPasswordCommand,
  unsealCommand,
  versionCommand,
];

function helpText(): string {
  const lines = COMMANDS.map(({ usage, summary }) => `  fieldpost ${usage}\n      ${summary}\n`);
  return `Fieldpost, an edge field gateway.\n\n${lines.join('')}\nExit codes: 0 stopped, 1 configuration refused, 2 usage, 70 internal fault, 75 store could not be opened.\n`;
}

/** Node's parseArgs throws these for options that a verb does not know. */
function isUsageFault(error: unknown): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS');
}

/** Runs one command line and resolves with the exit code. Never rejects. */
export async function runCli(args: readonly string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h') {
    await (verb === undefined ? context.err : context.out)(helpText());
    return verb === undefined ? EXIT_CODES.usage : EXIT_CODES.ok;
  }
  const name = verb === '--version' ? 'version' : verb;
  try {
    const command = COMMANDS.find((candidate) => candidate.name === name);
    if (command === undefined) {
      throw usageError(`"${verb}" is not a command. There are ${COMMANDS.map((one) => one.name).join(', ')}.`);
    }
    if (rest.includes('--help') || rest.includes('-h')) {
      const help = typeof command.help === 'function' ? command.help(context) : command.help;
      await context.out(`${help ?? `fieldpost ${command.usage}\n    ${command.summary}`}\n`);
      return EXIT_CODES.ok;
    }
    return await command.run(rest, context);
  } catch (error) {
    context.err(`fieldpost ${name}: ${errorText(error)}\n`);
    if (isUsageFault(error)) return EXIT_CODES.usage;
    if (isGatewayError(error)) return ERROR_CATALOGUE[error.code].exit;
    context.err(`${error instanceof Error ? (error.stack ?? '') : ''}\n`);
    return EXIT_CODES.internal;
  }
}
