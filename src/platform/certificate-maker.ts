// Certificates are made in a process of its own (x509-process.ts): the library takes some 20 MB, which leave with the process,
// and the keys of RSA take time.

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { GatewayError } from '../core/errors.ts';
import type { MakerAnswer, MakerCalls } from './x509-process.ts';

/** Beside this file in the sources; an entry of its own in the bundle. */
const ENTRY = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './x509-process.ts' : './x509.mjs', import.meta.url),
);

/** See x509.ts. Each rejects with GatewayError GW_TLS. */
export interface CertificateMaker extends MakerCalls {
  /** Ends the process. */
  [Symbol.dispose](): void;
}

/** The process starts with the first call. One call at a time. */
export function createCertificateMaker(): CertificateMaker {
  let child: ChildProcess | undefined;

  async function call(name: keyof MakerCalls, args: readonly unknown[]): Promise<string> {
    const maker = (child ??= startProcess());
    const ended = new AbortController();
    maker.once('exit', () => ended.abort());
    try {
      // What cannot be sent, as the process has ended, is told by its end.
      maker.send({ name, args }, () => {});
      const [answer] = (await once(maker, 'message', { signal: ended.signal })) as [MakerAnswer];
      if ('made' in answer) return answer.made;
      throw new GatewayError('GW_TLS', `A certificate could not be made: ${answer.error}.`);
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      throw new GatewayError('GW_TLS', 'The process that makes certificates ended too early.', { cause: error });
    }
  }

  return {
    generateKey: (...args) => call('generateKey', args),
    issueAuthority: (...args) => call('issueAuthority', args),
    issueServer: (...args) => call('issueServer', args),
    [Symbol.dispose]: () => void child?.kill(),
  };
}

function startProcess(): ChildProcess {
  const child = fork(ENTRY, [], {
    // Flags of the gateway (heap size, inspector) are not for its child.
    execArgv: [],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  child.on('error', () => {});
  return child;
}
