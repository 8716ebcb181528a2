// test/sim/proton-peer.py as the peer of a test.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { freePort } from './free-port.ts';
import { waitFor } from './wait.ts';

export interface PeerLine {
  readonly event: string;
  readonly address?: string;
  readonly id?: string;
  readonly body?: string;
  readonly outcome?: string;
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly [name: string]: unknown;
}

export interface ProtonPeer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly lines: readonly PeerLine[];
  /** Those of one kind, of one address where that is given. */
  of(event: string, address?: string): readonly PeerLine[];
  /** Tells it something; see there. */
  say(line: string): void;
}

const SCRIPT = join(import.meta.dirname, '..', 'sim', 'proton-peer.py');

export async function startProtonPeer(address: string): Promise<ProtonPeer> {
  const port = await freePort(address);
  // Debian's Python, which has the library.
  const child = spawn('/usr/bin/python3', [SCRIPT, address, String(port)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines: PeerLine[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => void lines.push(JSON.parse(line) as PeerLine));
  await waitFor(() => lines.length > 0 || child.exitCode !== null, { what: 'the peer to listen' });
  return {
    url: `amqp://${address}:${port}`,
    port,
    lines,
    of: (event, from) => lines.filter((line) => line.event === event && (from === undefined || line.address === from)),
    say: (line) => void child.stdin.write(`${line}\n`),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null) return;
      const closed = new Promise((resolve) => void child.once('close', resolve));
      child.kill('SIGKILL');
      await closed;
    },
  };
}
