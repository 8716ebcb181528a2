// Programs of the system, run to their end.

import { execFile } from 'node:child_process';

/** Resolves with what the program wrote; rejects, with its error output, when it fails. */
export function run(program: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, [...args], { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${error.message} ${stderr}`, { cause: error }));
    });
    if (input !== undefined) child.stdin?.end(input);
  });
}
