// A TLS server that passes everything on to another one, and keeps what went each way: what an unmodified client says, as it says it.

import { connect as connectPlain, type Socket } from 'node:net';
import { connect, createServer } from 'node:tls';
import type { KeyPair } from './certificates.ts';

export interface TlsRecorderOptions {
  readonly address: string;
  readonly port: number;
  /** What it shows its clients. */
  readonly pair: KeyPair;
  /** Without an authority: no TLS on that side. */
  readonly target: { readonly host: string; readonly port: number; readonly ca?: string };
  /** Looks at what comes first on a connection, and ends that where it says no. */
  readonly admits?: (head: Buffer) => boolean;
}

/** What went over one connection. */
export interface Recording {
  /** What the client sent. */
  readonly up: () => Buffer;
  /** What it was sent. */
  readonly down: () => Buffer;
}

export interface TlsRecorder extends AsyncDisposable {
  readonly recordings: readonly Recording[];
}

export async function startTlsRecorder({
  address,
  port,
  pair,
  target,
  admits = () => true,
}: TlsRecorderOptions): Promise<TlsRecorder> {
  const recordings: Recording[] = [];
  const open = new Set<Socket>();
  const server = createServer({ cert: pair.certificate, key: pair.key }, (client) => {
    const onward = target.ca === undefined ? connectPlain(target) : connect({ ...target, servername: '' });
    const [up, down]: [Buffer[], Buffer[]] = [[], []];
    recordings.push({ up: () => Buffer.concat(up), down: () => Buffer.concat(down) });
    client.once('data', (head: Buffer) => {
      if (!admits(head)) client.destroy();
    });
    pass(client, onward, up);
    pass(onward, client, down);
  });

  function pass(from: Socket, to: Socket, kept: Buffer[]): void {
    open.add(from);
    from.on('data', (chunk: Buffer) => void kept.push(chunk));
    from.on('error', () => to.destroy());
    from.on('close', () => {
      open.delete(from);
      to.destroy();
    });
    from.pipe(to);
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return {
    recordings,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}
