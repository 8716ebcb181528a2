// `fieldpost hash-password`: the salted hash of a password for the configuration, so that no clear one need stand there.

import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { EXIT_CODES } from '../core/errors.ts';
import { hashPassword } from '../platform/password.ts';
import { usageError, type Command } from './command.ts';

/** One line of standard input; what is typed at a terminal is not shown. Undefined: the input ended, or Ctrl+C. */
function readSecretLine(): Promise<string | undefined> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: process.stdin.isTTY });
  return new Promise((resolve) => {
    lines.once('line', (line) => {
      resolve(line);
      lines.close();
    });
    lines.once('SIGINT', () => lines.close());
    lines.once('close', () => resolve(undefined));
  });
}

export const hashPasswordCommand: Command = {
  name: 'hash-password',
  usage: 'hash-password',
  summary:
    'Reads a password, one line of standard input, and prints its salted hash, for `password_hash` in a configuration.',
  async run(args, { out, err }) {
    // An argument would stand in the list of processes and in the history of the shell.
    if (args.length > 0)
      throw usageError('hash-password takes no argument: it reads the password from standard input.');
    if (process.stdin.isTTY) err('Password: ');
    const password = await readSecretLine();
    if (process.stdin.isTTY) err('\n');
    if (password === undefined || password === '') throw usageError('there is no password: the line is empty.');
    await out(`${await hashPassword(password)}\n`);
    return EXIT_CODES.ok;
  },
};
