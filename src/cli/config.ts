// `fieldpost config …`: generations of the running gateway, and changes with trial and revert.

import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { parseArgs } from 'node:util';
import { connectControl, type RemoteConfig } from '../admin/control-client.ts';
import { errorText, EXIT_CODES, GatewayError } from '../core/errors.ts';
import { gatewayFiles, splitFileOptions, usageError, type Command, type CommandContext } from './command.ts';

const USAGE =
  'config list | show [N] | apply FILE [--base N] [--confirm-within SECS] | confirm N | revert N [--data DIR]';

function generationNumber(text: string | undefined): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw usageError('Name the number of a generation, as `config list` prints it.');
  return number;
}

async function apply(
  config: RemoteConfig,
  file: string | undefined,
  values: { base?: string | undefined; 'confirm-within'?: string | undefined },
): Promise<string> {
  if (file === undefined) throw usageError('config apply takes a file.');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new GatewayError('GW_CONFIG_IO', `${file} cannot be read: ${errorText(error)}.`, { cause: error });
  }
  const trial = values['confirm-within'];
  const trialSecs = trial === undefined ? undefined : Number(trial);
  if (trialSecs !== undefined && !(trialSecs >= 1)) throw usageError('--confirm-within takes seconds, at least 1.');
  // Without --base the change is made from what runs now: whoever calls has no older state in mind.
  const base = values.base === undefined ? (await config.view()).generation : generationNumber(values.base);
  const change = { text, file, base, actor: `cli:${userInfo().username}` };
  const { number, state } = await config.propose(trialSecs === undefined ? change : { ...change, trialSecs });
  const advice =
    state === 'trial' ? ` It is taken back in ${trialSecs} s unless you run: fieldpost config confirm ${number}` : '';
  return `Generation ${number} is in use (${state}).${advice}\n`;
}

async function list(config: RemoteConfig): Promise<string> {
  const lines = (await config.generations()).map(
    ({ number, state, actor, at, base = 0 }) =>
      `${String(number).padStart(6)}  ${state.padEnd(10)}  ${at}  from ${base}  ${actor}\n`,
  );
  return lines.join('');
}

async function run(args: readonly string[], { env, out }: CommandContext): Promise<number> {
  const { files, rest: verbArgs } = splitFileOptions(args);
  const { values, positionals } = parseArgs({
    args: [...verbArgs],
    options: { base: { type: 'string' }, 'confirm-within': { type: 'string' } },
    allowPositionals: true,
  });
  const [verb, operand, ...rest] = positionals;
  if (verb === undefined || rest.length > 0) throw usageError(`Usage: fieldpost ${USAGE}`);
  const { config } = await connectControl(gatewayFiles(files, env).controlSocket);
  const actor = `cli:${userInfo().username}`;
  switch (verb) {
    case 'list':
      await out(await list(config));
      return EXIT_CODES.ok;
    case 'show': {
      const number = operand === undefined ? (await config.view()).generation : generationNumber(operand);
      await out(await config.read(number));
      return EXIT_CODES.ok;
    }
    case 'apply':
      await out(await apply(config, operand, values));
      return EXIT_CODES.ok;
    case 'confirm':
      await config.confirm(generationNumber(operand), actor);
      await out(`Generation ${operand} is kept.\n`);
      return EXIT_CODES.ok;
    case 'revert':
      await config.revert(generationNumber(operand), actor);
      await out(`Generation ${operand} is taken back.\n`);
      return EXIT_CODES.ok;
    default:
      throw usageError(`"${verb}" is not a verb of config. Usage: fieldpost ${USAGE}`);
  }
}

export const configCommand: Command = {
  name: 'config',
  usage: USAGE,
  summary: 'Lists, shows, applies, confirms and takes back generations of the running gateway.',
  run,
};
