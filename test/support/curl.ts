// curl against the hub of a test: requests as no SDK writes them, over TLS that is checked.

import { run } from './command.ts';
import { HTTPS_PORT, HUB_HOST_NAME, type HubDaemon } from './hub-daemon.ts';

export interface CurlAnswer {
  readonly status: number;
  /** The head as it came, with the spelling of the names. */
  readonly head: string;
  readonly header: (name: string) => string | undefined;
  readonly body: string;
}

/** @param path with its query. @param input what `--data-binary @-` takes. */
export async function curl(
  daemon: Pick<HubDaemon, 'address' | 'authorityPath'>,
  path: string,
  args: readonly string[] = [],
  input?: string,
): Promise<CurlAnswer> {
  const to = `${HUB_HOST_NAME}:${HTTPS_PORT}:${daemon.address}:${HTTPS_PORT}`;
  const shared = ['--silent', '--show-error', '--include', '--http1.1', '--max-time', '30', '--path-as-is'];
  const where = ['--cacert', daemon.authorityPath, '--connect-to', to, `https://${HUB_HOST_NAME}${path}`];
  // curl asks before it sends a large body; the answer to that is not the one that is wanted.
  const out = await run('curl', [...shared, '--header', 'Expect:', ...args, ...where], input);
  const end = out.indexOf('\r\n\r\n');
  const head = out.slice(0, end);
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    head,
    header: (name) => new RegExp(`^${name}: (.*)$`, 'im').exec(head)?.[1]?.trim(),
    body: out.slice(end + 4),
  };
}
