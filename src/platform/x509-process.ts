// Entry of the process that makes certificates; certificate-maker.ts starts it and asks it over IPC. Ends with the one who asks.

import { errorText } from '../core/errors.ts';
import { generateKey, issueAuthority, issueServer } from './x509.ts';

const CALLS = { generateKey, issueAuthority, issueServer };

export type MakerCalls = typeof CALLS;

export type MakerAnswer = { readonly made: string } | { readonly error: string };

interface Request {
  readonly name: keyof MakerCalls;
  readonly args: readonly unknown[];
}

process.on('message', ({ name, args }: Request) => {
  const make = CALLS[name] as (...args: readonly unknown[]) => Promise<string>;
  void make(...args)
    .then(
      (made): MakerAnswer => ({ made }),
      (error: unknown): MakerAnswer => ({ error: errorText(error) }),
    )
    .then((answer) => process.send?.(answer));
});
process.on('disconnect', () => process.exit());
